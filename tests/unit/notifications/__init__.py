"""Tests of the pure parts of notifications."""
