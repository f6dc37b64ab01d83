"""The natural-resources bureau's own register of real estate, in a SQLite file of its own: who owns what, and what lies on it.

Rules:
1. The file is made once, whole or not at all, and is the same for the same seed. Later starts keep it.
2. Owners are the residents of the civil-affairs bureau (`civil_affairs`), so that one person can be asked about at both.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final, Protocol

from deploy.demo.synthetic import RESERVED_DIVISION, SEED, draw, given_name

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE properties (
    unit_number TEXT PRIMARY KEY, certificate_number TEXT NOT NULL UNIQUE, location TEXT NOT NULL, usage TEXT NOT NULL,
    area_cm2 INTEGER NOT NULL, registered_on TEXT NOT NULL, land_until TEXT, seized INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE owners (
    unit_number TEXT NOT NULL REFERENCES properties, place INTEGER NOT NULL, number TEXT NOT NULL, name TEXT NOT NULL,
    share TEXT NOT NULL, PRIMARY KEY (unit_number, place)
) WITHOUT ROWID;
CREATE INDEX owned ON owners (number);
CREATE TABLE mortgages (
    unit_number TEXT NOT NULL REFERENCES properties, place INTEGER NOT NULL, creditor TEXT NOT NULL, amount_fen INTEGER NOT NULL,
    registered_on TEXT NOT NULL, PRIMARY KEY (unit_number, place)
) WITHOUT ROWID;
"""
_BANKS: Final = ("示例市甲子银行", "示例市乙丑银行", "示例市住房储蓄所")


class Owning(Protocol):
    """What the register needs of a resident."""

    @property
    def number(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def household_number(self) -> str: ...
    @property
    def household_relation(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    number: str
    """Citizen number (GB 11643)."""
    name: str
    share: str
    """共同共有, or a percentage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mortgage:
    creditor: str
    amount_fen: int
    registered_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One unit of real estate; dates are ISO 8601."""

    unit_number: str
    """不动产单元号: 28 characters, the first six the division."""
    certificate_number: str
    location: str
    usage: str
    area_cm2: int
    registered_on: str
    land_until: str | None
    """End of the right to the land; None where it has none."""
    seized: bool
    """Whether a court has it."""
    owners: tuple[Owner, ...]
    mortgages: tuple[Mortgage, ...]


def properties(residents: Sequence[Owning], seed: str = SEED) -> Iterator[Property]:
    """Make up what households own: the first has one flat of both spouses, the second nothing, half of the others something."""
    households: dict[str, list[Owning]] = {}
    for resident in residents:
        households.setdefault(resident.household_number, []).append(resident)
    made = 0
    for index, members in enumerate(households.values()):
        count = (1, 0)[index] if index < 2 else (0, 0, 1, 1, 1, 2)[draw(seed, index, "properties", 6)]
        adults = [each for each in members if each.household_relation in ("户主", "配偶")]
        for place in range(count):
            made += 1
            yield _property(seed, made, adults if index == 0 or draw(seed, made, "shared", 3) else adults[:1], place)


def _property(seed: str, number: int, owners: Sequence[Owning], place: int) -> Property:
    registered = date(2012, 1, 1) + timedelta(days=draw(seed, number, "registered", 4900))
    business = place > 0 and draw(seed, number, "usage", 3) == 0
    mortgages: tuple[Mortgage, ...] = ()
    if number > 1 and draw(seed, number, "mortgaged", 3) == 0:
        bank, amount = (
            _BANKS[draw(seed, number, "bank", len(_BANKS))],
            20_000_000 + draw(seed, number, "amount", 200_000_000),
        )
        mortgages = (Mortgage(creditor=bank, amount_fen=amount, registered_on=registered.isoformat()),)
    return Property(
        unit_number=f"{RESERVED_DIVISION}001{1 + number % 9:03d}GB{number:05d}F00010{1 + draw(seed, number, 'unit', 999):03d}",
        certificate_number=f"示({registered.year})示例市不动产权第{number:07d}号",
        location=f"示例市示例区{given_name(number)}路{1 + draw(seed, number, 'house', 300)}号",
        usage="商业服务" if business else "住宅",
        area_cm2=400_000 + draw(seed, number, "area", 1_400_000),
        registered_on=registered.isoformat(),
        land_until=None if draw(seed, number, "granted", 10) == 0 else date(registered.year + 70, 6, 30).isoformat(),
        seized=number > 1 and draw(seed, number, "seized", 40) == 0,
        owners=tuple(
            Owner(number=each.number, name=each.name, share="共同共有" if len(owners) > 1 else "100%")
            for each in owners
        ),
        mortgages=mortgages,
    )


def build(path: Path, seed: str = SEED) -> None:
    """Make the file if there is none; whoever finds one finds it complete."""
    if path.exists():
        return
    # Here and not above: the bureau's own process needs neither it nor the library for databases that it loads.
    from deploy.demo.civil_affairs import make_residents

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    connection = sqlite3.connect(draft)
    try:
        connection.executescript(_SCHEMA)
        with connection:
            for each in properties(make_residents(seed), seed):
                _insert(connection, each)
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    finally:
        connection.close()
    draft.replace(path)


def _insert(connection: sqlite3.Connection, each: Property) -> None:
    connection.execute(
        "INSERT INTO properties VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            each.unit_number,
            each.certificate_number,
            each.location,
            each.usage,
            each.area_cm2,
            each.registered_on,
            each.land_until,
            each.seized,
        ),
    )
    for place, owner in enumerate(each.owners):
        row = (each.unit_number, place, owner.number, owner.name, owner.share)
        connection.execute("INSERT INTO owners VALUES (?, ?, ?, ?, ?)", row)
    for place, mortgage in enumerate(each.mortgages):
        lien = (each.unit_number, place, mortgage.creditor, mortgage.amount_fen, mortgage.registered_on)
        connection.execute("INSERT INTO mortgages VALUES (?, ?, ?, ?, ?)", lien)


class LandRegister:
    """The open register of one bureau process; from one thread.

    Raises:
        RuntimeError: There is no file, or another version of the demo made it.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise RuntimeError(f"{path} is not there; `datong up` makes it")
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        if self._connection.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA_VERSION:
            self._connection.close()
            raise RuntimeError(f"{path} was made by another version of the demo; remove it to have it made again")

    def close(self) -> None:
        self._connection.close()

    def property(self, unit_number: str) -> Property | None:
        """What is registered under a unit number, or None."""
        row = self._connection.execute("SELECT * FROM properties WHERE unit_number = ?", (unit_number,)).fetchone()
        return self._whole(row) if row else None

    def owned_by(self, number: str) -> list[Property]:
        """What a person owns, in order of unit numbers."""
        rows = self._connection.execute(
            "SELECT * FROM properties WHERE unit_number IN (SELECT unit_number FROM owners WHERE number = ?)"
            " ORDER BY unit_number",
            (number,),
        )
        return [self._whole(row) for row in rows.fetchall()]

    def _whole(self, row: tuple[str, str, str, str, int, str, str | None, int]) -> Property:
        unit = (row[0],)
        owners = self._connection.execute(
            "SELECT number, name, share FROM owners WHERE unit_number = ? ORDER BY place", unit
        )
        mortgages = self._connection.execute(
            "SELECT creditor, amount_fen, registered_on FROM mortgages WHERE unit_number = ? ORDER BY place", unit
        )
        return Property(
            unit_number=row[0],
            certificate_number=row[1],
            location=row[2],
            usage=row[3],
            area_cm2=row[4],
            registered_on=row[5],
            land_until=row[6],
            seized=bool(row[7]),
            owners=tuple(Owner(number=each[0], name=each[1], share=each[2]) for each in owners),
            mortgages=tuple(
                Mortgage(creditor=each[0], amount_fen=each[1], registered_on=each[2]) for each in mortgages
            ),
        )
