"""Finding resources by words, Chinese and English, in the database itself: the same results on SQLite and PostgreSQL.

Rules:
1. Every word must be found: in the name, an item's name or path, a theme or keyword, the abstract, the code, the classification,
   or the name of the department. Filters narrow further.
2. A name counts more than an item, an item more than a theme, a department or an abstract, for each word by itself; a name
   that is just what was typed comes first. What counts the same is in the order of codes.
3. When nothing holds every word, names that share enough two-character pieces with them are shown instead, or else items that
   do, and are said to be no more than close.
4. A page goes on after the last resource of the one before, by count and code, so nothing is shown twice or left out because
   of what was published meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange import InvalidRequestError, SubsystemId, member_of
from registry.actors import Actor
from registry.catalogue.resource import Department, ResourceState, SharingClass, SharingMode
from registry.catalogue.store import load_departments, may_see_drafts
from registry.catalogue.tables import resource_index
from registry.catalogue.words import MOST_WORDS, normal, pieces_of, words_of
from registry.records import Level
from registry.tables import members, subsystems

Match = Literal["exact", "close-name", "close-item"]
MATCHES: Final[tuple[Match, ...]] = get_args(Match)
"""How resources were found, in the order it is tried: all words, or else something like them in a name, or in an item's."""
Position = tuple[Match, int, str]
"""How the last resource of a page was found: the kind of match, its count, its code."""

_WHOLE_NAME: Final = 16
_NAME, _ITEM, _REST = 8, 4, 1
_Contains = Callable[[sa.ColumnElement[str], str], sa.ColumnElement[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSearch:
    """What to look for; what is left empty means any."""

    words: str = ""
    department: str = ""
    """An identifier of a member or subsystem, or words of a name."""
    theme: str = ""
    item: str = ""
    sharing_class: SharingClass | Literal[""] = ""
    division: str = ""
    """GB/T 2260: 450100 finds all of 4501xx."""
    level: Level = ""
    mode: SharingMode | Literal[""] = ""
    state: ResourceState = "published"
    after: Position | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundResource:
    """A line of a list of resources."""

    code: str
    name: str
    name_en: str
    department: Department
    sharing_class: SharingClass
    mode: SharingMode
    level: Level
    division: str
    state: ResourceState
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundResources:
    """A page of them."""

    resources: tuple[FoundResource, ...]
    match: Match
    """Not `exact`: nothing held every word, and these come near."""
    next: Position | None
    """After which to go on; None at the end."""


async def search_resources(connection: AsyncConnection, search: ResourceSearch, actor: Actor) -> FoundResources:
    """One page of what the search finds and the actor may see; drafts only those of providers it may describe.

    Raises:
        InvalidRequestError: More words than `MOST_WORDS`.
    """
    words = words_of(search.words)
    if len(words) > MOST_WORDS:
        raise InvalidRequestError(
            "search-words",
            problem=f"A search has at most {MOST_WORDS} words.",
            problem_zh=f"检索词最多 {MOST_WORDS} 个。",
        )
    contains = _contains(connection.dialect.name)
    condition = sa.and_(*_filters(search, actor, contains))
    pieces = pieces_of(words)
    for match in MATCHES[MATCHES.index(search.after[0]) if search.after else 0 :]:
        if match == "exact":
            found = [sa.or_(*_places(word, contains)) for word in words]
            count, least = _count(words, normal(search.words), contains), 0
        elif pieces:
            column = resource_index.c.names if match == "close-name" else resource_index.c.item_names
            # A third of the pieces, and one at least.
            found, count, least = [], _held(pieces, column, contains), max(1, -(-len(pieces) // 3))
        else:
            break
        page = await _page(connection, sa.and_(condition, *found), count, search, match, least)
        if page.resources or search.after:
            return page
    return FoundResources(resources=(), match="exact", next=None)


async def _page(
    connection: AsyncConnection,
    condition: sa.ColumnElement[bool],
    count: sa.ColumnElement[int],
    search: ResourceSearch,
    match: Match,
    least: int,
) -> FoundResources:
    counted = sa.select(resource_index.c.code, count.label("counted")).where(condition).subquery("found")
    # PostgreSQL's own order depends on the locale of the database; SQLite's is that of bytes.
    code = sa.collate(counted.c.code, "C") if connection.dialect.name == "postgresql" else counted.c.code
    best = sa.select(counted).order_by(counted.c.counted.desc(), code).limit(search.limit + 1)
    best = best.where(counted.c.counted >= least)
    if search.after is not None:
        _, reached, last = search.after
        best = best.where(sa.or_(counted.c.counted < reached, sa.and_(counted.c.counted == reached, code > last)))
    # Only what is shown is read whole: contents are long, and many more are sorted.
    order = [(row.code, row.counted) for row in await connection.execute(best)]
    shown = order[: search.limit]
    columns = [resource_index.c[name] for name in _SHOWN]
    query = sa.select(*columns).where(resource_index.c.code.in_([code for code, _ in shown]))
    rows = {row["code"]: row for row in (await connection.execute(query)).mappings()}
    departments = await load_departments(connection, [row["provider"] for row in rows.values()])
    return FoundResources(
        resources=tuple(_found(rows[code], departments) for code, _ in shown),
        match=match,
        next=(match, shown[-1][1], shown[-1][0]) if len(order) > search.limit else None,
    )


_SHOWN: Final = (
    "code",
    "provider",
    "state",
    "number",
    "name",
    "name_en",
    "sharing_class",
    "mode",
    "level",
    "division",
)


def _found(row: sa.RowMapping, departments: Mapping[str, Department]) -> FoundResource:
    values = {name: row[name] for name in _SHOWN if name != "provider"}
    return FoundResource(**values, department=departments[row["provider"]])


def _contains(dialect: str) -> _Contains:
    """Whether a text holds another, byte by byte, without wildcards that would have to be escaped."""
    position = sa.func.strpos if dialect == "postgresql" else sa.func.instr
    return lambda column, text: position(column, text) > 0


def _places(word: str, contains: _Contains) -> list[sa.ColumnElement[bool]]:
    """Where a word may stand, the short texts first."""
    texts = resource_index.c
    return [
        contains(texts.names, word),
        contains(texts.item_names, word),
        contains(texts.themes, word),
        contains(texts.rest, word),
        resource_index.c.provider.in_(_departments(word, contains)),
    ]


def _count(words: Sequence[str], whole: str, contains: _Contains) -> sa.ColumnElement[int]:
    total: sa.ColumnElement[int] = sa.literal(0)
    for word in words:
        in_name, in_item, *_ = _places(word, contains)
        total = total + sa.case((in_name, _NAME), (in_item, _ITEM), else_=_REST)
    if words:
        total = total + sa.case((contains(resource_index.c.names, f"\n{whole}\n"), _WHOLE_NAME), else_=0)
    return total


def _held(pieces: Sequence[str], column: sa.ColumnElement[str], contains: _Contains) -> sa.ColumnElement[int]:
    """How many of the pieces a text holds."""
    total: sa.ColumnElement[int] = sa.literal(0)
    for piece in pieces:
        total = total + sa.case((contains(column, piece), 1), else_=0)
    return total


def _departments(word: str, contains: _Contains) -> sa.Select[tuple[str]]:
    """Subsystems whose name, or whose member's name, holds a word.

    These names are stored as they are written; full-width brackets are what they have that words here have not.
    """
    named = [
        contains(sa.func.replace(sa.func.replace(sa.func.lower(column), "（", "("), "）", ")"), word)
        for column in (members.c.name, members.c.name_en, subsystems.c.name, subsystems.c.name_en)
    ]
    joined = subsystems.join(members, members.c.id == subsystems.c.member)
    return sa.select(subsystems.c.id).select_from(joined).where(sa.or_(*named))


def _filters(search: ResourceSearch, actor: Actor, contains: _Contains) -> list[sa.ColumnElement[bool]]:
    found = [resource_index.c.state == search.state]
    if search.state != "published":
        found.append(_visible(search.state, actor))
    for column, value in (
        (resource_index.c.sharing_class, search.sharing_class),
        (resource_index.c.level, search.level),
        (resource_index.c.mode, search.mode),
    ):
        if value:
            found.append(column == value)
    if search.division:
        found.append(resource_index.c.division.like(_division_prefix(search.division) + "%"))
    if "/" in search.department:
        found.append(sa.or_(*below(resource_index.c.provider, search.department)))
    else:
        found += [resource_index.c.provider.in_(_departments(word, contains)) for word in words_of(search.department)]
    found += [contains(resource_index.c.themes, word) for word in words_of(search.theme)]
    found += [contains(resource_index.c.item_names, word) for word in words_of(search.item)]
    return found


def _visible(state: ResourceState, actor: Actor) -> sa.ColumnElement[bool]:
    """Withdrawn resources that were in force are everybody's to see; what never was, only its provider's."""
    if actor.holds("operator", "auditor"):
        return sa.true()
    was_in_force = resource_index.c.number > 0
    if actor.subsystem is None or not may_see_drafts(actor, actor.subsystem):
        return was_in_force
    return sa.or_(was_in_force, *below(resource_index.c.provider, member_of(SubsystemId(actor.subsystem))))


def below(column: sa.ColumnElement[str], identifier: str) -> list[sa.ColumnElement[bool]]:
    """The identifier itself, and those that go on after it."""
    return [column == identifier, sa.func.substr(column, 1, len(identifier) + 1) == f"{identifier}/"]


def _division_prefix(division: str) -> str:
    """The digits that all divisions within this one begin with."""
    digits = "".join(character for character in division if character.isdecimal() and character.isascii())
    while digits.endswith("00") and len(digits) % 2 == 0:
        digits = digits[:-2]
    return digits


def read_position(match: str, count: int, code: str) -> Position:
    """A position as a cursor brings it back; raises ValueError if it is none."""
    for known in MATCHES:
        if match == known:
            return known, count, code
    raise ValueError(f"{match!r} is no kind of match")


def found_document(found: FoundResource) -> dict[str, Any]:
    """A line of a list as JSON."""
    return {
        "code": found.code,
        "name": found.name,
        "name_en": found.name_en,
        "provider": found.department.subsystem,
        "department": {
            "name": found.department.name,
            "name_en": found.department.name_en,
            "subsystem_name": found.department.subsystem_name,
            "uscc": found.department.uscc,
        },
        "sharing_class": found.sharing_class,
        "mode": found.mode,
        "level": found.level,
        "division": found.division,
        "state": found.state,
        "version": found.number,
    }
