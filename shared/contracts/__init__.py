"""Every event that crosses a service boundary, and the map of who says what to whom."""
