"""What segmentation decides: rows, scores and segments; arrays in, arrays out."""
