"""The demo: a real shop's history through the whole system, and what a retailer wants to know afterwards."""
