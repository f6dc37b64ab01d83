"""A small issuing CA, and a department's way to its certificates."""
