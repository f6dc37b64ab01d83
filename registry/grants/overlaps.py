"""Whether two path patterns cover a common path, and whether two grants cover a common call. Pure.

Rules:
1. Two patterns overlap when some path matches both. This is decided exactly, by walking both at once, and a common path
   comes out as the proof.
2. One thing errs, towards overlap: the common path may hold a segment of dots alone, which no request has.
3. Grants overlap when they are of the same subject for the same service or resource, and validity, purposes, methods and
   paths all meet. What a group is given, and what is given to a subsystem in it, do not count as overlapping: members come
   and go, and what is special may be said beside what is general.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from registry.patterns import ANY, LITERAL, NAME, PathPattern, compile_pattern, tokens_of
from registry.records import Grant

_WITHIN, _EVERY = "[^/]", "any"  # what a wildcard takes; a literal is one character, so they are not taken for one
_FREE = "x"
"""What a proof has where both patterns leave the character free."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What a pattern takes next: one character of these, or with `loop` any number of them."""

    takes: str
    loop: bool = False

    def fits(self, character: str) -> bool:
        return self.takes in (character, _EVERY) or (self.takes == _WITHIN and character != "/")


_Place = tuple[int, int, bool]
"""How far each pattern was walked, and whether anything was taken yet: what is taken first is a path's slash."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Another grant that covers a call which a new one would cover, and such a call."""

    other: Grant
    purpose: str
    method: str
    path: str


def common_path(left: PathPattern, right: PathPattern) -> str | None:
    """Return a path that both patterns match, or None if there is none."""
    return _walked(_steps(left.text), _steps(right.text))


def overlap_of(grant: Grant, others: Iterable[Grant]) -> Overlap | None:
    """The first of `others` that covers a call `grant` would cover; they are of its subject, for what it is for."""
    pattern = compile_pattern(grant.path)
    for other in others:
        if other.valid_from >= grant.valid_to or grant.valid_from >= other.valid_to:
            continue
        if "*" not in (grant.method, other.method) and grant.method != other.method:
            continue
        shared = [purpose for purpose in grant.purposes if purpose in other.purposes]
        path = common_path(pattern, compile_pattern(other.path)) if shared else None
        if path is not None:
            return Overlap(other, shared[0], other.method if grant.method == "*" else grant.method, path)
    return None


def _steps(text: str) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    for kind, value in tokens_of(text):
        if kind == LITERAL:
            steps += map(_Step, value)
        elif kind == NAME:
            steps += (_Step(_WITHIN), _Step(_WITHIN, loop=True))
        else:
            steps.append(_Step(_EVERY if kind == ANY else _WITHIN, loop=True))
    return tuple(steps)


def _walked(left: tuple[_Step, ...], right: tuple[_Step, ...]) -> str | None:
    """A path that takes both to their ends. There are no more places than the product of their lengths, twice."""
    start: _Place = (0, 0, False)
    came_from: dict[_Place, tuple[_Place, str]] = {}
    waiting = deque([start])
    while waiting:
        place = waiting.popleft()
        if place == (len(left), len(right), True):
            return _spelled(came_from, start, place)
        for following, character in _moves(left, right, place):
            if following not in came_from and following != start:
                came_from[following] = place, character
                # What takes no character goes first, so that the path is a short one.
                (waiting.append if character else waiting.appendleft)(following)
    return None


def _moves(left: tuple[_Step, ...], right: tuple[_Step, ...], place: _Place) -> Iterator[tuple[_Place, str]]:
    i, j, begun = place
    one = left[i] if i < len(left) else None
    two = right[j] if j < len(right) else None
    if one is not None and one.loop:
        yield (i + 1, j, begun), ""
    if two is not None and two.loop:
        yield (i, j + 1, begun), ""
    if one is None or two is None:
        return
    character = "/" if not begun else next((each.takes for each in (one, two) if len(each.takes) == 1), _FREE)
    if one.fits(character) and two.fits(character):
        yield (i if one.loop else i + 1, j if two.loop else j + 1, True), character


def _spelled(came_from: dict[_Place, tuple[_Place, str]], start: _Place, place: _Place) -> str:
    characters = ""
    while place != start:
        place, character = came_from[place]
        characters = character + characters
    return characters
