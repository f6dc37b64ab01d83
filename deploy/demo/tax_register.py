"""The tax bureau's own records, in a SQLite file of its own: enterprises, what they owe, certificates it has issued.

Rules:
1. The file is made at the first start, whole or not at all, and is the same for the same seed. Later starts keep it.
2. A file of an earlier version of the demo is brought up to date, and keeps the certificates it holds.
3. Enterprises and arrears do not change while the bureau runs: they are read once and kept as the JSON to send.
4. A certificate is on disk before its number is told to anyone, and numbers have no gaps and no repeats.
"""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec

from deploy.demo import synthetic
from deploy.demo.synthetic import RESERVED_DIVISION, SEED, draw

ENTERPRISES: Final = 2000
PAGE_SIZE: Final = 20
CERTIFICATE_DAYS: Final = 30
BEIJING: Final = timezone(timedelta(hours=8), "CST")
_SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE enterprises (
    uscc TEXT PRIMARY KEY, name TEXT NOT NULL, status TEXT NOT NULL, credit_level TEXT NOT NULL,
    taxpayer_type TEXT NOT NULL, industry TEXT NOT NULL, legal_representative TEXT NOT NULL,
    registered_on TEXT NOT NULL, division TEXT NOT NULL, address TEXT NOT NULL,
    legal_representative_number TEXT NOT NULL, phone TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE arrears (
    uscc TEXT NOT NULL REFERENCES enterprises, tax TEXT NOT NULL, period TEXT NOT NULL, due_on TEXT NOT NULL,
    amount_fen INTEGER NOT NULL, late_fee_fen INTEGER NOT NULL, PRIMARY KEY (uscc, period, tax)
) WITHOUT ROWID;
CREATE TABLE certificates (
    sequence INTEGER PRIMARY KEY, number TEXT NOT NULL UNIQUE, uscc TEXT NOT NULL REFERENCES enterprises,
    applicant TEXT NOT NULL, purpose TEXT NOT NULL, issued_at TEXT NOT NULL, valid_until TEXT NOT NULL
);
"""
_TRADES = ("商贸", "科技", "建筑工程", "餐饮", "物流", "农业", "文化传媒", "医药")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enterprise:
    """One taxpayer as registered; dates are ISO 8601."""

    uscc: str
    name: str
    status: str
    """开业, 停业, 非正常 or 注销."""
    credit_level: str
    """Taxpayer credit level, A (best) to D."""
    taxpayer_type: str
    industry: str
    legal_representative: str
    registered_on: str
    division: str
    address: str
    legal_representative_number: str
    """Citizen number (GB 11643)."""
    phone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrear:
    """One unpaid tax of one period; money in fen, dates in ISO 8601."""

    tax: str
    period: str
    due_on: str
    amount_fen: int
    late_fee_fen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A tax clearance certificate (完税证明)."""

    number: str
    uscc: str
    name: str
    conclusion: str
    applicant: str
    purpose: str
    issued_at: str
    valid_until: str


_PLACES = ", ".join("?" * len(Enterprise.__slots__))


class UnknownEnterpriseError(Exception):
    """No taxpayer has this code."""


class ClearanceRefusedError(Exception):
    """The taxpayer owes tax or is deregistered; the text says which, in Chinese."""


def enterprises(seed: str = SEED, count: int = ENTERPRISES) -> Iterator[tuple[Enterprise, tuple[Arrear, ...]]]:
    """Make up `count` taxpayers and what they owe. The first is in good order, the second owes tax."""
    for index, code in enumerate(synthetic.usccs(seed, count)):
        owes = index == 1 or (index > 1 and draw(seed, index, "owes", 8) == 0)
        trade = _TRADES[draw(seed, index, "trade", len(_TRADES))]
        status = "开业" if index < 2 else ("停业", "非正常", "注销", *["开业"] * 22)[draw(seed, index, "status", 25)]
        levels = "CD" if owes else "AABBBC"
        arrears = (
            tuple(_arrear(seed, index, place) for place in range(1 + draw(seed, index, "many", 3))) if owes else ()
        )
        yield (
            Enterprise(
                uscc=code,
                name=synthetic.enterprise_name(index, trade, sole_trader=code.startswith("92")),
                status=status,
                credit_level="A" if index == 0 else levels[draw(seed, index, "level", len(levels))],
                taxpayer_type="一般纳税人" if draw(seed, index, "type", 3) else "小规模纳税人",
                industry=trade,
                legal_representative=synthetic.person_name(index),
                registered_on=(date(2016, 1, 1) + timedelta(days=draw(seed, index, "registered", 3200))).isoformat(),
                division=RESERVED_DIVISION,
                address=f"示例市示例区{synthetic.given_name(index)}路{1 + draw(seed, index, 'house', 300)}号",
                legal_representative_number=synthetic.citizen_number(
                    date(1955, 1, 1) + timedelta(days=draw(seed, index, "born", 16_000)),
                    draw(seed, index, "order", 1000),
                ),
                phone=synthetic.phone_number(draw(seed, index, "phone", 10**8)),
            ),
            arrears,
        )


def _arrear(seed: str, index: int, place: int) -> Arrear:
    """One unpaid tax: a different quarter of 2025 for each `place`, due on the 15th of the month after it."""
    quarter = place + 1
    amount = 10_000 + draw(seed, index, f"amount{place}", 20_000_000)
    return Arrear(
        tax=("增值税", "企业所得税", "城市维护建设税")[draw(seed, index, f"tax{place}", 3)],
        period=f"2025-Q{quarter}",
        due_on=date(2025, 3 * quarter + 1, 15).isoformat(),
        amount_fen=amount,
        late_fee_fen=amount * (30 + draw(seed, index, f"late{place}", 300)) * 5 // 10_000,  # 0.05 % a day
    )


def build(path: Path, seed: str = SEED, count: int = ENTERPRISES) -> None:
    """Make the bureau's database at `path`; whoever finds a file there finds a complete one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    connection = sqlite3.connect(draft)
    try:
        connection.executescript(_SCHEMA)
        with connection:
            for enterprise, arrears in enterprises(seed, count):
                connection.execute(f"INSERT INTO enterprises VALUES ({_PLACES})", astuple(enterprise))
                connection.executemany(
                    "INSERT INTO arrears VALUES (?, ?, ?, ?, ?, ?)",
                    [(enterprise.uscc, *astuple(arrear)) for arrear in arrears],
                )
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    finally:
        connection.close()
    draft.replace(path)


class Register:
    """The open database of one bureau process. Look-ups are from memory; certificates may be issued from many threads.

    Raises:
        RuntimeError: The file was made by another version of the demo.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            build(path)
        # Threads take turns under `_turn`, so sqlite3 need not insist on one thread.
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._turn = Lock()
        if self._version() == 1:
            _add_representatives(self._connection)
        if self._version() != _SCHEMA_VERSION:
            self._connection.close()
            raise RuntimeError(f"{path} was made by another version of the demo; remove it to have it made again")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._read()

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _read(self) -> None:
        arrears = defaultdict[str, list[Arrear]](list)
        for code, *columns in self._connection.execute("SELECT * FROM arrears ORDER BY uscc, period, tax"):
            arrears[code].append(Arrear(**dict(zip(Arrear.__slots__, columns, strict=True))))
        rows = self._connection.execute("SELECT * FROM enterprises ORDER BY uscc")
        self._enterprises = {row[0]: Enterprise(**dict(zip(Enterprise.__slots__, row, strict=True))) for row in rows}
        encode = msgspec.json.encode
        self._enterprise_json = {code: encode(enterprise) for code, enterprise in self._enterprises.items()}
        self._owing = frozenset(arrears)
        self._arrears_json = {
            code: encode(
                {
                    "uscc": code,
                    "total_fen": sum(arrear.amount_fen + arrear.late_fee_fen for arrear in arrears.get(code, ())),
                    "arrears": arrears.get(code, []),
                }
            )
            for code in self._enterprises
        }

    def close(self) -> None:
        """Close the file; certificates issued so far are in it."""
        with self._turn:
            self._connection.close()

    def enterprise_json(self, uscc: str) -> bytes | None:
        """The registration of a taxpayer as JSON, or None."""
        return self._enterprise_json.get(uscc)

    def arrears_json(self, uscc: str) -> bytes | None:
        """What a taxpayer owes as JSON, or None if there is no such taxpayer."""
        return self._arrears_json.get(uscc)

    def search(self, name: str, page: int) -> tuple[int, list[Enterprise]]:
        """How many taxpayers have `name` in their name, and those on `page` (from 1), in order of code."""
        found = [enterprise for enterprise in self._enterprises.values() if name in enterprise.name]
        return len(found), found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]

    def issue_certificate(self, uscc: str, *, applicant: str, purpose: str, now: datetime) -> Certificate:
        """Write and return a new certificate. Asked twice, it issues two.

        Raises:
            UnknownEnterpriseError: No taxpayer has this code.
            ClearanceRefusedError: The taxpayer owes tax, or is deregistered.
        """
        enterprise = self._enterprises.get(uscc)
        if enterprise is None:
            raise UnknownEnterpriseError(uscc)
        if uscc in self._owing:
            raise ClearanceRefusedError("该纳税人存在欠税，不能开具完税证明")
        if enterprise.status == "注销":
            raise ClearanceRefusedError("该纳税人已注销，不能开具完税证明")
        local = now.astimezone(BEIJING)
        issued_at = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        valid_until = (local.date() + timedelta(days=CERTIFICATE_DAYS)).isoformat()
        with self._turn:
            # One statement, so one transaction: the number follows from the sequence that this very row takes.
            row = self._connection.execute(
                "INSERT INTO certificates SELECT n, ? || printf('%06d', n), ?, ?, ?, ?, ?"
                " FROM (SELECT coalesce(max(sequence), 0) + 1 AS n FROM certificates) RETURNING number",
                (f"WS{RESERVED_DIVISION}{local.year}", uscc, applicant, purpose, issued_at, valid_until),
            ).fetchall()[0]
        return _certificate(row[0], enterprise, applicant, purpose, issued_at, valid_until)

    def certificate(self, number: str) -> Certificate | None:
        """The certificate of this number, or None."""
        with self._turn:
            row = self._connection.execute(
                "SELECT uscc, applicant, purpose, issued_at, valid_until FROM certificates WHERE number = ?", (number,)
            ).fetchone()
        return row and _certificate(number, self._enterprises[row[0]], *row[1:])


def _certificate(
    number: str, enterprise: Enterprise, applicant: str, purpose: str, issued_at: str, valid_until: str
) -> Certificate:
    return Certificate(
        number=number,
        uscc=enterprise.uscc,
        name=enterprise.name,
        conclusion="截至开具之日未发现欠税",
        applicant=applicant,
        purpose=purpose,
        issued_at=issued_at,
        valid_until=valid_until,
    )


def _add_representatives(connection: sqlite3.Connection) -> None:
    """Version 1 to 2: the number of an enterprise's representative, and its telephone."""
    count = connection.execute("SELECT count(*) FROM enterprises").fetchone()[0]
    connection.execute("BEGIN IMMEDIATE")
    for column in ("legal_representative_number", "phone"):
        connection.execute(f"ALTER TABLE enterprises ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
    connection.executemany(
        "UPDATE enterprises SET legal_representative_number = ?, phone = ? WHERE uscc = ?",
        [(each.legal_representative_number, each.phone, each.uscc) for each, _ in enterprises(SEED, count)],
    )
    connection.execute("PRAGMA user_version = 2")
    connection.execute("COMMIT")
