"""Grants: who may ask for what, and how they decide a call."""
