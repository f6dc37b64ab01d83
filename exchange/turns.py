"""What one turn of the event loop brings, done together.

A signature, a write to a socket, a line on disk cost about as much for twenty as for one, so they are done once for all
that a turn brings. But nothing must wait for the last of a long turn: while it does, the processes up and down the path
stand idle, and four of them are as slow as one. So a group leaves when the turn ends, or as soon as it is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

MOST = 64
"""Members of a group: larger ones share more work, smaller ones keep more processes busy (docs/decisions/0012)."""

T = TypeVar("T")


class Gathering(Generic[T]):
    """Hands over what is added during a turn of the event loop, in order, at most `most` at a time.

    Args:
        handle: Called with each group. It must not raise: nobody would hear of it but the loop's exception handler.
    """

    __slots__ = ("_handle", "_most", "_waiting")

    def __init__(self, handle: Callable[[list[T]], None], most: int = MOST) -> None:
        self._handle = handle
        self._most = most
        self._waiting: list[T] = []

    def add(self, one: T, *, alone: bool = False) -> None:
        """Add one; it is handed over before this returns if it fills the group, or is alone.

        Args:
            alone: Whether no other can follow within this turn: then there is nothing to wait for.
        """
        waiting = self._waiting
        waiting.append(one)
        if alone or len(waiting) >= self._most:
            self.hand_over()
        elif len(waiting) == 1:
            asyncio.get_running_loop().call_soon(self.hand_over)

    def hand_over(self) -> None:
        """Hand over now what there is."""
        waiting = self._waiting
        if waiting:
            self._waiting = []
            self._handle(waiting)
