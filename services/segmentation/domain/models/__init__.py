"""The statistics: who buys again, how much, and who belongs to the few that bring the most."""
