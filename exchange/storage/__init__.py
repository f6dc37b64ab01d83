"""Databases and transactions, on SQLite and PostgreSQL alike."""
