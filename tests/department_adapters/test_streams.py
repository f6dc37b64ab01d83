"""Answers that leave an adapter piece by piece, and large requests that reach a source as a file."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from department_adapters import SourceAnswer, SourceRequest
from department_adapters.guard import Guarded
from department_adapters.http.section import HttpService
from department_adapters.streams import Outgoing
from deploy.nats import NatsServer
from exchange import (
    PART_SIZE,
    Answer,
    AnswerBrokenError,
    AnswerTimeoutError,
    BackendError,
    BadAnswerError,
    CallerGoneError,
    LedgerLine,
    LogUnavailableError,
    MeshError,
    QuestionRefusedError,
    Spool,
    SpoolRoomError,
    read_answer_statement,
    read_ledger,
)
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import ENTERPRISES, Carrier, FullDisk, FunctionSource, adapter_on, until

PIECE = 100_000


class Pieces:
    """A system that gives pieces, and counts what was taken of it."""

    def __init__(self, count: int, *, size: int | None = None, then: Callable[[], object] | None = None) -> None:
        self.count = count
        self.size = size
        self.then = then
        self.given = 0
        self.ended = False
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            for number in range(self.count):
                await self.go_on.wait()
                self.given += 1
                yield bytes([number % 251]) * PIECE
            if self.then is not None:
                self.then()
        finally:
            self.ended = True

    @property
    def body(self) -> bytes:
        return b"".join([bytes([number % 251]) * PIECE for number in range(self.count)])

    def source(self) -> FunctionSource:
        async def answer(request: SourceRequest) -> SourceAnswer:
            return SourceAnswer(200, [(b"content-type", b"text/plain")], b"", self.pieces(), self.size)

        return FunctionSource(answer)


def fail(error: BaseException) -> Callable[[], object]:
    def then() -> object:
        raise error

    return then


def record_of(carrier: Carrier) -> dict[str, object]:
    (record,) = carrier.log.records
    found: dict[str, object] = json.loads(record)
    return found


def lines_of(folder: Path) -> list[LedgerLine]:
    return list(read_ledger(folder))


@pytest.mark.parametrize("count", [0, 1, 5, 6, 60])
@pytest.mark.parametrize("told", [True, False])
async def test_a_stream_of_any_length_arrives_whole(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk, ledger_folder: Path, count: int, told: bool
) -> None:
    system = Pieces(count, size=count * PIECE if told else None)
    async with adapter_on(nats_server, pki, {"enterprises": system.source()}, ledger) as runner:
        answer = await carrier.perform()
        assert answer.body == system.body
        await until(lambda: not runner._tasks)
        assert (runner._large._streams, system.ended) == ({}, True)
        counts = runner.counts()[ENTERPRISES]
        assert (counts.answered, counts.errors, counts.in_progress) == (1, 0, 0)
    assert record_of(carrier)["outcome"] == "answered"
    lines = lines_of(ledger_folder)
    assert [line.kind for line in lines] == (["intent", "answer"] if count > 5 else ["answer"])


async def test_a_system_is_read_no_faster_than_the_caller_takes(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    system = Pieces(400)
    async with adapter_on(nats_server, pki, {"enterprises": system.source()}, ledger) as runner:
        answer = await carrier.broker.perform(carrier.query("GET"))
        taken, go_on = 0, asyncio.Event()

        async def take(piece: bytes) -> None:
            nonlocal taken
            taken += len(piece)
            await go_on.wait()

        assert answer.stream is not None
        pouring = asyncio.create_task(answer.stream.pour(take))
        # All that may be on its way: what waits in the adapter, the parts in flight, and those held back.
        most = (1 + 8 + 1 + 3) * PART_SIZE // PIECE + 1
        await until(lambda: taken and not runner._large._streams[next(iter(runner._large._streams))]._asked)
        before = -1
        while before != system.given:
            before = system.given
            for _ in range(20):
                await asyncio.sleep(0.001)
        assert 0 < system.given <= most
        go_on.set()
        await pouring
        assert taken == 400 * PIECE


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "error",
    [BackendError(), AnswerTimeoutError(seconds="1"), ZeroDivisionError("secret")],
    ids=lambda error: type(error).__name__,
)
async def test_a_system_that_breaks_off_leaves_one_record_and_its_line(
    nats_server: NatsServer,
    pki: Pki,
    carrier: Carrier,
    ledger: FullDisk,
    ledger_folder: Path,
    method: str,
    error: Exception,
) -> None:
    system = Pieces(20, then=fail(error))
    async with adapter_on(nats_server, pki, {"enterprises": system.source()}, ledger) as runner:
        with pytest.raises(MeshError) as raised:
            await carrier.perform(method)
        await until(lambda: not runner._tasks)
        assert runner.counts()[ENTERPRISES].errors == 1
    record = record_of(carrier)
    # Of what changes nothing it is said that it failed; of the rest, that nobody knows.
    said = {"GET": ("failed", "backend-failed"), "POST": ("unknown", "answer-timeout")}[method]
    assert (record["outcome"], record["code"], record["status"]) == (*said, 200)
    assert raised.value.code == said[1]
    assert "secret" not in str(raised.value)
    kinds = [line.kind for line in lines_of(ledger_folder)]
    assert kinds == ["intent", "answer"]
    statement = read_answer_statement(bytes(lines_of(ledger_folder)[1].answer))  # type: ignore[arg-type]
    left = len(system.body) // PART_SIZE * PART_SIZE  # the rest waited for more
    assert (statement.error, statement.body_size) == (said[1], left), "what left stands on the ledger"


async def test_a_caller_that_leaves_ends_the_question_to_the_system(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk, ledger_folder: Path
) -> None:
    system = Pieces(1000)
    async with adapter_on(nats_server, pki, {"enterprises": system.source()}, ledger, concurrency=1) as runner:
        answer = await carrier.broker.perform(carrier.query("GET"))

        async def leave(piece: bytes) -> None:
            raise CallerGoneError

        assert answer.stream is not None
        with pytest.raises(CallerGoneError):
            await answer.stream.pour(leave)
        await until(lambda: not runner._tasks)
        assert system.ended
        assert system.given < 100
        assert runner._services.turns[ENTERPRISES].held == 0, "the next question has its turn"
    statement = read_answer_statement(bytes(lines_of(ledger_folder)[1].answer))  # type: ignore[arg-type]
    assert (statement.error, statement.body_size % PART_SIZE) == ("answer-broken", 0)


async def test_a_system_that_drips_is_passed_on_as_it_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("department_adapters.streams.DRIP_SECONDS", 0.01)
    drops: asyncio.Queue[bytes] = asyncio.Queue()
    replies: list[tuple[bytes, bytes]] = []

    async def stream() -> AsyncIterator[bytes]:
        while piece := await drops.get():
            yield piece

    outgoing = Outgoing(stream(), b"salt", max_answer=1000, reply=lambda to, part: replies.append((to, part)))
    running = asyncio.create_task(outgoing.run())
    outgoing.asked(0, b"first")
    await drops.put(b"drip")
    await until(lambda: replies == [(b"first", b"drip")])
    await drops.put(b"drop")
    await until(lambda: outgoing._due)  # nobody asked for it yet
    outgoing.asked(1, b"second")
    assert replies[1:] == [(b"second", b"drop")]
    outgoing.asked(2, b"third")
    await drops.put(b"")
    assert await running is None
    assert replies[2:] == [(b"third", b"")]
    assert outgoing.body_digest == hashlib.sha256(b"saltdripdrop").hexdigest()


async def test_more_than_may_leave_is_broken_off(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    told, untold = Pieces(60, size=60 * PIECE), Pieces(60)
    for system in (told, untold):
        async with adapter_on(
            nats_server, pki, {"enterprises": system.source()}, ledger, max_answer=40 * PIECE
        ) as runner:
            with pytest.raises(BadAnswerError) as raised:
                await carrier.perform()
            assert raised.value.rule == "answer-size"
            await until(lambda: not runner._tasks)
        assert system.ended or not system.given
    assert carrier.log.happened.count("failed answer-size") == 2
    assert (told.given, untold.given) == (0, 41)


async def test_under_release_terms_an_answer_is_whole_in_memory_up_to_a_limit(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    document = json.dumps({"a": ["x" * 1000] * 1000, "b": 1}).encode()

    async def pieces(content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), PIECE):
            yield content[start : start + PIECE]

    async def answer(_: SourceRequest) -> SourceAnswer:
        return SourceAnswer(200, [(b"content-type", b"application/json")], b"", pieces(document), len(document))

    async with adapter_on(
        nats_server, pki, {"enterprises": FunctionSource(answer)}, ledger, max_whole=2 << 20
    ) as runner:
        released = await carrier.perform(release=("a",))
        assert json.loads(released.body) == {"a": ["x" * 1000] * 1000}
        runner._large.max_whole = len(document) - 1
        with pytest.raises(BadAnswerError) as raised:
            await carrier.perform(release=("a",))
        assert raised.value.rule == "answer-size"


async def test_without_its_line_on_the_ledger_no_stream_begins_or_ends(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    system = Pieces(60)
    async with adapter_on(nats_server, pki, {"enterprises": system.source()}, ledger):
        ledger.full = True
        with pytest.raises(LogUnavailableError):
            await carrier.perform()
        assert "piece" not in carrier.log.happened
        assert system.ended
        ledger.full = False
        answer = await carrier.broker.perform(carrier.query("GET"))

        async def take(piece: bytes) -> None:
            ledger.full = True

        assert answer.stream is not None
        with pytest.raises(LogUnavailableError):
            await answer.stream.pour(take)
    assert [json.loads(each)["outcome"] for each in carrier.log.records] == ["failed", "failed"]


async def test_an_adapter_that_leaves_finishes_its_streams(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    system = Pieces(60)
    async with adapter_on(nats_server, pki, {"enterprises": system.source()}, ledger) as runner:
        answer = await carrier.broker.perform(carrier.query("GET"))
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        assert (await carrier.finish(answer)).body == system.body
        await asyncio.wait_for(stopping, 10)


async def test_an_adapter_that_has_no_time_left_says_so(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    system = Pieces(60)
    async with adapter_on(nats_server, pki, {"enterprises": system.source()}, ledger, grace=0.05):
        answer = await carrier.broker.perform(carrier.query("GET"))
        system.go_on.clear()
        finishing: asyncio.Task[Answer] = asyncio.create_task(carrier.finish(answer))
    with pytest.raises(AnswerBrokenError) as raised:
        await asyncio.wait_for(finishing, 10)
    assert raised.value.rule == "answer-complete"
    assert record_of(carrier)["outcome"] == "failed"


# -- requests


class Sink(FunctionSource):
    """Takes large bodies as files, and answers with their digest."""

    takes_spooled = True

    def __init__(self) -> None:
        async def answer(request: SourceRequest) -> SourceAnswer:
            assert request.spooled is not None
            assert not request.body
            digest = hashlib.sha256()
            async for piece in request.spooled.pieces():
                digest.update(piece)
            return SourceAnswer(200, [], digest.digest())

        super().__init__(answer)


async def test_a_large_request_reaches_a_source_as_a_file(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk, tmp_path: Path
) -> None:
    body = os.urandom(30 * PART_SIZE + 5)
    spool, here = Spool(tmp_path), Spool(tmp_path)
    sent = here.open(len(body))
    await sent.add(body)
    await sent.finish()
    async with adapter_on(nats_server, pki, {"enterprises": Sink()}, ledger, spool=spool, max_whole=1) as runner:
        for each in (body, sent):
            query = carrier.query("POST", body=body)
            query.body = each
            answer = await carrier.broker.perform(query)
            assert answer.body == hashlib.sha256(body).digest()
        assert (spool.promised, runner._parts._uploads) == (0, {})
    sent.close()
    assert [each for each in tmp_path.iterdir() if each.is_file() and each.stat().st_size > PART_SIZE] == []


async def test_a_source_that_takes_no_files_gets_no_more_than_fits_in_memory(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    body = os.urandom(3 * PART_SIZE)

    async def answer(request: SourceRequest) -> SourceAnswer:
        return SourceAnswer(200, [], hashlib.sha256(request.body).digest())

    source = FunctionSource(answer)
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger, max_whole=len(body)) as runner:
        assert (await carrier.perform("POST", body=body)).body == hashlib.sha256(body).digest()
        runner._large.max_whole = len(body) - 1
        with pytest.raises(QuestionRefusedError):
            await carrier.perform("POST", body=body)
        assert len(source.asked) == 1


async def test_a_disk_without_room_is_told_before_and_in_the_middle(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = os.urandom(6 * PART_SIZE)
    source = Sink()
    spool = Spool()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger, spool=spool):
        spool._promised = 1 << 60
        with pytest.raises(MeshError) as raised:
            await carrier.perform("POST", body=body)
        assert raised.value.code == SpoolRoomError.code
        spool._promised = 0
        written = os.pwrite

        def full(descriptor: int, data: bytes, offset: int) -> int:
            if offset >= 3 * PART_SIZE:
                raise OSError(28, "No space left on device")
            return written(descriptor, data, offset)

        monkeypatch.setattr("os.pwrite", full)
        with pytest.raises(MeshError) as raised:
            await carrier.perform("POST", body=body)
        assert raised.value.code == SpoolRoomError.code
    assert source.asked == []
    assert carrier.log.happened == ["intent", "failed concurrency-limit"] * 2


async def test_services_have_limits_of_their_own(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    source = Sink()
    source.max_request = 2 * PART_SIZE  # type: ignore[attr-defined]  # as a guarded source has it
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        with pytest.raises(QuestionRefusedError):
            await carrier.perform("POST", body=bytes(3 * PART_SIZE))
        source.max_request = 3 * PART_SIZE  # type: ignore[attr-defined]
        assert (await carrier.perform("POST", body=bytes(3 * PART_SIZE))).status == 200


async def test_limits_of_a_section_are_those_of_its_service() -> None:
    section = HttpService(source="http", base_url="https://example.org", max_request=7, max_answer=8)
    source = section.guarded(section.make_source(max_answer=8), "x", concurrency=1, queue=1)
    assert (source.max_request, source.max_answer, source.takes_spooled) == (7, 8, True)
    assert Guarded(Pieces(1).source()).takes_spooled is False


def test_a_statement_of_an_opening_reads_back() -> None:
    """Fields in alphabetical order: its plain encoding is canonical."""
    from exchange import OpeningStatement

    names = [field.name for field in msgspec.structs.fields(OpeningStatement)]
    assert names == sorted(names)
