"""Contracts and plumbing that the services share; never a business rule."""
