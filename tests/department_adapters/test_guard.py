"""What stands before a source: turns, the breaker, repeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from department_adapters import Source, SourceAnswer, SourceRequest
from department_adapters.guard import Breaker, Guarded, Turns
from department_adapters.section import BreakerSection
from department_adapters.source import NotAskedError, UnusableAnswerError, ask
from deploy.demo.identities import TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import (
    AnswerTimeoutError,
    BackendError,
    BackendUnavailableError,
    MeshError,
    OverloadedError,
    PayloadTooLargeError,
)
from tests.conftest import Pki, bus_users
from tests.department_adapters.adapter_kit import (
    ENTERPRISES,
    Carrier,
    FullDisk,
    FunctionSource,
    Gateway,
    adapter_on,
    fails,
    says,
    until,
)


def request(*, safe: bool = True, timeout: float = 5.0, waited: float = 0.0) -> SourceRequest:
    return SourceRequest("id", "GET" if safe else "POST", b"/x", [], b"", timeout, safe, waited)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Script:
    """A source that does one thing after another; the last one again and again."""

    def __init__(self, *ends: SourceAnswer | BaseException) -> None:
        self.ends = list(ends)
        self.asked: list[SourceRequest] = []

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def answer(self, request: SourceRequest) -> SourceAnswer:
        self.asked.append(request)
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if isinstance(end, BaseException):
            raise end
        return end


OK = SourceAnswer(200, [], b"ok")


def guarded(source: Source, clock: Clock, *, failures: int = 3, retries: int = 0) -> Guarded:
    return Guarded(source, breaker=Breaker(failures=failures, window=10, pause=5, clock=clock), retries=retries)


async def end_of(source: Source, question: SourceRequest | None = None) -> int | type[BaseException]:
    try:
        return (await ask(source, question or request())).status
    except (MeshError, OSError) as error:
        return type(error)


# -- turns


async def test_so_many_have_a_turn_so_many_wait_and_the_others_come_back() -> None:
    turns = Turns(concurrency=2, queue=1)
    far = time.perf_counter() + 60
    assert [await turns.take(far), await turns.take(far)] == [0.0, 0.0]
    third = asyncio.create_task(turns.take(far))
    await until(lambda: turns.held == 3)
    with pytest.raises(OverloadedError):
        await turns.take(far)
    assert not third.done()
    turns.give_back()
    assert await third > 0
    assert turns.held == 2
    for _ in range(2):
        turns.give_back()
    assert turns.held == 0


async def test_who_gives_up_waiting_leaves_its_place() -> None:
    turns = Turns(concurrency=1, queue=1)
    far = time.perf_counter() + 60
    await turns.take(far)
    for deadline in (time.perf_counter() + 0.01, time.perf_counter() - 1):
        with pytest.raises(AnswerTimeoutError):
            await turns.take(deadline)
    waiting = asyncio.create_task(turns.take(far))
    await until(lambda: turns.held == 2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert turns.held == 1
    turns.give_back()
    assert await turns.take(far) == 0.0


async def test_turns_are_had_in_the_order_of_asking() -> None:
    turns = Turns(concurrency=1, queue=3)
    far = time.perf_counter() + 60
    had: list[int] = []

    async def ask(number: int) -> None:
        await turns.take(far)
        had.append(number)

    await turns.take(far)
    waiting = [asyncio.create_task(ask(number)) for number in range(3)]
    await until(lambda: turns.held == 4)
    waiting[0].cancel()
    for number in (1, 2):
        turns.give_back()
        # Nobody comes between the one whose turn it is and its turn.
        late = asyncio.create_task(turns.take(time.perf_counter() + 0.01))
        with pytest.raises(AnswerTimeoutError):
            await late
        assert had[-1] == number
    assert had == [1, 2]
    assert turns.held == 1


@pytest.mark.parametrize("waits", [0, 1])
async def test_a_turn_that_comes_as_its_question_is_given_up_is_the_next_one_s(waits: int) -> None:
    turns = Turns(concurrency=1, queue=2)
    far = time.perf_counter() + 60
    await turns.take(far)
    given_up, *others = [asyncio.create_task(turns.take(far)) for _ in range(1 + waits)]
    await until(lambda: turns.held == 2 + waits)
    turns.give_back()
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    for other in others:
        assert await other > 0
        turns.give_back()
    assert turns.held == 0
    assert await turns.take(far) == 0.0


# -- the breaker


@pytest.mark.parametrize(
    "failure",
    [
        BackendError(),
        AnswerTimeoutError(seconds="1"),
        ConnectionResetError("of a source in code"),
        SourceAnswer(502, [], b""),
        SourceAnswer(503, [], b""),
    ],
    ids=["no answer", "broken in the middle of an act", "a broken connection", "502", "503"],
)
async def test_a_system_that_keeps_failing_is_left_alone_and_tried_again(failure: SourceAnswer | BaseException) -> None:
    clock, source = Clock(), Script(failure)
    guard = guarded(source, clock)
    for _ in range(3):
        assert guard.breaker.state == "closed"
        assert await end_of(guard) is not BackendUnavailableError
    assert (guard.breaker.state, guard.breaker.trips) == ("open", 1)
    assert await end_of(guard) is BackendUnavailableError
    with pytest.raises(BackendUnavailableError):
        guard.check()
    assert len(source.asked) == 3
    clock.now += 5
    assert guard.breaker.state == "half-open"
    guard.check()
    assert await end_of(guard) is not BackendUnavailableError  # it is let through, and fails
    assert (guard.breaker.state, guard.breaker.trips, len(source.asked)) == ("open", 2, 4)
    clock.now += 5
    source.ends = [OK]
    assert await end_of(guard) == 200
    assert guard.breaker.state == "closed"
    source.ends = [failure]
    for _ in range(2):  # what was before is forgotten
        await end_of(guard)
    assert guard.breaker.state == "closed"


@pytest.mark.parametrize(
    "end",
    [
        *(SourceAnswer(status, [], b"") for status in (200, 301, 400, 401, 404, 409, 422, 429, 499, 500, 501)),
        NotAskedError(),
        UnusableAnswerError(),
        OverloadedError(),
        PayloadTooLargeError(limit=1),
        KeyError("a fault in a source"),
    ],
    ids=lambda end: str(end.status) if isinstance(end, SourceAnswer) else type(end).__name__,
)
async def test_what_is_no_failure_of_the_system_opens_nothing(end: SourceAnswer | BaseException) -> None:
    guard = guarded(Script(end), Clock(), failures=1)
    for _ in range(50):
        try:
            await ask(guard, request())
        except (MeshError, KeyError) as error:
            assert type(error) is type(end)  # noqa: PT017
    assert (guard.breaker.state, guard.breaker.trips) == ("closed", 0)


async def test_half_open_lets_one_through_and_no_more() -> None:
    clock, let = Clock(), asyncio.Event()

    async def answer(_: SourceRequest) -> SourceAnswer:
        await let.wait()
        return OK

    source = FunctionSource(answer)
    guard = guarded(source, clock, failures=1)
    guard.breaker.failed(guard.breaker.admit())
    clock.now += 5
    probe = asyncio.create_task(guard.answer(request()))
    await until(lambda: source.asked)
    assert guard.breaker.state == "half-open"
    assert [await end_of(guard) for _ in range(20)] == [BackendUnavailableError] * 20
    let.set()
    assert (await probe).status == 200
    assert await end_of(guard) == 200
    assert guard.breaker.state == "closed"


async def test_a_probe_that_ends_without_a_verdict_makes_way_for_the_next() -> None:
    clock = Clock()
    source = Script(BackendError(), KeyError("a fault"), NotAskedError(), OK)
    guard = guarded(source, clock, failures=1)
    assert await end_of(guard) is BackendError
    clock.now += 5
    with pytest.raises(KeyError):
        await ask(guard, request())
    assert guard.breaker.state == "half-open"
    assert await end_of(guard) is NotAskedError
    never = guarded(FunctionSource(lambda _: asyncio.Event().wait()), clock)  # type: ignore[arg-type,return-value]
    never.breaker = guard.breaker
    probe = asyncio.create_task(never.answer(request()))
    await until(lambda: guard.breaker._probing)
    probe.cancel()  # the adapter is told to stop
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await end_of(guard) == 200
    assert guard.breaker.state == "closed"


async def test_a_deadline_that_passes_counts_unless_the_time_was_spent_in_the_queue() -> None:
    clock = Clock()
    hanging = guarded(FunctionSource(lambda _: asyncio.Event().wait()), clock)  # type: ignore[arg-type,return-value]
    for _ in range(5):
        assert await end_of(hanging, request(timeout=0.01, waited=4.99)) is AnswerTimeoutError
    assert hanging.breaker.trips == 0
    for _ in range(3):
        assert await end_of(hanging, request(timeout=0.01)) is AnswerTimeoutError
    assert hanging.breaker.trips == 1


def test_failures_count_within_the_window_and_only_if_they_prevail() -> None:
    clock = Clock()
    breaker = Breaker(failures=3, window=10, pause=5, clock=clock)
    for _ in range(9):  # one each six seconds: never three within ten
        breaker.failed(breaker.admit())
        clock.now += 6
    assert breaker.trips == 0
    clock.now += 60
    for _ in range(30):  # two of three questions succeed
        breaker.failed(breaker.admit())
        for _ in range(2):
            breaker.succeeded(breaker.admit())
    assert breaker.trips == 0
    clock.now += 60
    for _ in range(2):  # as many succeed as fail
        breaker.failed(breaker.admit())
        breaker.succeeded(breaker.admit())
    assert breaker.failed(breaker.admit())


def test_what_was_asked_before_the_breaker_changed_says_nothing() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, window=10, pause=5, clock=clock)
    old = [breaker.admit() for _ in range(10)]
    assert breaker.failed(old.pop())
    assert not any(breaker.failed(ticket) for ticket in old[:3])
    assert not any(breaker.succeeded(ticket) for ticket in old[:3])
    assert (breaker.state, breaker.trips) == ("open", 1)
    clock.now += 5
    probe = breaker.admit()
    assert not any(breaker.succeeded(ticket) for ticket in old[3:6])
    assert breaker.state == "half-open"
    assert breaker.succeeded(probe)
    assert not any(breaker.failed(ticket) for ticket in (*old[6:], probe))
    assert breaker.state == "closed"


@given(
    steps=st.lists(st.tuples(st.sampled_from(["admit", "good", "bad", "unsaid"]), st.floats(0, 4)), max_size=60),
    failures=st.integers(1, 4),
)
def test_whatever_happens_it_opens_only_by_failures_and_never_for_good(
    steps: list[tuple[str, float]], failures: int
) -> None:
    clock = Clock()
    breaker = Breaker(failures=failures, window=10, pause=5, clock=clock)
    tickets: list[int] = []
    bad = 0
    for step, passes in steps:
        clock.now += passes
        if step == "admit":
            before = breaker.state
            try:
                tickets.append(breaker.admit())
            except BackendUnavailableError:
                assert before != "closed"
        elif tickets:
            ticket = tickets.pop(0)
            if step == "good":
                breaker.succeeded(ticket)
            elif step == "bad":
                bad += 1
                breaker.failed(ticket)
            else:
                breaker.unsaid(ticket)
    assert breaker.trips <= bad
    for ticket in tickets:
        breaker.unsaid(ticket)
    clock.now += 5
    breaker.succeeded(breaker.admit())
    assert breaker.state == "closed"


# -- repeats


async def test_what_changes_nothing_is_repeated_and_nothing_else() -> None:
    source = Script(BackendError(), BackendError(), OK)
    assert await end_of(guarded(source, Clock(), failures=9, retries=2)) == 200
    assert len(source.asked) == 3
    timeouts = [each.timeout for each in source.asked]
    assert timeouts == sorted(timeouts, reverse=True)
    assert timeouts[0] == 5.0 > timeouts[1] > timeouts[2] > 4.0
    for end, question, retries, times in (
        (BackendError(), request(), 2, 3),
        (BackendError(), request(), 0, 1),
        (BackendError(), request(safe=False), 2, 1),
        (BackendError(), request(timeout=0.02), 2, 1),  # the pause would be longer than the time that is left
        (AnswerTimeoutError(seconds="5"), request(), 2, 1),
        (NotAskedError(), request(), 2, 1),
        (UnusableAnswerError(), request(), 2, 1),
        (SourceAnswer(503, [], b""), request(), 2, 1),
    ):
        source = Script(end)
        told = await end_of(guarded(source, Clock(), failures=9, retries=retries), question)
        assert told == (end.status if isinstance(end, SourceAnswer) else type(end))
        assert len(source.asked) == times, (end, question)


async def test_nothing_is_repeated_at_a_system_that_is_down() -> None:
    source = Script(BackendError())
    guard = guarded(source, Clock(), failures=3, retries=5)
    assert await end_of(guard) is BackendError
    assert (len(source.asked), guard.breaker.state) == (3, "open")


async def test_a_repeat_ends_at_the_deadline_of_the_question() -> None:
    async def answer(_: SourceRequest) -> SourceAnswer:
        if len(source.asked) == 1:
            raise BackendError
        await asyncio.Event().wait()
        raise AssertionError

    source = FunctionSource(answer)
    began = time.perf_counter()
    assert await end_of(guarded(source, Clock(), retries=5), request(timeout=0.3)) is AnswerTimeoutError
    assert time.perf_counter() - began < 5
    assert len(source.asked) == 2


# -- in an adapter at work


def behind(source: Source, **options: int) -> Guarded:
    return Guarded(
        source,
        name="enterprises",
        turns=Turns(options.get("concurrency", 64), options.get("queue", 256)),
        breaker=Breaker(failures=options.get("failures", 3)),
        retries=options.get("retries", 0),
    )


async def test_an_open_breaker_is_told_to_the_caller_and_seen_in_the_statistics(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    await nats_server.set_users(bus_users({TAX_SUBSYSTEM: ("enterprises",)}))
    source = fails(BackendError())
    async with adapter_on(nats_server, pki, {"enterprises": behind(source)}, ledger) as runner:
        for _ in range(3):
            with pytest.raises(BackendError):
                await carrier.perform()
        for method in ("GET", "POST"):
            with pytest.raises(BackendUnavailableError) as raised:
                await carrier.perform(method)
            assert raised.value.retry_after
            assert (raised.value.status, raised.value.source, raised.value.rule) == (503, "backend", "backend-breaker")
        assert len(source.asked) == 3
        stats = runner._services.endpoints[ENTERPRISES].stats().data
        assert stats is not None
        assert {"breaker": "open", "breaker_trips": 1}.items() <= stats.items()
    assert carrier.log.happened == [
        *["failed backend-answers"] * 3,
        "failed backend-breaker",
        # Nothing was done, and that is known: an operation that would change something has failed, not an unknown end.
        "intent",
        "failed backend-breaker",
    ]


async def test_while_the_breaker_is_open_nobody_waits_for_a_turn(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    await nats_server.set_users(bus_users({TAX_SUBSYSTEM: ("enterprises",)}))
    let = asyncio.Event()

    async def answer(request: SourceRequest) -> SourceAnswer:
        await let.wait()
        return OK

    guard = behind(FunctionSource(answer), concurrency=1, queue=2, failures=1)
    async with adapter_on(nats_server, pki, {"enterprises": guard}, ledger):
        first, second = [asyncio.create_task(gateway.ask()) for _ in range(2)]
        await until(lambda: guard.turns.held == 2)
        guard.breaker.failed(guard.breaker.admit())
        assert (await gateway.ask()).statement.error == BackendUnavailableError.code
        assert guard.turns.held == 2
        let.set()
        assert (await first).body == b"ok"
        # The one that waited has its turn, and finds it open.
        assert (await second).statement.error == BackendUnavailableError.code


async def test_nothing_is_begun_after_the_deadline_however_long_the_queue(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    await nats_server.set_users(bus_users({TAX_SUBSYSTEM: ("enterprises",)}))
    let, begun = asyncio.Event(), []

    async def answer(request: SourceRequest) -> SourceAnswer:
        begun.append(request.timeout)
        await let.wait()
        return OK

    guard = behind(FunctionSource(answer), concurrency=2, queue=20, failures=100)
    async with adapter_on(nats_server, pki, {"enterprises": guard}, ledger):
        first = [asyncio.create_task(gateway.ask()) for _ in range(2)]
        await until(lambda: len(begun) == 2)
        late = await asyncio.gather(*[gateway.ask(timeout=0.1) for _ in range(20)])
        assert {said.statement.error for said in late} == {AnswerTimeoutError.code}
        assert guard.turns.held == 2
        let.set()
        assert [said.body for said in await asyncio.gather(*first)] == [b"ok"] * 2
        assert len(begun) == 2


def test_the_section_s_keys_reach_the_guard() -> None:
    from department_adapters.http.section import HttpService

    section = HttpService(
        source="http",
        base_url="http://tax.example",
        concurrency=2,
        queue=0,
        retries=3,
        breaker=BreakerSection(failures=1, window=2, pause=60),
    )
    guard = section.guarded(says(), "enterprises", concurrency=64, queue=256)
    guard.breaker.failed(guard.breaker.admit())
    assert (guard.breaker.state, guard._retries, guard.turns._limit) == ("open", 3, 2)
    plain = HttpService(source="http", base_url="http://tax.example").guarded(says(), "x", concurrency=7, queue=8)
    assert plain.turns._limit == 15


_: Callable[[Guarded], Source] = lambda guard: guard  # noqa: E731  # a guarded source is a source
