"""The command line and everything that starts the whole system."""
