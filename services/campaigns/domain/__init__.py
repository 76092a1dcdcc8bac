"""What campaigns decides, without reading a clock, a database or a topic."""
