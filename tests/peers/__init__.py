"""Ours against what others publish; needs `make peers`."""
