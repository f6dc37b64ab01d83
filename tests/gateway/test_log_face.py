"""`/log/`: the log as files that software of others reads; who may read what of it, and that nothing else is there."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange import LogEvent, LogUnavailableError, read_event
from exchange.log.reader import LogReader
from exchange.log.tables import checkpoints, cosignatures, entries, removed, state, tiles
from exchange.storage.database import create_engine, upgrade, writing
from exchange.transparency.checkpoint import Checkpoint, NoteSigner, open_checkpoint
from exchange.transparency.merkle import hash_leaf, root_of
from exchange.transparency.tile_paths import TileName, unpack_bundle
from exchange.transparency.tiles import Edge
from gateway.api.callers import caller
from gateway.api.management import management_api
from tests.exchange.log_kit import Place
from tests.foreign.verifiers import AICS, ForeignVerifier
from tests.gateway.management_desk import PARTIES, Desk, told

IMMUTABLE = "max-age=31536000, immutable"
BYTES = "application/octet-stream"


class Recorder:
    """The part of the log that writes: what it is given, it keeps."""

    def __init__(self, reader: LogReader) -> None:
        self.reader = reader
        self.events: list[LogEvent] = []
        self.away = False

    def append_event(self, event: LogEvent) -> asyncio.Future[int]:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.away:
            done.set_exception(LogUnavailableError())
        else:
            self.events.append(event)
            done.set_result(len(self.events))
        return done

    def remember_certificate(self, fingerprint: str, der: bytes) -> None:
        pass


AUDITOR = SimpleNamespace(
    subsystem="CN/GOV/AUDIT/office",
    principal=SimpleNamespace(person=None, fingerprint="ab" * 32, der=b""),
    require=lambda role: None,
)


@asynccontextmanager
async def changing(database: str) -> AsyncIterator[AsyncConnection]:
    """The log's database, behind everybody's back."""
    engine = create_engine(database)
    try:
        async with writing(engine) as connection:
            yield connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def face(database: str) -> AsyncIterator[tuple[httpx.AsyncClient, Recorder]]:
    """The management API over a log that lies in a database, without a gateway around it. Everybody is an auditor."""

    @asynccontextmanager
    async def nothing(api: FastAPI) -> AsyncIterator[None]:
        yield

    engine = create_engine(database)
    log = Recorder(LogReader(engine))
    api = management_api(nothing)
    inner = cast(Any, api)._app
    inner.state.gateway = SimpleNamespace(log=log)
    inner.dependency_overrides[caller] = lambda: AUDITOR
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(cast(Any, api)), base_url="https://log") as client:
            yield client, log
    finally:
        await engine.dispose()


def tiles_of(size: int) -> Iterator[TileName]:
    """The tiles of a tree, as the specification counts them."""
    level = 0
    while hashes := size // 256**level:
        yield from (TileName(level, number) for number in range(hashes // 256))
        if hashes % 256:
            yield TileName(level, hashes // 256, hashes % 256)
        level += 1


def bundles_of(size: int) -> Iterator[TileName]:
    yield from (name._replace(level=None) for name in tiles_of(size) if name.level == 0)


async def mirrored(client: httpx.AsyncClient, folder: Path, names: Iterator[TileName]) -> None:
    """What a mirror does: keep each file under its path."""
    for path in ("checkpoint", *(name.path for name in names)):
        response = await client.get(f"/log/{path}")
        assert response.status_code == 200, (path, response.text)
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(response.content)


async def test_verifiers_of_others_read_the_whole_log_from_its_files(
    database_url: str, tmp_path: Path, go_verifier: ForeignVerifier, aics_verifier: ForeignVerifier
) -> None:
    """Hashes and entries; and they find one changed bit in any kind of file."""
    place = Place(database_url, tmp_path)
    await place.fill(600, [1, 300, 600])
    mirror = tmp_path / "mirror"
    async with face(database_url) as (client, log):
        await mirrored(client, mirror, (name for names in (tiles_of(600), bundles_of(600)) for name in names))
        leaves = [entry.leaf async for entry in log.reader.iter_entries()]
    bundles = [(mirror / name.path).read_bytes() for name in bundles_of(600)]
    assert [leaf for bundle in bundles for leaf in unpack_bundle(bundle)] == leaves
    vkey = place.signer.verifier.vkey
    for verifier in (go_verifier, aics_verifier):
        done = verifier.tiles(vkey, mirror)
        assert done.returncode == 0, done.stderr.decode()
        assert b"600 entries in the tree" in done.stdout
        if database_url.startswith("postgresql"):
            continue  # the files are the same
        for path in ("checkpoint", "tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/001"):
            file = mirror / path
            good = file.read_bytes()
            file.write_bytes(good[:20] + bytes([good[20] ^ 1]) + good[21:])
            assert verifier.tiles(vkey, mirror).returncode == 1, (verifier.name, path)
            file.write_bytes(good)


async def test_the_files_of_a_large_tree_are_those_of_the_specification(
    tmp_path: Path, go_verifier: ForeignVerifier, aics_verifier: ForeignVerifier
) -> None:
    """Its own example: 70,000 entries in 273 complete tiles and one of 112, one and one of 17, and one of a single hash."""
    signer = NoteSigner.generate("log.example/large")
    database = f"sqlite:///{tmp_path / 'log.db'}"
    await upgrade(database, "exchange.migrations")
    leaves = [hash_leaf(b"%d" % number) for number in range(70_000)]
    edge, complete = Edge.empty().extended(leaves)
    row = {"at_ms": 0, "client": "", "service": "", "outcome": "answered", "rule": ""}
    async with changing(database) as connection:
        await connection.execute(tiles.insert(), [tile._asdict() for tile in complete])
        rest = [
            {**row, "seq": number, "exchange_id": f"{number}", "leaf_hash": leaves[number], "leaf": b"%d" % number}
            for number in range(273 * 256, 70_000)
        ]
        await connection.execute(entries.insert(), rest)
        await connection.execute(state.update().values(size=edge.size, root=edge.root))
        note = Checkpoint("log.example/large", edge.size, edge.root).signed(signer)
        await connection.execute(checkpoints.insert().values(size=edge.size, root=edge.root, note=note))
    names = list(tiles_of(70_000))
    assert [name.path for name in names][270:] == [
        *("tile/0/270", "tile/0/271", "tile/0/272", "tile/0/273.p/112"),
        *("tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"),
    ]
    async with face(database) as (client, _):
        await mirrored(client, tmp_path / "mirror", iter(names))
        for beyond in (
            *("tile/0/273", "tile/0/273.p/113", "tile/0/274.p/1", "tile/1/001", "tile/1/001.p/18", "tile/1/002.p/1"),
            *("tile/2/000", "tile/2/000.p/2", "tile/3/000.p/1", "tile/63/000.p/1", "tile/0/x999/x999/x999/999"),
        ):
            told(await client.get(f"/log/{beyond}"), 404, "exists")
        # A width that the tree once had stays, as the first hashes of what the tile is now.
        whole = (await client.get("/log/tile/1/000")).content
        assert (await client.get("/log/tile/1/000.p/7")).content == whole[: 7 * 32]
        assert whole[:32] == root_of(leaves[:256])
    for verifier in (go_verifier, aics_verifier):
        done = verifier.tiles(signer.verifier.vkey, tmp_path / "mirror")
        assert done.returncode == 0, done.stderr.decode()


async def test_nothing_is_served_that_no_checkpoint_covers(database_url: str, tmp_path: Path) -> None:
    place = Place(database_url, tmp_path)
    await place.fill(0, [])
    async with face(database_url) as (client, log):
        told(await client.get("/log/checkpoint"), 404, "exists")
        told(await client.get("/log/tile/0/000.p/1"), 404, "exists")
        told(await client.get("/log/tile/entries/000.p/1"), 404, "exists")
        await place.fill(260, [3])
        for path in ("tile/0/000.p/4", "tile/0/000", "tile/1/000.p/1", "tile/entries/000.p/4", "tile/entries/000"):
            told(await client.get(f"/log/{path}"), 404, "exists")
        for path in ("tile/0/000.p/3", "tile/0/000.p/1", "tile/entries/000.p/3"):
            assert (await client.get(f"/log/{path}")).status_code == 200
        assert [event.details for event in log.events] == [{"first": 0, "count": 3}]


async def test_a_checkpoint_carries_the_cosignatures_that_are_there_by_now(database_url: str, tmp_path: Path) -> None:
    place = Place(database_url, tmp_path)
    await place.fill(9, [5, 9])
    lines = {name: f"— {name} {b64encode(name.encode() * 9).decode()}\n" for name in ("w2.example", "w1.example")}
    async with face(database_url) as (client, log):
        before = await client.get("/log/checkpoint")
        newest = await log.reader.latest_checkpoint()
        assert newest is not None
        assert before.text == newest.note
        async with changing(database_url) as connection:
            rows = [
                {"size": size, "witness": name, "at_ms": 1, "line": lines[name]}
                for size, name in ((9, "w2.example"), (9, "w1.example"), (5, "w1.example"))
            ]
            await connection.execute(cosignatures.insert(), rows)
        # Who has the old one is given the new one.
        after = await client.get("/log/checkpoint", headers={"if-none-match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.text == newest.note + lines["w1.example"] + lines["w2.example"]
    assert open_checkpoint(after.text, place.verifiers).size == 9


async def test_of_removed_entries_the_hashes_stay_and_the_bundle_does_not(database_url: str, tmp_path: Path) -> None:
    place = Place(database_url, tmp_path)
    await place.fill(600, [256, 600])
    async with face(database_url) as (client, log):
        before = {
            path: (await client.get(f"/log/tile/0/{path}")).content for path in ("000", "000.p/9", "001", "002.p/88")
        }
        async with changing(database_url) as connection:
            await connection.execute(entries.delete().where(entries.c.seq < 256, entries.c.seq != 100))
            gone = [
                {"first": 0, "end": 100, "seq": 599, "segment": "ab" * 32},
                {"first": 101, "end": 256, "seq": 599, "segment": "cd" * 32},
            ]
            await connection.execute(removed.insert(), gone)
        assert before == {path: (await client.get(f"/log/tile/0/{path}")).content for path in before}
        log.events.clear()
        for path, segment in (("000", "ab"), ("000.p/7", "ab")):
            problem = told(await client.get(f"/log/tile/entries/{path}"), 404, "entries-removed")
            assert segment * 32 in problem["next"]
            assert "entry 599" in problem["detail"]
        chinese = (await client.get("/log/tile/entries/000", headers={"accept-language": "zh"})).json()
        assert "已清除" in chinese["detail"]
        assert log.events == [], "nothing was shown"
        assert len(unpack_bundle((await client.get("/log/tile/entries/001")).content)) == 256


async def test_what_is_missing_without_a_record_is_damage(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(database_url, tmp_path)
    await place.fill(300, [300])
    async with face(database_url) as (client, log):
        async with changing(database_url) as connection:
            await connection.execute(entries.delete().where(entries.c.seq.in_([7, 290])))
            await connection.execute(tiles.update().values(hashes=b"x" * 8160))
        for path in ("tile/0/000", "tile/0/001.p/44", "tile/entries/000", "tile/entries/001.p/44"):
            told(await client.get(f"/log/{path}"), 503, "log-readable")
            assert path in capsys.readouterr().out
        assert log.events == []
        # An entry that is too long for a bundle can only be one that was changed.
        async with changing(database_url) as connection:
            await connection.execute(entries.update().where(entries.c.seq == 291).values(leaf=bytes(1 << 16)))
        told(await client.get("/log/tile/entries/001.p/44"), 503, "log-readable")


async def test_a_bundle_whose_reading_cannot_be_recorded_is_not_shown(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'log.db'}"
    await Place(database, tmp_path).fill(3, [3])
    async with face(database) as (client, log):
        log.away = True
        response = await client.get("/log/tile/entries/000.p/3")
        told(response, 503, "record-before-release")
        assert b"CN/GOV" not in response.content
        assert (await client.get("/log/tile/0/000.p/3")).status_code == 200


async def test_strangers_wait_for_each_other_and_not_without_end(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'log.db'}"
    await Place(database, tmp_path).fill(3, [3])
    async with face(database) as (client, log):
        reader, gate, inside = log.reader, asyncio.Event(), 0

        class Slow:
            def __getattr__(self, name: str) -> Any:
                return getattr(reader, name)

            async def latest_checkpoint(self) -> Any:
                nonlocal inside
                inside += 1
                await gate.wait()
                return await reader.latest_checkpoint()

        log.reader = cast(Any, Slow())
        waiting = {asyncio.ensure_future(client.get("/log/tile/0/000.p/1")) for _ in range(80)}
        refused: set[asyncio.Future[httpx.Response]] = set()
        while len(refused) < 12:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            refused |= done
        assert {(each.result().status_code, each.result().json()["rule"]) for each in refused} == {
            (503, "concurrency-limit")
        }
        assert inside == 4
        # Auditors do not wait for them.
        log.reader = reader
        assert (await client.get("/log/tile/entries/000.p/1")).status_code == 200
        gate.set()
        assert {(await each).status_code for each in waiting} == {200}
        # Whoever came too late may come again.
        assert (await client.get("/log/tile/0/000.p/1")).status_code == 200


# A real gateway: who is let in, and what its answers look like on the wire.


@pytest_asyncio.fixture(loop_scope="module")
async def signed(desk: Desk) -> int:
    """Number of entries that a checkpoint of the gateway covers; a few, for the changes of the registry."""
    async with asyncio.timeout(20):
        while (found := await desk.get(None, "/log/checkpoint")).status_code == 404:
            await asyncio.sleep(0.02)
    return int(found.text.split("\n")[1])


async def last_event(desk: Desk) -> LogEvent:
    engine = create_engine(f"sqlite:///{desk.trial.folder / 'log.db'}")
    try:
        async with engine.connect() as connection:
            query = sa.select(entries.c.leaf).where(entries.c.outcome == "access").order_by(entries.c.seq.desc())
            return read_event((await connection.execute(query.limit(1))).scalar_one())
    finally:
        await engine.dispose()


@pytest.mark.asyncio(loop_scope="module")
async def test_anybody_may_read_checkpoint_and_hashes_and_keep_them(desk: Desk, signed: int) -> None:
    checkpoint = await desk.get(None, "/log/checkpoint")
    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    assert checkpoint.headers["cache-control"] == "public, max-age=1"
    vkey = (await desk.get(None, "/v1/keys")).json()["logs"][0]
    assert checkpoint.text.split("\n")[0] == vkey.split("+")[0]
    tile = await desk.get(None, f"/log/tile/0/000.p/{signed}")
    assert tile.status_code == 200
    assert len(tile.content) == signed * 32
    assert tile.headers["content-type"] == BYTES
    assert tile.headers["cache-control"] == f"public, {IMMUTABLE}"
    assert tile.headers["x-content-type-options"] == "nosniff"
    for party in ("auditor", "stranger"):
        assert (await desk.get(party, f"/log/tile/0/000.p/{signed}")).content == tile.content


@pytest.mark.asyncio(loop_scope="module")
async def test_who_has_it_already_is_told_so(desk: Desk, signed: int) -> None:
    path = f"/log/tile/0/000.p/{signed}"
    tag = (await desk.get(None, path)).headers["etag"]
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        known = await desk.get(None, path, If_None_Match=sent)
        assert (known.status_code, known.content) == (304, b""), sent
        assert known.headers["etag"] == tag
        assert known.headers["cache-control"] == f"public, {IMMUTABLE}"
    for sent in ('"other"', tag.strip('"'), ""):
        assert (await desk.get(None, path, If_None_Match=sent)).status_code == 200, sent


@pytest.mark.asyncio(loop_scope="module")
async def test_head_tells_the_same_without_the_body(desk: Desk, signed: int) -> None:
    for party, path in (
        (None, f"/log/tile/0/000.p/{signed}"),
        (None, "/log/checkpoint"),
        ("auditor", f"/log/tile/entries/000.p/{signed}"),
    ):
        got, head = await desk.get(party, path), await desk.call(party, "HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "cache-control"):
            assert head.headers[name] == got.headers[name]
    assert head.headers["content-length"] == str(len(gzip.compress(got.content, 4, mtime=0)))


@pytest.mark.asyncio(loop_scope="module")
async def test_bundles_are_for_auditors_and_each_look_is_on_record(desk: Desk, signed: int) -> None:
    path = f"/log/tile/entries/000.p/{signed}"
    told(await desk.get(None, path), 401, "client-certificate")
    for party in sorted(set(PARTIES) - {"auditor"}):
        told(await desk.get(party, path), 403, "role")
    bundle = await desk.get("auditor", path, Accept_Encoding="identity")
    assert bundle.status_code == 200
    assert bundle.headers["content-type"] == BYTES
    assert bundle.headers["cache-control"] == f"private, {IMMUTABLE}"
    assert bundle.headers["vary"] == "accept-encoding"
    hashes = (await desk.get(None, f"/log/tile/0/000.p/{signed}")).content
    assert b"".join(hash_leaf(leaf) for leaf in unpack_bundle(bundle.content)) == hashes
    event = await last_event(desk)
    assert (event.kind, event.act, event.user) == ("access", "log.bundle", "张三")
    assert event.details == {"first": 0, "count": signed}
    # So is a look at what the auditor has already.
    again = await desk.get("auditor", path, Accept_Encoding="identity", If_None_Match=bundle.headers["etag"])
    assert again.status_code == 304
    assert (await last_event(desk)).id != event.id


@pytest.mark.asyncio(loop_scope="module")
async def test_bundles_are_compressed_for_those_who_say_that_they_can_read_it(desk: Desk, signed: int) -> None:
    path = f"/log/tile/entries/000.p/{signed}"
    plain = await desk.get("auditor", path, Accept_Encoding="identity")
    assert "content-encoding" not in plain.headers
    for sent in ("gzip", "br;q=1, GZIP ; q=0.5", "x-gzip"):
        packed = await desk.get("auditor", path, Accept_Encoding=sent)
        assert packed.headers["content-encoding"] == "gzip", sent
        assert packed.content == plain.content
        assert int(packed.headers["content-length"]) < len(plain.content)
        assert packed.headers["etag"] != plain.headers["etag"], "other bytes, another tag"
    async with desk.client("auditor").stream("GET", path, headers={"accept-encoding": "gzip"}) as streamed:
        raw = b"".join([part async for part in streamed.aiter_raw()])
    assert raw == gzip.compress(plain.content, 4, mtime=0), "the same bytes every time"
    for sent in ("br", "gzip;q=0", "gzip; q=0.000", ""):
        assert "content-encoding" not in (await desk.get("auditor", path, Accept_Encoding=sent)).headers, sent


BAD_PATHS = [
    *(
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/001/000",
        "tile/0/x000/000",
    ),
    *("tile/0/x00/000", "tile/0/X001/000", "tile/0/x001", "tile/0/x001/", "tile/0/x000/x001/000", "tile/00/000"),
    *("tile/-1/000", "tile/64/000", "tile/100/000", "tile/+0/000", "tile/0/000.p", "tile/0/000.p/", "tile/0/000.p/0"),
    *(
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000.p/1/",
        "tile/0/000.p/1/1",
        "tile/0/000.P/1",
    ),
    *(
        "tile/0/%D9%A0%D9%A0%D9%A0",
        "tile/0/000%00",
        "tile/0/000%0A",
        "tile/0/%30%30%30",
        "tile/0//000",
        "tile/data/000",
        "Tile/0/000",
    ),
    *("tile/0/x999/x999/x999/x999/x999/x999/999", f"tile/0/{'x000/' * 200}000", "tile/0/..%2F0%2F000", "checkpoint/"),
    *("tile/entries", "tile/entries/", "tile/entries/0", "tile/entries/000.p/256", "tile/entries/x000/000", "", "keys"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", BAD_PATHS)
async def test_an_address_that_is_none_is_not_found(desk: Desk, path: str) -> None:
    response = await desk.get("auditor", f"/log/{path}")
    told(response, 404, "exists")
    assert response.headers["cache-control"] == "no-store"
    assert "address" in response.json()["detail"]


@pytest.mark.asyncio(loop_scope="module")
async def test_other_methods_and_parameters_are_refused(desk: Desk, signed: int) -> None:
    for path in ("/log/checkpoint", "/log/tile/0/000.p/1", "/log/tile/entries/000.p/1"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            response = await desk.call("auditor", method, path)
            told(response, 405, "method")
            assert response.headers["allow"] == "GET, HEAD"
        told(await desk.get("auditor", f"{path}?x=1"), 400, "query-parameter")
    chinese = await desk.get(None, "/log/tile/9/000", lang="zh")
    assert chinese.json()["detail"] == "此处没有最新检查点之下的该数据块。"


DOCUMENT = Path(__file__).parents[2] / "docs/log-formats.md"


@pytest.mark.asyncio(loop_scope="module")
async def test_the_commands_of_the_document_verify_a_receipt_of_the_gateway(
    desk: Desk, signed: int, tmp_path: Path, go_verifier: ForeignVerifier, aics_verifier: ForeignVerifier
) -> None:
    """As an outsider runs them, over HTTPS and without a certificate; with another key all of them refuse."""
    engine = create_engine(f"sqlite:///{desk.trial.folder / 'log.db'}")
    entry = await LogReader(engine).entry_at(0)
    await engine.dispose()
    assert entry is not None
    receipt = await desk.get("auditor", f"/v1/exchanges/{entry.exchange_id}/receipt")
    assert receipt.status_code == 200
    (tmp_path / "receipt.json").write_bytes(receipt.content)
    (tmp_path / "tests").symlink_to(DOCUMENT.parents[1] / "tests")
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    environment = {
        **os.environ,
        **aics_verifier.environment,
        "PATH": f"{AICS / 'bin'}:{os.environ['PATH']}",
        "GATEWAY": desk.trial.url,
        "CA": str(desk.trial.trust_anchors),
    }

    async def run(vkey: str, commands: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", commands),
            cwd=tmp_path,
            env={**environment, "VKEY": vkey},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode, said.decode()

    vkey = (await desk.get(None, "/v1/keys")).json()["logs"][0]
    other = NoteSigner.generate(vkey.split("+")[0]).verifier.vkey
    for block in blocks:
        code, said = await run(vkey, block)
        assert code == 0, said
    for command in [line for block in blocks for line in block.splitlines() if "$VKEY" in line]:
        assert (await run(other, f'export SSL_CERT_FILE="$CA" INDEX=0\n{command}'))[0] != 0, command
