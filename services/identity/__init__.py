"""Who is this, may we contact them, and what happened."""
