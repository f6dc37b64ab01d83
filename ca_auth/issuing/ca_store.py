"""What a CA remembers: one SQLite file with its certificates, revocations, enrolment codes and CRLs.

Rules:
1. A change returns when it would survive a power cut (WAL, synchronous=FULL): what is handed out afterwards is never lost.
2. `writing` is the only way to change anything. One writer at a time, also among processes: `datong ca revoke` and a
   running `datong ca serve` share the file.
3. Nothing is deleted but old CRLs. A revocation leaves the CRL only after one that was made past the certificate's end.
4. Of an enrolment code only the hash is kept.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ca_auth.issuing.ca_rows import CertificateRow, CodeRow, CrlRow, RevocationRow
from ca_auth.issuing.durable_files import PRIVATE, sync_folder
from ca_auth.issuing.issuance import CertificateRequest

_VERSION: Final = 1
_CRLS_KEPT: Final = 20
_BUSY_SECONDS: Final = 15.0

_SCHEMA: Final = """
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, subject TEXT NOT NULL, holder TEXT NOT NULL,
    not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, der BLOB NOT NULL, key_hash TEXT NOT NULL,
    request TEXT NOT NULL, days REAL NOT NULL, issued_at REAL NOT NULL, by TEXT NOT NULL, why TEXT NOT NULL,
    code TEXT UNIQUE, renews TEXT, UNIQUE (renews, key_hash));
CREATE INDEX certificates_by_holder ON certificates (holder);
CREATE INDEX certificates_by_key ON certificates (key_hash);
CREATE INDEX certificates_by_end ON certificates (not_after);
CREATE TABLE revocations (
    serial TEXT PRIMARY KEY, at INTEGER NOT NULL, reason TEXT NOT NULL, by TEXT NOT NULL, why TEXT NOT NULL,
    not_after INTEGER, first_crl INTEGER, last_crl INTEGER);
CREATE TABLE codes (
    name TEXT PRIMARY KEY, secret_hash BLOB NOT NULL, request TEXT NOT NULL, holder TEXT NOT NULL, days REAL NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL, by TEXT NOT NULL, why TEXT NOT NULL,
    key_hash TEXT, used_at REAL, void_at REAL, refused INTEGER NOT NULL DEFAULT 0);
CREATE TABLE crls (number INTEGER PRIMARY KEY, this_update INTEGER NOT NULL, next_update INTEGER NOT NULL, der BLOB NOT NULL);
"""


class CaStore:
    """The file. Usable from any thread; calls wait for each other and for other processes, at most 15 s."""

    def __init__(self, file: Path) -> None:
        """Open `file`, which `create` has made.

        Raises:
            OSError: There is none.
            ValueError: It is of another version.
            sqlite3.Error: It cannot be read.
        """
        if not file.exists():
            raise FileNotFoundError(2, os.strerror(2), str(file))
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            self._connection.close()
            raise ValueError(f"{file} has schema version {version}, this program knows {_VERSION}")

    @classmethod
    def create(cls, file: Path) -> None:
        """Make an empty file, for its owner only; raises FileExistsError if there is one."""
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
        connection = sqlite3.connect(file, isolation_level=None)
        try:
            connection.executescript(
                f"PRAGMA journal_mode = WAL; BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;"
            )
        finally:
            connection.close()
        sync_folder(file.parent)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Changes made inside become durable together when it ends, or not at all if it raises."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    # Certificates

    def add_certificate(self, row: CertificateRow) -> None:
        values = _plain(row, leave_out=("revoked_at", "reason"))
        self._insert("certificates", values)

    def certificate(self, serial: str) -> CertificateRow | None:
        return self._certificate("serial = ?", serial)

    def certificate_by_fingerprint(self, fingerprint: str) -> CertificateRow | None:
        return self._certificate("fingerprint = ?", fingerprint)

    def certificate_by_code(self, name: str) -> CertificateRow | None:
        return self._certificate("code = ?", name)

    def renewal_of(self, serial: str, key_hash: str) -> CertificateRow | None:
        """The certificate that `serial` was given for this key."""
        return self._certificate("renews = ? AND key_hash = ?", serial, key_hash)

    def renewals_since(self, serial: str, instant: float) -> int:
        """How many certificates asked for by `serial` were issued since."""
        (count,) = self._one("SELECT count(*) FROM certificates WHERE renews = ? AND issued_at >= ?", serial, instant)
        return int(count)

    def renewed_from(self, serial: str) -> list[CertificateRow]:
        """The certificates that came of `serial` by renewal, and of those, to the last."""
        return self._certificates(
            "serial IN (WITH RECURSIVE line(serial) AS (SELECT serial FROM certificates WHERE renews = ? "
            "UNION SELECT next.serial FROM certificates next JOIN line ON next.renews = line.serial) SELECT serial FROM line)",
            serial,
        )

    def certificates(self, *, holder: str | None = None, ending_by: float | None = None) -> list[CertificateRow]:
        """All, or those of one holder, or those that end by an instant; the next to end first."""
        where = "1"
        values: list[object] = []
        if holder is not None:
            where, values = f"{where} AND holder = ?", [*values, holder]
        if ending_by is not None:
            where, values = f"{where} AND certificates.not_after <= ?", [*values, ending_by]
        return self._certificates(where, *values)

    def key_is_compromised(self, key_hash: str) -> bool:
        """Whether a certificate of this key was revoked for that reason."""
        return self._certificate("key_hash = ? AND reason = 'keyCompromise'", key_hash) is not None

    # Codes

    def add_code(self, row: CodeRow) -> None:
        self._insert("codes", _plain(row))

    def code(self, name: str) -> CodeRow | None:
        rows = self._codes("name = ?", name)
        return rows[0] if rows else None

    def codes(self) -> list[CodeRow]:
        return self._codes("1")

    def spend_code(self, name: str, key_hash: str, at: float) -> None:
        self._run("UPDATE codes SET key_hash = ?, used_at = ? WHERE name = ?", key_hash, at, name)

    def count_refused(self, name: str) -> None:
        self._run("UPDATE codes SET refused = refused + 1 WHERE name = ?", name)

    def void_codes(self, holder: str, at: float) -> int:
        """Void what was not used yet; returns how many."""
        return self._run(
            "UPDATE codes SET void_at = ? WHERE holder = ? AND used_at IS NULL AND void_at IS NULL", at, holder
        )

    # Revocations and CRLs

    def add_revocation(self, row: RevocationRow) -> bool:
        """Whether it is new; the first reason given stays."""
        known = self._one("SELECT 1 FROM revocations WHERE serial = ?", row.serial)
        if known is None:
            self._insert("revocations", asdict(row))
        return known is None

    def revocations_to_list(self) -> list[RevocationRow]:
        """What the next CRL must say."""
        return [
            RevocationRow(**dict(row))
            for row in self._all(
                "SELECT serial, at, reason, by, why, not_after FROM revocations WHERE last_crl IS NULL ORDER BY at, serial"
            )
        ]

    def has_unlisted_revocations(self) -> bool:
        """Whether a revocation is on no CRL yet."""
        return self._one("SELECT 1 FROM revocations WHERE first_crl IS NULL LIMIT 1") is not None

    def add_crl(self, row: CrlRow) -> None:
        """Keep a CRL that lists all of `revocations_to_list`; what had ended when it was made need not be listed again."""
        self._insert("crls", asdict(row))
        self._run("UPDATE revocations SET first_crl = ? WHERE first_crl IS NULL", row.number)
        self._run(
            "UPDATE revocations SET last_crl = ? WHERE last_crl IS NULL AND not_after < ?", row.number, row.this_update
        )
        self._run(
            "DELETE FROM crls WHERE number NOT IN (SELECT number FROM crls ORDER BY number DESC LIMIT ?)", _CRLS_KEPT
        )

    def latest_crl(self) -> CrlRow | None:
        row = self._one("SELECT * FROM crls ORDER BY number DESC LIMIT 1")
        return CrlRow(**dict(row)) if row is not None else None

    # SQL

    def _certificate(self, where: str, *values: object) -> CertificateRow | None:
        rows = self._certificates(where, *values)
        return rows[0] if rows else None

    def _certificates(self, where: str, *values: object) -> list[CertificateRow]:
        return [
            CertificateRow(**_parsed(row))
            for row in self._all(
                "SELECT certificates.*, revocations.at AS revoked_at, revocations.reason AS reason "
                "FROM certificates LEFT JOIN revocations USING (serial) "
                f"WHERE {where} ORDER BY certificates.not_after, serial",
                *values,
            )
        ]

    def _codes(self, where: str, *values: object) -> list[CodeRow]:
        return [
            CodeRow(**_parsed(row))
            for row in self._all(f"SELECT * FROM codes WHERE {where} ORDER BY created_at", *values)
        ]

    def _insert(self, table: str, values: dict[str, Any]) -> None:
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self._run(f"INSERT INTO {table} ({names}) VALUES ({marks})", *values.values())

    def _run(self, statement: str, *values: object) -> int:
        with self._lock:
            if not self._connection.in_transaction:
                raise RuntimeError("changes are made inside `writing`")
            return self._connection.execute(statement, values).rowcount

    def _one(self, statement: str, *values: object) -> Any:
        with self._lock:
            return self._connection.execute(statement, values).fetchone()

    def _all(self, statement: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()


def _plain(row: CertificateRow | CodeRow, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    values = {name: value for name, value in asdict(row).items() if name not in leave_out}
    values["request"] = json.dumps(values["request"], ensure_ascii=False)
    return values


def _parsed(row: sqlite3.Row) -> dict[str, Any]:
    values = dict(row)
    request = json.loads(values["request"])
    values["request"] = CertificateRequest(**{**request, "server_names": tuple(request["server_names"])})
    return values
