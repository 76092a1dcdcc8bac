"""What notifications decides: whether, when and on which channel something is said."""
