"""What segmentation keeps in MongoDB: the read model of scores, and the models that were fitted."""
