"""Where in a TOML text a value stands, so that an error can name the line. Pure, and good enough for people's files.

`tomllib` returns values without positions. This follows the headers of tables and arrays of tables, and the keys below
them; a header inside a multi-line string would mislead it, and then no line or a wrong one is named, nothing worse.
"""

from __future__ import annotations

import re

Location = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[{1,2})\s*([^\]]+?)\s*\]{1,2}\s*(#.*)?$")
_KEY = re.compile(r"^\s*\"?([A-Za-z0-9_-]+)\"?\s*=")


def line_of(text: str, location: Location) -> int | None:
    """The line (from 1) of the deepest part of `location` that can be found, None when not even its table is."""
    best: tuple[int, int] | None = None  # how many parts were found, and the line
    counts: dict[tuple[str | int, ...], int] = {}
    table: Location = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        key = _KEY.match(line)
        if header:
            table = _table(header[2].split("."), header[1] == "[[", counts)
            found = table
        elif key:
            found = (*table, key[1])
        else:
            continue
        if found == location[: len(found)] and (best is None or len(found) > best[0]):
            best = (len(found), number)
    return best[1] if best else None


def _table(names: list[str], array: bool, counts: dict[tuple[str | int, ...], int]) -> Location:
    """The location a header opens: names of arrays of tables are followed by the index of their newest entry."""
    place: Location = ()
    for position, name in enumerate(names):
        place = (*place, name.strip().strip('"'))
        if array and position == len(names) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def written(location: Location) -> str:
    """A location as people write it: `members[0].subsystems[1].roles`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
