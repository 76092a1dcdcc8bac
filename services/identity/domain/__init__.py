"""What identity decides: what an event says, whom it is about, and what follows for that customer."""
