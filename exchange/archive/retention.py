"""How long records are kept: classes, and which class a record is of.

Rules:
1. The first class whose `match` fits decides; what fits none is of the class `default`, three years.
2. Nothing is kept for less than six months, whatever a file says. Changes of the registry and records of removals are kept for
   ever: the registry's history is compared with the former, and the latter say why entries are missing.
3. A period is counted in calendar months or in days from the time of the record, and is over when as much time has passed in full.
4. A class says what may be removed, not what is: removing is a command of its own, of what is archived, with a record of it
   (`exchange.archive.pruning`).
"""

from __future__ import annotations

import json
import re
from calendar import monthrange
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from exchange.log.change_record import CHANGE
from exchange.log.log_event import KINDS
from exchange.log.reader import StoredEntry
from exchange.toml_files import read_toml

RULE: Final = "retention-classes"
LEAST_MONTHS: Final = 6
LEAST_DAYS: Final = 184
"""What six months are at most."""

_PERIOD: Final = re.compile(r"([1-9][0-9]{0,3})([ymd])")
_MOST_CLASSES: Final = 64
_Removable = Literal["exchange", "access"]


class PeriodError(ValueError):
    """It is no period, or too short a one; in English and Chinese."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.zh = zh


@dataclass(frozen=True, slots=True)
class Period:
    """How long something is kept: calendar months, or days; neither is for ever."""

    months: int = 0
    days: int = 0

    @classmethod
    def parse(cls, text: str) -> Period:
        """Read `3y`, `18m`, `400d` or `forever`; raises PeriodError for others, and for less than six months."""
        if text == "forever":
            return cls()
        found = _PERIOD.fullmatch(text)
        if found is None:
            raise PeriodError("write a period as 3y, 18m, 400d or forever", "期限应写作 3y、18m、400d 或 forever")
        count, unit = int(found[1]), found[2]
        period = cls(days=count) if unit == "d" else cls(months=count * 12 if unit == "y" else count)
        if 0 < period.months < LEAST_MONTHS or 0 < period.days < LEAST_DAYS:
            raise PeriodError(
                f"records are kept for six months ({LEAST_DAYS}d) at least; {text} is less",
                f"记录至少保存六个月（{LEAST_DAYS}d），{text} 过短",
            )
        return period

    def over(self, now: datetime) -> int:
        """Records from before this instant (unix ms) have been kept for so long at `now`; 0 if never."""
        if self.days:
            begun = now - timedelta(days=self.days)
        elif self.months:
            year, month = divmod(now.year * 12 + now.month - 1 - self.months, 12)
            if year < 1:
                return 0
            # There is no 31 September: what is of the last days of a month may be kept a few days longer, never shorter.
            begun = now.replace(year=year, month=month + 1, day=min(now.day, monthrange(year, month + 1)[1]))
        else:
            return 0
        return max(0, int(begun.timestamp() * 1000))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionClass:
    """Records that are kept for the same time. Empty collections match everything; patterns are those of `fnmatch`."""

    name: str
    keep: Period
    kinds: frozenset[str] = frozenset({"exchange"})
    outcomes: frozenset[str] = frozenset()
    clients: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    """Codes of errors told to the caller."""
    rules: tuple[str, ...] = ()
    """Rules that refused; for records of access, acts."""

    def matches(self, entry: StoredEntry) -> bool:
        """Whether a record is of this class."""
        if kind_of(entry) not in self.kinds or (self.outcomes and entry.outcome not in self.outcomes):
            return False
        if (
            not _fits(entry.rule, self.rules)
            or not _fits(entry.client, self.clients)
            or not _fits(entry.service, self.services)
        ):
            return False
        if not self.purposes and not self.codes:
            return True
        record = json.loads(entry.leaf)
        query = record.get("query", {})
        return _fits(query.get("purpose", ""), self.purposes) and _fits(record.get("code", ""), self.codes)


FOREVER: Final = RetentionClass(name="forever", keep=Period(), kinds=frozenset({CHANGE, "retention"}))
DEFAULT: Final = RetentionClass(name="default", keep=Period(months=36), kinds=frozenset({"exchange", "access"}))


@dataclass(frozen=True, slots=True)
class Retention:
    """The classes, in the order in which they are tried."""

    classes: tuple[RetentionClass, ...] = ()

    def class_of(self, entry: StoredEntry) -> RetentionClass:
        """The class of a record."""
        return next((each for each in (FOREVER, *self.classes) if each.matches(entry)), DEFAULT)

    def newest_over(self, now: datetime) -> int:
        """No record from this instant (unix ms) on can have been kept long enough."""
        return max(each.keep.over(now) for each in (*self.classes, DEFAULT))

    @classmethod
    def from_file(cls, path: Path) -> Retention:
        """Read `retention.toml`; raises UnprocessableError with the line and the key."""
        content, source = read_toml(path, _File, RULE)
        names: set[str] = {FOREVER.name}
        for number, each in enumerate(content.classes):
            if each.name in names:
                raise source.refuse(
                    RULE, ("class", number, "name"), f"the name {each.name} is taken.", f"名称 {each.name} 已被使用。"
                )
            names.add(each.name)
            try:
                Period.parse(each.keep)
            except PeriodError as error:
                raise source.refuse(RULE, ("class", number, "keep"), f"{error}.", f"{error.zh}。") from error
        return cls(tuple([each.read() for each in content.classes]))


def kind_of(entry: StoredEntry) -> str:
    """What an entry is the record of: exchange, change, access or retention."""
    return entry.outcome if entry.outcome in (CHANGE, *KINDS) else "exchange"


def _fits(text: str, patterns: Collection[str]) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Texts = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=400)]], BeforeValidator(_listed), Field(min_length=1)
]


class _Match(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Annotated[list[_Removable], BeforeValidator(_listed), Field(min_length=1)] = ["exchange"]
    outcome: (
        Annotated[
            list[Literal["answered", "refused", "failed", "unknown"]], BeforeValidator(_listed), Field(min_length=1)
        ]
        | None
    ) = None
    client: _Texts | None = None
    owner: _Texts | None = None
    service: _Texts | None = None
    purpose: _Texts | None = None
    code: _Texts | None = None
    rule: _Texts | None = None


class _Class(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    keep: str
    match: _Match = _Match()

    def read(self) -> RetentionClass:
        match = self.match
        services = (*(match.service or ()), *[f"{owner}/*" for owner in match.owner or ()])
        return RetentionClass(
            name=self.name,
            keep=Period.parse(self.keep),
            kinds=frozenset(match.kind),
            outcomes=frozenset(match.outcome or ()),
            clients=tuple(match.client or ()),
            services=services,
            purposes=tuple(match.purpose or ()),
            codes=tuple(match.code or ()),
            rules=tuple(match.rule or ()),
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    classes: list[_Class] = Field(default=[], alias="class", max_length=_MOST_CLASSES)
