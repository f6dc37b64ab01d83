"""One line for each run while it goes on, on standard error, so that standard output holds only the report."""

import sys

from benchmarks.samples import Sample


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def say_sample(sample: Sample) -> None:
    """The figures of one run as they come in; a warm-up is marked as such."""
    figures = "  ".join(f"{name} {value:.6g}" for name, value in sample.figures.items())
    faults = "".join(f"  FAULT {count} x {kind}" for kind, count in sample.faults.items() if count)
    when = "warm-up" if sample.round < 0 else f"round {sample.round + 1}"
    say(f"{sample.part:10} {when:8} load {sample.load:<5} {sample.target:17} {figures}{faults}")
