"""Notifications: how and when we say it."""
