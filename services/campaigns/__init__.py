"""What we do about it, and whether it paid."""
