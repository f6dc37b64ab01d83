"""Measures the mesh next to its peers on one machine: `python -m benchmarks`, or `make bench`. See README.md beside this file."""
