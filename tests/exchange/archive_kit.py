"""What tests of archives share: a log with everything in it that an archive keeps, its archive, and segments put together anew."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from exchange.archive.manifest import MANIFEST, NOTE, Digest, Manifest, statement
from exchange.archive.source import ArchiveSource
from exchange.archive.writing import LogArchiver, bounds_of
from exchange.log import tables
from exchange.log.frames import Frame
from exchange.log.log_event import LogEvent
from exchange.log.stores import log_store
from exchange.log.writer import LastSigned, LogWriter
from exchange.moments import Rfc3339
from exchange.receipts.receipt_checks import Keys
from exchange.storage.database import create_engine, database_url
from exchange.timestamps.request import read_response, time_stamp_request
from exchange.timestamps.token import read_token
from exchange.transparency.checkpoint import NoteSigner
from exchange.transparency.cosignature import Cosigner
from exchange.transparency.trust_policy import TrustPolicy
from tests.databases import PostgresServer
from tests.exchange.log_kit import Attempt, Place, attempt, change_attempt, change_record, new_id, now_ms
from tests.exchange.test_log_evidence import EVIDENCE
from tests.exchange.test_log_evidence import signed as signed_attempt
from tests.exchange.tsa_kit import Issuer, make_tsa

SIZE = 1000
SEGMENT = 512

_time_text = Rfc3339()


@dataclass
class Authority:
    """Two witnesses and an authority of time."""

    witnesses: Sequence[Cosigner] = field(
        default_factory=lambda: [Cosigner.generate("audit.example/witness"), Cosigner.generate("civil.example/witness")]
    )
    root: Issuer = field(default_factory=Issuer.root)

    @property
    def policy(self) -> TrustPolicy:
        lines = [f"witness w{number} {one.verifier.vkey}" for number, one in enumerate(self.witnesses)]
        return TrustPolicy.from_text("\n".join([*lines, "group both all w0 w1", "quorum both"]) + "\n")

    def cosignature(self, number: int, size: int, text: str) -> list[Any]:
        """A row of `log_cosignatures`."""
        at = now_ms() // 1000
        return [size, self.witnesses[number].verifier.name, at * 1000, self.witnesses[number].cosign(text, at)]

    def stamp(self, size: int, text: str) -> list[Any]:
        """A row of `log_stamps`."""
        request = time_stamp_request(text.encode(), nonce=7)
        token = read_response(make_tsa(self.root).respond(request))
        return [size, "国家授时", read_token(token).gen_ms, token]


def event_attempt(act: str = "exchanges.list") -> Attempt:
    """A record of access as it is appended."""
    at_ms = now_ms()
    event = LogEvent(id=new_id(at_ms), kind="access", act=act, at=_time_text(at_ms), by="CN/GOV/AUDIT/audit")
    return Attempt(event.leaf, event.id, at_ms, event.by, "", "access", act, b"")


def varied(number: int) -> Attempt:
    """Entry number n: changes, acts and refusals among answers."""
    if number % 97 == 5:
        return change_attempt(change_record(number))
    if number % 101 == 7:
        return event_attempt()
    if number % 10 == 3:
        return attempt(number, outcome="refused", rule="grant")
    return attempt(number)


@dataclass
class Filled:
    """A log with everything in it, and what verifies it."""

    place: Place
    authority: Authority
    special: Attempt | None = None
    """An exchange whose certificates and signature are kept."""

    @property
    def keys(self) -> Keys:
        return Keys(
            tuple(self.place.verifiers), (), self.authority.policy, (self.authority.root.certificate,), frozenset()
        )

    async def fill(
        self,
        *,
        size: int = SIZE,
        signed: Sequence[int] = (100, 300, 600, 900, 1000),
        cosigned: Sequence[int] = (300, 600, 1000),
        stamped: Sequence[int] = (600, 1000),
        certificates: Sequence[bytes] = (),
        revocations: Sequence[tuple[Any, ...]] = (),
    ) -> None:
        """Write it; the special exchange is entry 700, and one whose caller signed the request is entry 20."""
        special, with_evidence = self.special, signed_attempt(20)

        def made(number: int) -> Attempt:
            if number == 20:
                return with_evidence
            return special if special is not None and number == 700 else varied(number)

        await self.place.fill(size, signed, certificates=certificates, made=made)
        store = log_store(database_url(self.place.database))
        writer = LogWriter(store, self.place.signer, LastSigned(self.place.log_key), "g", "b")
        annexes: list[Any] = [("revocation", list(row)) for row in revocations]
        async with self.place.reader() as reader:
            for one in await reader.checkpoints_from(0, 100):
                text = one.note.rpartition("\n\n")[0] + "\n"
                if one.size in cosigned:
                    annexes += [("cosignature", self.authority.cosignature(each, one.size, text)) for each in (0, 1)]
                if one.size in stamped:
                    annexes.append(("stamp", self.authority.stamp(one.size, text)))
        evidence = [(with_evidence.exchange_id, EVIDENCE)]
        (reply,) = await writer.write([Frame(annexes=annexes, evidence=evidence)])
        assert not reply.problem
        await store.close()

    @asynccontextmanager
    async def source(self) -> AsyncIterator[ArchiveSource]:
        engine = create_engine(self.place.database)
        try:
            yield ArchiveSource(engine)
        finally:
            await engine.dispose()

    async def archive(self, folder: Path, first: int = 0, end: int | None = None, *, tail: bool = False) -> list[Path]:
        """Archive what is covered; the files."""
        async with self.source() as source:
            upto = await source.archivable(end, None, tail=tail)
            archiver = LogArchiver(source, self.place.signer, self.place.verifiers, folder)
            return [one.path async for one in archiver.write(bounds_of(first, upto, SEGMENT), now_ms())]


async def rows_of(database: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything a log holds, table by table, but open intents and the edge, which the next checkpoint makes anew."""
    engine = create_engine(database)
    try:
        async with engine.connect() as connection:
            found = {}
            for table in tables.metadata.sorted_tables:
                columns = [
                    sa.cast(column, sa.LargeBinary) if isinstance(column.type, sa.LargeBinary) else column
                    for column in table.c
                ]
                if table not in (tables.intents, tables.edge):
                    query = sa.select(*columns).order_by(*table.primary_key.columns)
                    found[table.name] = [tuple(row) for row in await connection.execute(query)]
            return found
    finally:
        await engine.dispose()


def members_of(path: Path) -> dict[str, bytes]:
    """Every member of a segment, as it is."""
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def put_together(path: Path, members: Mapping[str, bytes]) -> Path:
    """A zip file of these members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def with_manifest(members: Mapping[str, bytes], signer: NoteSigner | None, **changes: Any) -> dict[str, bytes]:
    """The members with a manifest that names them as they are; signed anew if the key is given."""
    rest = {name: data for name, data in members.items() if name not in (MANIFEST, NOTE)}
    old = Manifest.from_data(members[MANIFEST])
    manifest = replace(old, **{"members": {name: Digest.of(data) for name, data in rest.items()}, **changes})
    note = members[NOTE]
    if signer is not None:
        digest = hashlib.sha256(manifest.data).hexdigest()
        note = signer.sign(statement(manifest.origin, manifest.first, manifest.end, digest)).encode()
    return {**rest, MANIFEST: manifest.data, NOTE: note}


def changed_line(data: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """A file of lines with one of them changed."""
    lines = data.split(b"\n")
    lines[number] = change(lines[number])
    return b"\n".join(lines)


class Templates:
    """Logs that were filled and archived once, and are copied for each test: filling one costs more than most tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Filled] = {}
        self._copies = 0

    async def copy(self, folder: Path, server: PostgresServer | None) -> Filled:
        """A log of 1,000 entries whose first 768 are archived (`archive`), with key and key list, in a database of its own."""
        kind = "sqlite" if server is None else "postgresql"
        if kind not in self._made:
            self._made[kind] = await self._make(self._folder / kind, server)
        template = self._made[kind].place
        shutil.copytree(template.folder, folder, dirs_exist_ok=True)
        database = f"sqlite:///{folder / 'log.db'}"
        if server is not None:
            self._copies += 1
            name = f"archived_{self._copies}"
            connection = await asyncpg.connect(server.url("postgres"))
            try:
                await connection.execute(f"CREATE DATABASE {name} TEMPLATE {make_url(template.database).database}")
            finally:
                await connection.close()
            database = server.url(name)
        return Filled(Place(database, folder, template.signer), self._made[kind].authority)

    async def _make(self, folder: Path, server: PostgresServer | None) -> Filled:
        folder.mkdir()
        database = f"sqlite:///{folder / 'log.db'}" if server is None else await server.create_database()
        log = Filled(Place(database, folder), Authority())
        await log.fill()
        await log.archive(folder / "archive")
        keys = {"format": "datong-keys/1", "logs": [log.place.signer.verifier.vkey], "trust_anchors": []}
        (folder / "keys.json").write_text(json.dumps(keys))
        return log


_templates: list[Templates] = []


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """One for all modules that import this fixture: pytest would make one for each."""
    if not _templates:
        _templates.append(Templates(tmp_path_factory.mktemp("archived")))
    return _templates[0]


@pytest.fixture(params=["sqlite", "postgresql"])
async def log(request: pytest.FixtureRequest, templates: Templates, tmp_path: Path) -> Filled:
    """The test runs on both databases; see `Templates.copy`."""
    server = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    return await templates.copy(tmp_path, server)
