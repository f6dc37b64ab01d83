"""The one error of the benchmarks: something is missing or did not start. A slow result is never an error."""


class BenchError(Exception):
    """The run cannot go on; `str(error)` tells the reader what to do."""
