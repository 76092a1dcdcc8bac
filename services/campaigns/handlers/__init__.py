"""What campaigns does with what it hears."""
