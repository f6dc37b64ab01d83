"""A whole mesh with a department's system as a process of its own, callers that remember everything, and the oracle's verdict."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ca_auth import client_context
from deploy.state import free_port
from deploy.supervisor import Child, Program
from deploy.trial_mesh import CALLER, ECHO, TrialMesh, bus_users, trial_mesh
from exchange import LogReader, NoteSigner, check_log, create_engine, open_checkpoint, read_ledger
from gateway.change_comparison import compare_changes
from registry import ChangeBook, Operation, Service
from tests.ci import missing
from tests.faults.department import pattern
from tests.faults.oracle import Done, Evidence, Sent, contradictions
from tests.waiting import until

SEED = int(os.environ.get("DATONG_FAULTS_SEED") or int.from_bytes(os.urandom(4), "big"))
"""Of every choice made by chance; said when the verdict is bad."""
DEADLINE = 2.0
"""Seconds that a gateway waits for the department."""
AT_ONCE = DEADLINE / 2
"""What is known at once must not take so long, even on a busy machine."""
WITHIN = 30.0
"""Long enough for a busy machine; no test waits for it to pass."""

SETTINGS = {"DATONG_RECOVERY_GRACE": "0.2", "DATONG_CHECKPOINT_INTERVAL": "0.1"}


@dataclass(kw_only=True, eq=False, repr=False)
class FaultMesh:
    """The mesh, what was asked of it, and what is done to it."""

    trial: TrialMesh
    department: Child
    adapter: Child
    log: LogReader
    http: httpx.AsyncClient
    dice: random.Random
    urls: list[str]
    """Of the gateways; empty while one is known to be down."""
    sent: list[Sent] = field(default_factory=list)
    first: int = 0
    """Number of the first request of this test."""
    _numbers: Any = field(default_factory=itertools.count)

    # -- callers

    async def ask(self, method: str = "GET", target: str = "/", body: bytes = b"", *, url: str = "") -> Sent:
        """Send one request, once; returns what came of it, and remembers it for the verdict."""
        sent = Sent(message_id=f"message-{next(self._numbers)}", method=method, target=target, body=body)
        self.sent.append(sent)
        started = time.monotonic()
        headers = {"X-Road-Client": CALLER, "X-Road-Id": sent.message_id}
        try:
            response = await self.http.request(
                method, f"{url or self.urls[0]}/r1/{ECHO}{target}", headers=headers, content=body
            )
        except httpx.TransportError as error:
            sent.lost = repr(error)
            return sent
        finally:
            sent.took = time.monotonic() - started
        sent.headers = dict(response.headers)
        sent.exchange_id = response.headers["x-road-request-id"]
        sent.size = len(response.content)
        if "x-road-error" in response.headers:
            sent.problem = response.json()
            sent.rule = sent.problem["rule"]
        else:
            expected = pattern(int(target[7:])) if target.startswith("/bytes/") else body
            sent.right = response.content == expected
        sent.status = response.status_code
        return sent

    async def ask_until(self, wanted: Callable[[Sent], bool], *request: Any, **options: Any) -> Sent:
        """Ask again and again until what comes of it is wanted."""
        async with asyncio.timeout(WITHIN):
            while not wanted(sent := await self.ask(*request, **options)):
                await asyncio.sleep(0.01)
        return sent

    def answers(self) -> int:
        """Answers that callers hold."""
        return sum(sent.answered for sent in self.sent)

    def told(self) -> set[tuple[int, str]]:
        """Status and rule of every error that callers of this test were told."""
        return {(sent.status, sent.rule) for sent in self.sent[self.first :] if sent.status and not sent.answered}

    async def more_answers(self, count: int) -> None:
        """Return when callers hold so many more answers than now."""
        goal = self.answers() + count
        await until(lambda: self.answers() >= goal, WITHIN)

    @asynccontextmanager
    async def load(self, callers: int = 10, *, pause: float = 0) -> AsyncIterator[None]:
        """Callers that ask, safe and unsafe, small and large, while the block runs.

        Args:
            pause: Seconds from an answer to the caller's next question.
        """
        stop = False

        async def call(number: int, dice: random.Random) -> None:
            while not stop:
                url = self.urls[number % len(self.urls)]
                if not url:
                    await asyncio.sleep(0.02)
                    continue
                size = dice.choice((0, 10, 1000, 1000, 20_000)) if dice.random() < 0.97 else 600_000
                if dice.random() < 0.5:
                    sent = await self.ask("GET", f"/bytes/{size}", url=url)
                else:
                    sent = await self.ask(dice.choice(("POST", "PUT")), "/items", dice.randbytes(size), url=url)
                # Refusals come at once; without a breath nothing else would run.
                await asyncio.sleep(pause if sent.answered else 0.05)

        tasks = [asyncio.create_task(call(n, random.Random(self.dice.random()))) for n in range(callers)]
        try:
            yield
        finally:
            stop = True
            await asyncio.gather(*tasks)

    @asynccontextmanager
    async def held(self, method: str = "POST", **options: Any) -> AsyncIterator[Held]:
        """A request whose work the department has done, and whose answer it holds back until told."""
        key = f"held-{next(self._numbers)}"
        task = asyncio.create_task(self.ask(method, f"/hold/{key}", **options))
        held = Held(task, self._folder / key)
        await until(lambda: any(done.target == f"/hold/{key}" for done in self.done()), WITHIN)
        try:
            yield held
        finally:
            held.release()
            await task

    # -- parts

    @property
    def gateway(self) -> Child:
        return self.trial.gateways[0]

    @property
    def _folder(self) -> Path:
        return self.trial.folder / "department"

    async def log_writer(self, gateway: Child, *, after: int = 0) -> int:
        """Process id of a gateway's log writer, as soon as there is one, and another one than `after`."""
        if not Path("/proc/self/stat").exists():
            missing("/proc, in which a gateway's log writer is found")
        async with asyncio.timeout(WITHIN):
            while (pid := _log_writer(gateway.pid)) in (0, after):
                await asyncio.sleep(0.01)
        return pid

    async def kill(self, *children: Child) -> None:
        """SIGKILL to processes and all that they started, at once."""
        for child in children:
            child.kill()
        for child in children:
            await child.wait()
            self._is_down(child)

    async def kill_alone(self, child: Child) -> None:
        """SIGKILL to one process; what it started lives on as it can."""
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        self._is_down(child)

    def _is_down(self, child: Child) -> None:
        if child in self.trial.gateways:
            self.urls[self.trial.gateways.index(child)] = ""

    async def start_again(self, child: Child) -> None:
        """Start a child that has ended, on the data it left."""
        await child.start()
        if child in self.trial.gateways:
            self.urls[self.trial.gateways.index(child)] = child.ready_text()

    async def start_bus(self) -> None:
        await self.trial.nats.start(bus_users())

    async def readiness(self, url: str = "") -> dict[str, bool]:
        """What a gateway says of its parts; nothing if it says nothing."""
        try:
            said: dict[str, bool] = (await self.http.get(f"{url or self.urls[0]}/readyz")).json()
        except httpx.TransportError:
            return {}
        return said

    async def whole(self) -> None:
        """Return when every gateway is ready and gets answers."""
        for url in self.urls:
            await self.ready(url=url)
            await self.ask_until(lambda sent: sent.answered, "POST", "/last", b"x", url=url)

    async def ready(self, *, but: str = "", url: str = "") -> None:
        """Return when a gateway says that all its parts are ready, or that one is not."""
        async with asyncio.timeout(WITHIN):
            while (await self.readiness(url)).get(but or "ready") is not (not but):
                await asyncio.sleep(0.01)

    # -- the verdict

    def done(self) -> list[Done]:
        """The department's journal."""
        journal = self._folder / "journal"
        return [Done.of(line) for line in journal.read_text().splitlines()] if journal.exists() else []

    async def evidence(self) -> Evidence:
        """What the witnesses say now."""
        return Evidence(
            sent=self.sent,
            entries=[entry async for entry in self.log.iter_entries(kind="exchange")],
            open_intents=[intent.exchange_id for intent in await self.log.intents()],
            ledger=list(read_ledger(self.trial.folder / "adapters" / "adapter" / "ledger")),
            done=self.done(),
        )

    async def verdict(self) -> Evidence:
        """Wait until the mesh is whole and every intent is settled, derive the log again, compare the witnesses."""
        await self.whole()
        async with asyncio.timeout(WITHIN):
            while await self.log.intents():
                await asyncio.sleep(0.02)
        # Each change of the registry is on the log too, once, as it was made.
        book = ChangeBook(self.trial.registry)
        async with asyncio.timeout(WITHIN):
            while (await compare_changes(book, self.log)).waiting:
                await asyncio.sleep(0.02)
        signer = NoteSigner.from_skey((self.trial.folder / "log.key").read_text())
        async with asyncio.timeout(WITHIN):
            while (summary := await check_log(self.log, [signer.verifier])).signed_size < summary.size:
                await asyncio.sleep(0.02)
        signed = self.trial.folder / "log.key.signed"
        await until(signed.exists, WITHIN)
        remembered = signed.read_text()
        await check_log(self.log, [signer.verifier], held=[open_checkpoint(remembered, [signer.verifier])])
        evidence = await self.evidence()
        assert len(evidence.entries) == summary.size - (await self.log.counts())[1]
        found = contradictions(evidence)
        assert not found, f"DATONG_FAULTS_SEED={SEED}: {len(found)} contradictions\n" + "\n".join(found[:20])
        return evidence


def _log_writer(gateway: int) -> int:
    """Process id of the log writer among a process's children, 0 if there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == gateway and b"exchange.log.writer" in (process / "cmdline").read_bytes():
                return int(process.name)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return 0


@dataclass(frozen=True)
class Held:
    """A request that the department has worked on and not answered yet."""

    answer: asyncio.Task[Sent]
    _gate: Path

    def release(self) -> None:
        self._gate.touch()


@asynccontextmanager
async def fault_mesh(
    folder: Path,
    *,
    registry_database: str = "",
    log_database: str = "",
    gateways: int = 1,
    deadline: float = DEADLINE,
    **settings: str,
) -> AsyncIterator[FaultMesh]:
    """Bring up a mesh in `folder`; the verdict is the test's to ask for.

    Args:
        deadline: Seconds that the gateways wait for the department.
        settings: DATONG_* of the gateways.
    """
    work = folder / "department"
    work.mkdir(parents=True)
    settings = {**SETTINGS, **settings}
    if registry_database:
        settings["DATONG_REGISTRY_DATABASE"] = registry_database
    if log_database:
        settings["DATONG_LOG_DATABASE"] = log_database
    async with AsyncExitStack() as parts:
        trial = await parts.enter_async_context(trial_mesh(folder, registry_database=registry_database, gateways=0))
        operations = tuple(Operation.of(method, "/**") for method in ("GET", "POST", "PUT"))
        service = Service(
            id=ECHO,
            title_zh="回声",
            title_en="Echo",
            operations=operations,
            timeout=deadline,
            max_request_bytes=2 << 20,
        )
        await trial.registry.add_service(service, by="test", why="test", replace=True)
        port = free_port("127.0.0.1")
        program = Program(
            name="department",
            argv=(sys.executable, "-m", "tests.faults.department", str(port), str(work)),
            ready_file=work / "ready",
            environment={"PYTHONPATH": str(Path(__file__).parents[2])},
            restart=False,
        )
        department, adapter, *_ = await asyncio.gather(
            trial.supervisor.start(program),
            trial.add_adapter("adapter", trial.http_contract(f"http://127.0.0.1:{port}")),
            *(trial.add_gateway(f"gateway{number or ''}", **settings) for number in range(gateways)),
        )
        context = client_context(trial.trust_anchors, *trial.files("caller"))
        http = await parts.enter_async_context(httpx.AsyncClient(verify=context, timeout=WITHIN, trust_env=False))
        engine = create_engine(log_database or f"sqlite:///{folder / 'log.db'}")
        parts.push_async_callback(engine.dispose)
        mesh = FaultMesh(
            trial=trial,
            department=department,
            adapter=adapter,
            log=LogReader(engine),
            http=http,
            dice=random.Random(SEED),
            urls=[gateway.ready_text() for gateway in trial.gateways],
        )
        await mesh.whole()
        yield mesh
