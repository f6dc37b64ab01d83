"""A log and its witnesses over real sockets: what becomes final, what stays pending, and what ends the start."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import certifi
import pytest
import uvicorn
from structlog.testing import capture_logs

from exchange import CorruptLogError, NoteSigner, Settings, TrustPolicy, WitnessApp, best_checkpoint, open_checkpoint
from exchange.log.log import ExchangeLog
from exchange.transparency.checkpoint import Checkpoint
from exchange.transparency.cosignature import Cosigner
from exchange.transparency.merkle import hash_leaf
from exchange.witness.folder import WitnessFolder
from exchange.witness.protocol import request_body
from exchange.witness.witness import Witness
from gateway.cli import witness_checks
from gateway.witness_check import check_log_with_witnesses
from gateway.witness_client import WitnessError
from gateway.witnessing import Witnessing
from tests.exchange.log_kit import ORIGIN, Place, attempt
from tests.exchange.witness_kit import witness_in
from tests.waiting import until

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


@dataclass
class Office:
    """One witness with an address of its own, which stays while it comes and goes."""

    folder: Path
    vkey: str
    """Of the log that it knows."""
    place: socket.socket = field(default_factory=lambda: bound(0))
    """Holds the port, and does not listen: who connects while the witness is not open is refused."""

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.cosigner = WitnessFolder(self.folder).cosigner(f"{self.folder.name}.example")
        self.witness: Witness = witness_in(self.folder, self.vkey, cosigner=self.cosigner)

    @property
    def port(self) -> int:
        return int(self.place.getsockname()[1])

    @property
    def line(self) -> str:
        return f"witness {self.folder.name} {self.cosigner.verifier.vkey} http://127.0.0.1:{self.port}/\n"

    @asynccontextmanager
    async def open(self, application: Application | None = None) -> AsyncIterator[None]:
        """Answer requests while the block lasts."""
        served = WitnessApp(self.witness, "about\n")
        config = uvicorn.Config(
            application or served, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server._serve([bound(self.port)]))
        await until(lambda: server.started)
        try:
            yield
        finally:
            server.should_exit = True
            await task
            served.close()


def bound(port: int) -> socket.socket:
    """A socket at a port of 127.0.0.1 that others of ours may be bound to, too."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made


def policy_of(*offices: Office, quorum: str = "all") -> TrustPolicy:
    names = " ".join([office.folder.name for office in offices])
    lines = "".join([office.line for office in offices])
    return TrustPolicy.from_text(f"{lines}group g {quorum} {names}\nquorum g\n")


@asynccontextmanager
async def witnessing(log: ExchangeLog, policy: TrustPolicy, **options: Any) -> AsyncIterator[Witnessing]:
    options = {"interval": 0.05, "timeout": 2.0, **options}
    working = Witnessing(log, policy, **options)
    await working.start()
    try:
        yield working
    finally:
        await working.stop()


@pytest.fixture
def offices(tmp_path: Path) -> Iterator[tuple[NoteSigner, Office, Office]]:
    signer = NoteSigner.generate(ORIGIN)
    audit, civil = [Office(tmp_path / name, signer.verifier.vkey) for name in ("audit", "civil")]
    yield signer, audit, civil
    for office in (audit, civil):
        office.place.close()
        office.witness._state.close()


async def test_a_record_becomes_final_when_the_quorum_has_cosigned(
    database_url: str, tmp_path: Path, offices: tuple[NoteSigner, Office, Office]
) -> None:
    signer, audit, civil = offices
    policy = policy_of(audit, civil)
    place = Place(database_url, tmp_path, signer)
    async with place.log(checkpoint_interval=0.05) as log, audit.open():
        async with witnessing(log, policy) as working:
            seq = await attempt(0).append_to(log)
            await log.checkpoint()
            await until(lambda: [one.state for one in working.standing()] == ["ok", "away"])
            assert not working.healthy
            # One of two is not enough; nothing else waits for it.
            assert not await working.final(seq + 1, 0.01)
            assert not (await best_checkpoint(log.reader, policy, seq)).final
            async with civil.open():
                assert await working.final(seq + 1, 10)
                note, final = await best_checkpoint(log.reader, policy, seq)
                assert final
                assert open_checkpoint(note, place.verifiers).size == seq + 1
                assert policy.cosigned(note).keys() == {"audit", "civil"}
                for number in range(1, 4):
                    newest = await attempt(number).append_to(log)
                    await log.checkpoint()
                    assert await working.final(newest + 1, 10)
                assert working.healthy
                assert working.refusal() is None
                assert [(one.state, one.size) for one in working.standing()] == [("ok", newest + 1)] * 2
                # The first record keeps the checkpoint it had, whoever asks and whenever.
                assert await best_checkpoint(log.reader, policy, seq) == (note, True)
        # Another gateway of the log, or the same one after a restart, knows what is final without asking.
        async with witnessing(log, policy) as again:
            assert await again.final(seq + 1, 0.01)
        await check_log_with_witnesses(policy, database=place.database, log_key=place.log_key)
    await place.check()


async def test_two_gateways_of_one_log_do_not_get_in_each_others_way(
    tmp_path: Path, offices: tuple[NoteSigner, Office, Office]
) -> None:
    signer, audit, _ = offices
    policy = policy_of(audit)
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path, signer)
    async with (
        place.log("gateway-1") as one,
        place.log("gateway-2") as two,
        audit.open(),
        witnessing(one, policy) as first,
        witnessing(two, policy) as second,
    ):
        for number in range(12):
            log, working = ((one, second), (two, first))[number % 2]
            seq = await attempt(number).append_to(log)
            await log.checkpoint()
            assert await working.final(seq + 1, 10)
        await until(lambda: {state.state for state in (*first.standing(), *second.standing())} == {"ok"})
    assert not audit.witness._state.evidence()


async def test_an_old_copy_of_the_database_is_found_at_the_start_by_what_witnesses_saw(
    tmp_path: Path, offices: tuple[NoteSigner, Office, Office]
) -> None:
    """Also if the file beside the key was put back with it."""
    signer, audit, civil = offices
    policy = policy_of(audit, civil)
    folders = [tmp_path / name for name in ("now", "before", "rewritten", "empty")]
    for folder in folders:
        folder.mkdir()
    now, before, rewritten, empty = [Place(f"sqlite:///{one / 'log.db'}", one, signer) for one in folders]
    await now.fill(40, [30])
    async with now.reader() as reader:
        (seen,) = await reader.checkpoints_from(1, 1)
    assert audit.witness.add_checkpoint(request_body(0, [], seen.note)).status == 200
    await before.fill(20, [20])
    await rewritten.fill(40, [40])

    async def check(place: Place) -> None:
        await check_log_with_witnesses(policy, database=place.database, log_key=place.log_key, timeout=2)

    await check(before)  # nobody answers: nothing is proven
    async with audit.open():
        await check(now)
        with pytest.raises(CorruptLogError, match=r"has 20 entries, and witness audit .* 30"):
            await check(before)
        with pytest.raises(CorruptLogError, match="first 30 entries are not those"):
            await check(rewritten)
        with pytest.raises(CorruptLogError, match="has 0 entries"):
            await check(empty)
        # A log that ran on without asking is found when it asks, and from then on everything is to be refused.
        async with before.log() as log, witnessing(log, policy) as working:
            with capture_logs() as told:
                await until(lambda: working.refusal() is not None)
            assert [one.state for one in working.standing()] == ["ahead", "away"]
            assert {one["log_level"] for one in told if one.get("state") == "ahead"} == {"critical"}
            refusal = working.refusal()
            assert refusal is not None
            assert refusal.rule == "log-as-witnessed"
            # The proof stands, whether or not the witness can be reached later.
            working._failed(working._asked[0], WitnessError("away", "no answer"))
            assert working.refusal() is not None
    stranger = NoteSigner.generate(ORIGIN)
    other = Place(f"sqlite:///{tmp_path / 'other.db'}", folders[1], stranger)
    async with audit.open():
        await check(other)  # what the witness shows is not signed by this key: it proves nothing


async def test_doctor_tells_how_it_stands_with_each_witness(
    tmp_path: Path, offices: tuple[NoteSigner, Office, Office]
) -> None:
    signer, audit, civil = offices
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path, signer)
    await place.fill(20, [20])
    longer = tmp_path / "longer"
    longer.mkdir()
    await Place(f"sqlite:///{longer / 'log.db'}", longer, signer).fill(30, [30])
    file = tmp_path / "policy.txt"
    file.write_text(policy_of(audit, civil).text)
    settings = Settings.model_construct(
        witness_policy=file,
        log_key=place.log_key,
        log_database=place.database,
        trust_anchors=Path(certifi.where()),
    )

    async def states() -> list[tuple[str, str]]:
        return [(one.name, one.state) for one in await witness_checks.witnesses(settings)]

    def show(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "log.db")) as db:
            ((note,),) = db.execute("SELECT note FROM log_checkpoints").fetchall()
        state = audit.witness._state.latest(ORIGIN)
        with closing(sqlite3.connect(WitnessFolder(audit.folder).database)) as db:
            db.execute("DELETE FROM witness_logs")
            db.commit()
        assert audit.witness.add_checkpoint(request_body(0, [], note)).status == 200
        assert state is None or state.checkpoint.size == 20

    async with audit.open():
        assert await states() == [("witness policy", "ok"), ("witness audit", "warning"), ("witness civil", "warning")]
        show(tmp_path)
        assert await states() == [("witness policy", "ok"), ("witness audit", "ok"), ("witness civil", "warning")]
        show(longer)
        assert (await states())[1] == ("witness audit", "failed")
    file.write_text(f"log {NoteSigner.generate(ORIGIN).verifier.vkey}\nquorum none\n")
    assert await states() == [("witness policy", "failed")]
    file.write_text("quorum audit\n")
    assert await states() == [("witness policy", "failed")]
    settings = Settings.model_construct(witness_policy=None)
    assert await states() == []


def answering(status: int, body: bytes, kind: str = "text/plain") -> Application:
    """A witness that always says the same."""

    async def application(scope: Message, receive: object, send: Callable[[Message], Awaitable[None]]) -> None:
        headers = [(b"content-type", kind.encode()), (b"location", b"http://127.0.0.1:9/")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


def lies(audit: Office) -> Sequence[tuple[Application, str]]:
    """Witnesses that are not what they should be, and what we say of them."""
    stranger = Cosigner.generate(audit.cosigner.verifier.name)
    elsewhere = Checkpoint(ORIGIN, 5, hash_leaf(b""))
    size = "text/x.tlog.size"
    return [
        (answering(404, b"no"), "unknown-log"),
        (answering(403, b"no"), "refused"),
        (answering(422, b"no"), "refused"),
        (answering(500, b"\xff\xfe"), "away"),
        (answering(302, b""), "away"),
        (answering(200, b""), "away"),
        (answering(200, b"\xff"), "away"),
        (answering(200, b"x" * 300_000), "away"),
        (answering(200, stranger.cosign(elsewhere.text, 1000).encode()), "away"),
        (answering(200, audit.cosigner.cosign(elsewhere.text, 1000).encode()), "away"),
        (answering(409, b"0\n", size), "away"),
        (answering(409, b"1\n", size), "away"),
        (answering(409, b"999\n", size), "away"),
        (answering(409, b"-1\n", size), "away"),
        (answering(409, b"5\n", "text/plain"), "away"),
    ]


async def test_what_a_witness_says_counts_only_if_it_verifies(
    tmp_path: Path, offices: tuple[NoteSigner, Office, Office]
) -> None:
    signer, audit, _ = offices
    policy = policy_of(audit)
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path, signer)
    async with place.log() as log:
        await attempt(0).append_to(log)
        await log.checkpoint()
        for application, state in lies(audit):
            async with audit.open(application), witnessing(log, policy) as working:
                await until(lambda working=working: working.standing()[0].state != "new")  # type: ignore[misc]
                assert working.standing()[0].state == state, working.standing()[0]
                assert working.standing()[0].problem
        assert await log.reader.cosigned_from(0, 10) == []
        async with audit.open(), witnessing(log, policy) as working:
            assert await working.final(1, 10)


async def test_a_witness_that_never_answers_holds_up_nobody(
    tmp_path: Path, offices: tuple[NoteSigner, Office, Office]
) -> None:
    signer, audit, civil = offices
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path, signer)
    civil.place.listen()  # nobody accepts: the connection is made by the kernel, and then nothing comes
    async with place.log() as log, audit.open():
        async with witnessing(log, policy_of(audit, civil, quorum="any"), timeout=30) as working:
            seq = await attempt(0).append_to(log)
            await log.checkpoint()
            assert await working.final(seq + 1, 10)
            assert [one.state for one in working.standing()] == ["ok", "new"]
        async with witnessing(log, policy_of(civil), timeout=0.1) as working:
            await until(lambda: working.standing()[0].state == "away")


async def test_it_stops_whatever_it_was_about_to_do(tmp_path: Path, offices: tuple[NoteSigner, Office, Office]) -> None:
    """Also when it is told to look for a checkpoint and to stop in the same moment."""
    signer, audit, _ = offices
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path, signer)
    async with place.log() as log:
        for turns in range(6):
            working = Witnessing(log, policy_of(audit), interval=60)
            await working.start()
            await until(lambda working=working: working._kicked._waiters)  # type: ignore[misc]
            working.kick()
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await working.stop()


async def test_a_policy_that_does_not_fit_is_refused(
    tmp_path: Path, offices: tuple[NoteSigner, Office, Office]
) -> None:
    signer, audit, _ = offices
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path, signer)
    one, two = Cosigner.generate("w.example").verifier.vkey, Cosigner.generate("w.example").verifier.vkey
    other = NoteSigner.generate(ORIGIN).verifier.vkey
    async with place.log() as log:
        with pytest.raises(ValueError, match="same name"):
            Witnessing(log, TrustPolicy.from_text(f"witness a {one}\nwitness b {two}\nquorum none\n"))
        with pytest.raises(ValueError, match="does not name this log"):
            Witnessing(log, TrustPolicy.from_text(f"log {other}\nquorum none\n"))
        named = Witnessing(log, TrustPolicy.from_text(f"log {log.vkey}\n{audit.line}quorum none\n"))
        await named.stop()
