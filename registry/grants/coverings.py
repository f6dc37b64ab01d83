"""Grants ready to be compared with calls, and found among thousands of them. Pure.

Rules:
1. Which of several grants permits a call is settled beforehand, by their order: one that demands no signature before one
   that does, one that releases everything before one that does not, one without a quota before one with, then the newest.
2. Up to `FEW` are compared one by one. More are found by purpose, by method, and by the shape of their path: how many
   segments, and which of them are literal. A call is compared with each shape there is, and they are few.
3. What is found may still not cover the call; what covers it is always found, and comes in the order of rule 1.
4. A set of coverings never changes. `with_changes` makes the next one, and touches only what differs.
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from registry.grants.cases import compile_case_pattern
from registry.patterns import PathPattern, compile_pattern
from registry.records import Access, Grant

FEW = 8

_rank = attrgetter("rank")
_Rank = tuple[bool, bool, bool, int, str]


@dataclass(frozen=True, slots=True, eq=False)
class Covering:
    """A grant, or what a grant of a resource comes to where the resource is to be had."""

    method: str | None
    pattern: PathPattern
    also: PathPattern | None
    """A second pattern that the path must match: what is granted of the resource, where the access says less."""
    valid_from: float
    valid_to: float
    purposes: tuple[str, ...]
    case: re.Pattern[str] | None
    rank: _Rank
    grant: Grant

    @classmethod
    def of(cls, grant: Grant, access: Access | None = None) -> Covering | None:
        """A grant as it is, or at one access of its resource; None when their methods do not meet."""
        methods = {grant.method, access.method if access else "*"} - {"*"}
        if len(methods) > 1:
            return None
        paths = {grant.path, access.path if access else grant.path}
        pattern, *others = sorted(map(compile_pattern, paths), key=attrgetter("specificity"))
        return cls(
            methods.pop() if methods else None,
            pattern,
            next((each for each in others if not each.matches_all), None),
            grant.valid_from.timestamp(),
            grant.valid_to.timestamp(),
            grant.purposes,
            compile_case_pattern(grant.case_pattern),
            rank_of(grant),
            grant,
        )

    def covers(self, method: str, segments: tuple[str, ...], path: str) -> bool:
        """Whether method and path fit; time, purpose and case are the caller's to compare."""
        return (
            (self.method is None or self.method == method)
            and self.pattern.matches(segments, path)
            and (self.also is None or self.also.matches(segments, path))
        )

    @property
    def extent(self) -> str:
        """Method and path as people write them."""
        also = f" within {self.also.text}" if self.also else ""
        return f"{self.method or '*'} {self.pattern.text}{also}"


def rank_of(grant: Grant) -> _Rank:
    """Sorts the grant that is chosen first to the front (rule 1)."""
    has_quota = bool(grant.quota_per_second or grant.quota_per_day)
    return grant.signed_requests, bool(grant.release), has_quota, -grant.version, grant.id


class _Shape(NamedTuple):
    """What a path must be like: its number of segments (more, when `open_ended`), and which of them are looked up."""

    length: int
    open_ended: bool
    literal: tuple[int, ...]


_ANY_SHAPE = _Shape(-1, True, ())
_Group = tuple[str | None, str | None]
"""Purpose and method. Each covering stands under its purposes and, for calls that name none, under None."""
_Cell = tuple[_Group, _Shape, tuple[str | None, ...]]


class Coverings:
    """Coverings in their order, with an index when they are many."""

    __slots__ = ("_cells", "_shapes", "ranked")

    ranked: tuple[Covering, ...]
    _shapes: Mapping[_Group, tuple[_Shape, ...]]
    _cells: Mapping[_Cell, tuple[Covering, ...]] | None

    @classmethod
    def of(cls, coverings: Iterable[Covering]) -> Coverings:
        self = cls()
        self.ranked, self._shapes, self._cells = (), {}, None
        return self.with_changes((), coverings)

    @property
    def is_indexed(self) -> bool:
        return self._cells is not None

    def with_changes(self, gone: Iterable[str], added: Iterable[Covering]) -> Coverings:
        """These without those of the grants `gone`, and with `added`."""
        ended, arriving = set(gone), tuple(added)
        leaving = [each for each in self.ranked if each.grant.id in ended] if ended else []
        staying = [each for each in self.ranked if each.grant.id not in ended] if leaving else self.ranked
        new = type(self)()
        new.ranked = _merged(staying, arriving)
        new._shapes, new._cells = self._shapes, self._cells
        if self._cells is not None:
            new._index(leaving, arriving)
        elif len(new.ranked) > FEW:
            new._index((), new.ranked)
        return new

    def candidates(self, purpose: str | None, method: str, segments: tuple[str, ...]) -> Sequence[Covering]:
        """Every covering that may cover the call, in their order."""
        cells = self._cells
        if cells is None:
            return self.ranked
        count = len(segments)
        found: list[tuple[Covering, ...]] = []
        for asked in (method, None):
            group = purpose, asked
            for shape in self._shapes.get(group, ()):
                length, open_ended, literal = shape
                if count > length if open_ended else count == length:
                    cell = cells.get((group, shape, tuple([segments[position] for position in literal])))
                    if cell is not None:
                        found.append(cell)
        return found[0] if len(found) == 1 else sorted(chain.from_iterable(found), key=_rank)

    def _index(self, leaving: Iterable[Covering], arriving: Iterable[Covering]) -> None:
        touched: dict[_Cell, list[Covering]] = {}
        cells, shapes = dict(self._cells or {}), dict(self._shapes)

        def cell(key: _Cell) -> list[Covering]:
            if key not in touched:
                touched[key] = list(cells.get(key, ()))
            return touched[key]

        for covering in leaving:
            for key in _cells_of(covering):
                cell(key).remove(covering)
        for covering in arriving:
            for key in _cells_of(covering):
                cell(key).append(covering)
                known = shapes.get(key[0], ())
                if key[1] not in known:
                    shapes[key[0]] = (*known, key[1])
        for key, held in touched.items():
            cells[key] = tuple(sorted(held, key=_rank))
        self._cells, self._shapes = cells, shapes


def _merged(ranked: Sequence[Covering], arriving: Sequence[Covering]) -> tuple[Covering, ...]:
    """All of them in their order."""
    if len(arriving) * 10 > len(ranked):
        return tuple(sorted((*ranked, *arriving), key=_rank))
    merged = list(ranked)
    for each in arriving:  # a few among many: to compare all again would take longer than all the rest
        insort(merged, each, key=_rank)
    return tuple(merged)


def _cells_of(covering: Covering) -> Iterator[_Cell]:
    template = covering.pattern.template
    shape, literal = _ANY_SHAPE, tuple[str | None, ...]()
    if template is not None:
        positions = tuple(position for position, segment in enumerate(template) if segment is not None)
        shape = _Shape(len(template), covering.pattern.open_ended, positions)
        literal = tuple(template[position] for position in positions)
    for purpose in (None, *dict.fromkeys(covering.purposes)):
        yield (purpose, covering.method), shape, literal
