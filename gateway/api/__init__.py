"""The management API under /v1: a module for each noun, and what they share."""
