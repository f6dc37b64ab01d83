"""Trying an adapter before it serves: sample calls, what its answers hold, generated requests. Nothing is written anywhere."""
