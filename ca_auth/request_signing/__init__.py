"""Requests that their caller signed (RFC 9421)."""
