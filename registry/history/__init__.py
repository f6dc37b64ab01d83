"""The registry as it was: its record of changes, and what follows from it."""
