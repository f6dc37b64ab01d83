"""The order in which targets are visited."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from benchmarks.targets import Target

_T = TypeVar("_T")

WARM_UP = -1
"""Number of the round that is run first and not counted."""


def visits(targets: Sequence[Target], loads: Sequence[int], *, rounds: int) -> Iterator[tuple[int, int, Target]]:
    """Round, load and target of every run: a warm-up round, then `rounds` counted ones.

    Each round visits every target under every load. The order of targets moves on by one from round to round, so that
    no target always follows the same neighbour.
    """
    for number in range(WARM_UP, rounds):
        for load in loads:
            for target in rotated(targets, number):
                yield number, load, target


def rotated(targets: Sequence[_T], by: int) -> list[_T]:
    """`targets`, beginning with the one at `by`, counted around."""
    start = by % len(targets) if targets else 0
    return [*targets[start:], *targets[:start]]
