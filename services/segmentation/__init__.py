"""What customers are worth, what they need, and who is leaving."""
