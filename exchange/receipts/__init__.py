"""Receipts: one entry with the proof that it is in the log, verified offline."""
