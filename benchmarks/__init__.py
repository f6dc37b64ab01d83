"""Measures the mesh next to its peers on one machine: `python -m benchmarks`, or `make bench`; see README.md here."""
