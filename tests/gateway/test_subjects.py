"""Persons and companies on record: each under a key of its own, whether asked about or asking; a gateway, its log, the command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import typer
from typer.testing import CliRunner

from ca_auth import CertificateRequest, DemoCA, client_context
from deploy.trial_mesh import CALLER, ECHO, TrialMesh, trial_mesh
from exchange import LogReader, NoteSigner, SubjectKeys, check_log, create_engine, member_of, pseudonym_of, read_event
from gateway.cli.audit_forget import forget

WITHIN = 20.0
ZHANG = "11010119900307123X"
LI = "110101198001010010"
TRUST = """
[[anchor]]
name = "our own CA"
certificates = "pki/ca.pem"

[[anchor]]
name = "citizens"
certificates = "citizens/ca.pem"
profile = "subject-serial-number"
instance = "CN"
class = "GOV"

[anchor.persons]
subsystem = "{subsystem}"
member = "{member}"
"""


@dataclass(slots=True)
class Place:
    """A gateway without adapters: what it is asked is refused or cannot be carried, and goes on record all the same."""

    trial: TrialMesh
    log: LogReader
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.trial.folder

    @property
    def database(self) -> Path:
        return self.folder / "subjects.db"

    async def ask(self, number: str = "", party: str = "caller", **headers: str) -> dict[str, Any]:
        """The record that a question leaves."""
        named = {"X-Road-Client": CALLER, **headers, **({"Datong-Subject": number} if number else {})}
        response = await self.clients[party].get(f"{self.trial.url}/r1/{ECHO}/x", headers=named)
        entry = await self.log.entry(response.headers["x-road-request-id"])
        assert entry is not None
        record: dict[str, Any] = json.loads(entry.leaf)
        assert record["status"] == response.status_code
        assert record["rule"] == response.json()["rule"]
        assert ZHANG not in entry.leaf.decode()
        assert pseudonym_of(self.secret, ZHANG) not in entry.leaf.decode(), (
            "whoever holds the secret key could name them"
        )
        return record

    @property
    def secret(self) -> bytes:
        return (self.folder / "subject.key").read_bytes()

    def keys(self) -> int:
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return int(connection.execute("SELECT count(*) FROM subject_keys").fetchone()[0])

    @contextlib.contextmanager
    def without_keys(self) -> Iterator[None]:
        """The database does not do what it is asked."""
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("ALTER TABLE subject_keys RENAME TO away")
            yield
            connection.execute("ALTER TABLE away RENAME TO subject_keys")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SubjectKeys]:
        """The keys as another process sees them."""
        keys = await SubjectKeys.open(f"sqlite:///{self.database}", self.secret)
        try:
            yield keys
        finally:
            await keys.close()

    async def erasures(self) -> list[Any]:
        """What the log tells of erasures."""
        return [read_event(entry.leaf) async for entry in self.log.iter_entries(kind="retention")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("subjects")
    citizens = DemoCA.create(folder / "citizens", name="Citizens")
    person = citizens.issue("person", CertificateRequest.for_person("张三", f"IDCCN-{ZHANG}"))
    trust = TRUST.format(subsystem=CALLER.rpartition("/")[2], member=member_of(CALLER))
    (folder / "trust.toml").write_text(trust, encoding="utf-8")
    async with trial_mesh(folder, gateways=0) as trial:
        await trial.add_gateway()
        engine = create_engine(f"sqlite:///{folder / 'log.db'}")
        place = Place(trial, LogReader(engine))
        contexts = {
            "caller": client_context(trial.trust_anchors, *trial.files("caller")),
            "person": client_context(trial.trust_anchors, person.certificate, person.key),
            "nobody": client_context(trial.trust_anchors),
        }
        for party, context in contexts.items():
            place.clients[party] = httpx.AsyncClient(verify=context, timeout=WITHIN, trust_env=False)
        try:
            yield place
        finally:
            await asyncio.gather(*(client.aclose() for client in place.clients.values()))
            await engine.dispose()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_who_is_asked_about_and_who_asks_are_one_person_on_record(place: Place) -> None:
    asked_about = await place.ask(ZHANG.lower())
    asking = await place.ask(party="person")
    assert asked_about["rule"] == asking["rule"] == "adapter-connected"
    assert asked_about["query"]["subject"] == asking["person"]
    assert "person" not in asked_about
    assert asking["query"]["subject"] == ""
    both = await place.ask(LI, "person")
    assert both["person"] == asking["person"] != both["query"]["subject"]
    async with place.opened() as keys:
        assert await keys.hash_on_record(ZHANG) == asking["person"]
        assert await keys.hash_on_record(LI) == both["query"]["subject"]


async def test_refused_attempts_name_their_subject_too(place: Place) -> None:
    hashed = (await place.ask(ZHANG))["query"]["subject"]
    for headers in ({"Datong-Purpose": "curiosity"}, {"X-Road-Client": "CN/GOV/x/y"}):
        refused = await place.ask(ZHANG, **headers)
        assert (refused["outcome"], refused["query"]["subject"]) == ("refused", hashed)


async def test_only_callers_who_are_known_make_keys(place: Place) -> None:
    before = place.keys()
    record = await place.ask("990100199001010017", "nobody")
    assert (record["status"], record["query"]["subject"]) == (401, "")
    assert place.keys() == before
    await place.ask("990100199001010017")
    assert place.keys() == before + 1


async def test_without_the_keys_nothing_is_carried_and_that_is_on_record(place: Place) -> None:
    hashed = (await place.ask(ZHANG))["query"]["subject"]
    with place.without_keys():
        refused = await place.ask("990100199001010025")
        assert (refused["status"], refused["rule"]) == (503, "subject-keys-writable")
        assert (refused["outcome"], refused["source"], refused["query"]["subject"]) == ("refused", "gateway", "")
        # One who is remembered passes while nobody need look whether they were erased: for a second.
        async with asyncio.timeout(WITHIN):
            while (await place.ask(ZHANG))["rule"] != "subject-keys-writable":
                await asyncio.sleep(0.02)
        person = await place.ask(party="person")
        assert (person["rule"], person.get("person")) == ("subject-keys-writable", None)
        assert (await place.ask())["rule"] == "adapter-connected", "who names nobody needs no keys"
    assert (await place.ask(ZHANG))["query"]["subject"] == hashed


async def test_after_an_erasure_the_gateway_puts_its_subject_on_record_as_another(place: Place) -> None:
    """What erased dies before it can tell the log; the gateway does."""
    hashed = (await place.ask(ZHANG))["query"]["subject"]
    already = len(await place.erasures())
    async with place.opened() as keys:
        erased = await keys.erase([ZHANG], by="test", why="期满")
    async with asyncio.timeout(WITHIN):
        while (after := (await place.ask(ZHANG))["query"]["subject"]) == hashed:
            await asyncio.sleep(0.02)
        while len(await place.erasures()) == already:
            await asyncio.sleep(0.05)
    assert (await place.ask(party="person"))["person"] == after
    assert (await place.erasures())[already:] == list(erased.events)
    assert [each.details["hashes"] for each in erased.events] == [[hashed]]


# The command, beside the running gateway

app = typer.Typer()
app.command()(forget)


async def run(*arguments: object, stdin: str | None = None) -> Any:
    """In a thread: the command has a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, [str(each) for each in arguments], input=stdin)


async def test_the_command_erases_and_tells_the_log(place: Place) -> None:
    hashed = (await place.ask(ZHANG))["query"]["subject"]
    kept = (await place.ask(LI))["query"]["subject"]
    given = ("--subject", "-", "--data", place.folder, "--why", "申请〔2026〕3号", "--by", "王五")
    counted = await run(*given, "--dry-run", "--json", stdin=f"{ZHANG}\nnobody\n")
    assert json.loads(counted.stdout) == {"would_erase": 1}
    done = await run(*given, "--json", stdin=f"\ufeff {ZHANG.lower()}\n\nnobody\n")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["erased"], told["traceless"]) == (1, True)
    event = (await place.erasures())[-1]
    assert told["records"] == [event.id]
    assert (event.by, event.user, event.why) == ("datong audit forget", "王五", "申请〔2026〕3号")
    assert event.details == {"count": 1, "hashes": [hashed]}
    again = await run(*given, stdin=f"{ZHANG}\n")
    assert "Erased the keys of 0 subjects of 1 given" in again.stdout
    async with asyncio.timeout(WITHIN):
        while (await place.ask(ZHANG))["query"]["subject"] == hashed:
            await asyncio.sleep(0.02)
    assert (await place.ask(LI))["query"]["subject"] == kept
    verifier = NoteSigner.from_skey((place.folder / "log.key").read_text()).verifier
    summary = await check_log(place.log, [verifier])
    assert summary.signed_size > 0
    assert ZHANG not in done.output + again.output


async def test_the_command_says_what_is_in_its_way(place: Place, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    numbers.write_text(f"{ZHANG}\n")
    why = ("--why", "期满")
    for arguments, status, says in (
        ((*why,), 2, "either --subject or --unused-before"),
        ((*why, "--subject", numbers, "--unused-before", "2020-01-01"), 2, "either --subject or --unused-before"),
        (("--subject", numbers), 2, "--why"),
        ((*why, "--unused-before", "last year"), 2, "2026-11-01"),
        ((*why, "--subject", tmp_path / "none"), 2, "No such file"),
        ((*why, "--subject", numbers, "--data", tmp_path), 1, "is not there"),
        ((*why, "--unused-before", "2999-01-01"), 1, "184 days"),
        ((*why, "--unused-before", "2999-01-01", "--lang", "zh"), 1, "至少保留 184 天"),
    ):
        result = await run("--data", place.folder, *arguments)
        assert result.exit_code == status, result.output
        assert says in " ".join(result.output.replace("│", " ").split()), result.output
        assert ZHANG not in result.output
    nothing = await run("--data", place.folder, *why, "--unused-before", "2020-01-01", "--lang", "zh")
    assert (nothing.exit_code, "已删除 0 个主体的密钥" in nothing.stdout) == (0, True)
