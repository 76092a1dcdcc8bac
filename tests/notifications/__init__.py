"""Tests of notifications that need a database and a mail server."""
