"""Migrations of the exchange log's tables, run by `exchange.storage.database.upgrade`."""
