"""Who may ask what: API keys, the scope of each route, rate limits, and the log of who read or changed personal data."""
