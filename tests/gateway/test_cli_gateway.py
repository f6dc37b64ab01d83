"""`datong gateway` as a program: what it needs, how it says that it lacks it, and how it ends."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ca_auth import client_context
from deploy.trial_mesh import CALLER, make_pki
from exchange import Settings
from tests.gateway.exchange_mesh import WAIT, Mesh, head, target
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
NOBODY = "tls://127.0.0.1:9"
"""A gateway comes up without its bus, and waits for it."""


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it said, without our operational events."""
        return [line for line in self.err.splitlines() if not line.startswith("{")]


async def start(*arguments: str, **settings: object) -> asyncio.subprocess.Process:
    """`datong gateway` with these settings and no others."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DATONG_")}
    environment |= {f"DATONG_{name.upper()}": str(value) for name, value in settings.items()}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "deploy.cli", "gateway", *arguments),
        cwd=ROOT,
        env={**environment, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(*arguments: str, **settings: object) -> Ended:
    """Run it until it ends by itself."""
    process = await start(*arguments, **settings)
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def running(*arguments: str, ready_file: Path, **settings: object) -> AsyncIterator[str]:
    """A gateway that is up: its address; ended at the end."""
    ready_file.unlink(missing_ok=True)
    process = await start(*arguments, ready_file=ready_file, **settings)
    try:
        await until(lambda: process.returncode is not None or (ready_file.exists() and ready_file.read_text()), 30)
        assert process.returncode is None, (await process.communicate())[1].decode()
        yield ready_file.read_text()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with keys and certificates, without databases."""
    data = tmp_path_factory.mktemp("data")
    make_pki(data)
    return data


@pytest.fixture
def data(folder: Path, tmp_path: Path) -> Path:
    """One of the test's own."""
    return Path(shutil.copytree(folder, tmp_path / "data"))


# What it needs


async def test_help_says_where_settings_come_from_and_which_wins() -> None:
    ended = await run("--help")
    assert ended.code == 0
    text = " ".join(ended.out.split())
    assert "DATONG_* variables; see docs/settings.md" in text
    assert "Options win over variables, variables over --data" in text


async def test_each_missing_setting_is_named_by_its_variable() -> None:
    ended = await run()
    assert ended.code == 2
    required = [name for name, field in Settings.model_fields.items() if field.is_required()]
    assert len(required) == 7
    assert ended.lines[:-1] == [f"datong gateway: DATONG_{name.upper()}: is not set" for name in required]
    assert "--data DIR" in ended.lines[-1]
    chinese = await run("--lang", "zh", trust_anchors="/x")
    assert chinese.lines[0] == "datong gateway: DATONG_SERVER_CERTIFICATE: 未设置"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"port": "https"}, "DATONG_PORT: "),
        ({"port": "70000"}, "DATONG_PORT: "),
        ({"max_body": "0"}, "DATONG_MAX_BODY: "),
        ({"handshake_timeout": "-1"}, "DATONG_HANDSHAKE_TIMEOUT: "),
        ({"registry_poll": ""}, "DATONG_REGISTRY_POLL: "),
        ({"log_key": "/no/such/key"}, "DATONG_LOG_KEY: /no/such/key: No such file or directory"),
        ({"subject_key": "/"}, "DATONG_SUBJECT_KEY: /: Is a directory"),
    ],
)
async def test_a_setting_that_cannot_be_right_is_named(data: Path, settings: dict[str, str], told: str) -> None:
    ended = await run("--data", str(data), **settings)
    assert ended.code == 2
    (line,) = ended.lines
    assert line.startswith(f"datong gateway: {told}")


@pytest.mark.parametrize("name", ["log.key", "subject.key"])
async def test_a_key_that_is_none_is_named_and_not_quoted(data: Path, name: str) -> None:
    """An empty key would make the hash of a person's number one that anybody can compute."""
    for content in ("", "PRIVATE+KEY+secret"):
        (data / name).write_text(content)
        ended = await run("--data", str(data))
        (line,) = ended.lines
        assert ended.code == 2
        assert line.startswith(f"datong gateway: DATONG_{name.upper().replace('.', '_')}: {data / name} ")
        assert "secret" not in line


async def test_a_folder_that_is_none_is_named_by_what_is_missing_in_it(tmp_path: Path) -> None:
    ended = await run("--data", str(tmp_path / "nothing"))
    assert (ended.code, ended.lines) == (
        2,
        [f"datong gateway: DATONG_TRUST_ANCHORS: {tmp_path}/nothing/pki/ca.pem: No such file or directory"],
    )


def swap(one: str, other: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        shutil.copy(data / other, data / one)

    return change


def write(name: str, content: str) -> Callable[[Path], None]:
    return lambda data: (data / name).write_text(content) and None  # type: ignore[return-value]


def with_database(name: str, *statements: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        with closing(sqlite3.connect(data / name, isolation_level=None)) as database:
            for statement in statements:
                database.execute(statement)

    return change


@pytest.mark.parametrize(
    ("change", "settings", "told"),
    [
        (swap("pki/server.key", "pki/caller.key"), {}, "pki/server.key"),
        (swap("pki/gateway.key", "pki/caller.key"), {}, "gateway.key is not the key of"),
        (write("pki/server.crt", "hello"), {}, "pki/server.crt"),
        (write("pki/ca.pem", "hello"), {}, "pki/ca.pem"),
        (swap("pki/ca.pem", "pki/caller.crt"), {}, "not a CA certificate"),
        (swap("pki/gateway.crt", "pki/server.crt"), {}, "gateway.crt"),
        (write("registry.db", "this is no database " * 99), {}, "DATONG_REGISTRY_DATABASE or DATONG_LOG_DATABASE"),
        (
            with_database(
                "log.db",
                "CREATE TABLE log_schema_version (version_num TEXT)",
                "INSERT INTO log_schema_version VALUES ('9999')",
            ),
            {},
            "9999",
        ),
        (lambda data: None, {"registry_database": "mysql://root@localhost/x"}, "no support for 'mysql' databases"),
        (lambda data: None, {"log_database": "postgresql://nobody@127.0.0.1:9/x"}, ""),
        (lambda data: None, {"host": "no-such-host.invalid"}, "DATONG_HOST"),
        (lambda data: None, {"host": "192.0.2.1"}, "192.0.2.1:0 cannot be listened on"),
    ],
)
async def test_what_cannot_be_used_ends_the_start_with_one_line_and_status_1(
    data: Path, change: Callable[[Path], None], settings: dict[str, str], told: str
) -> None:
    change(data)
    ended = await run("--data", str(data), **{"port": 0, "bus_url": NOBODY, **settings})
    assert ended.code == 1, ended.err
    (line,) = ended.lines
    assert line.startswith("datong gateway: ")
    assert told in line
    assert "Traceback" not in "".join(ended.lines)
    assert "SELECT" not in line


async def test_a_log_that_contradicts_itself_ends_the_start(data: Path) -> None:
    """It must be looked at: a gateway that went on would bury it."""
    options = ("--data", str(data), "--port", "0")
    async with (
        running(*options, bus_url=NOBODY, ready_file=data / "url") as url,
        httpx.AsyncClient(verify=client_context(data / "pki/ca.pem"), trust_env=False) as client,
    ):
        for _ in range(3):
            assert (await client.get(f"{url}/r1/a/b/c/d/e")).status_code == 401
    with_database("log.db", "DELETE FROM log_entries WHERE seq = 1")(data)
    ended = await run(*options, bus_url=NOBODY)
    assert ended.code == 1
    (line,) = ended.lines
    assert line.startswith("datong gateway: DATONG_LOG_DATABASE: ")


async def test_a_busy_port_is_named_with_the_ways_to_choose_another(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await run("--data", str(data), "--port", str(port))
    (line,) = ended.lines
    assert ended.code == 1
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use" in line
    assert "--port or DATONG_PORT" in line


async def test_variables_win_over_the_folder_and_options_over_variables(data: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = {"log_database": f"sqlite:///{elsewhere}", "port": port, "host": "192.0.2.1", "bus_url": NOBODY}
        options = ("--data", str(data), "--port", "0", "--host", "127.0.0.1")
        async with running(*options, ready_file=tmp_path / "url", **settings) as url:
            assert re.fullmatch(r"https://localhost:\d+", url)
            assert not url.endswith(f":{port}")
            async with httpx.AsyncClient(verify=client_context(data / "pki/ca.pem"), trust_env=False) as client:
                ready = (await client.get(f"{url}/readyz")).json()
    told = {"ready": False, "bus": False, "log": True, "registry": True, "vouched": True}
    assert ready.items() >= told.items()
    assert elsewhere.exists()
    assert (data / "registry.db").exists()
    assert not (data / "log.db").exists()


# How it ends


async def test_told_to_stop_it_finishes_what_is_in_progress_and_takes_nothing_new(mesh: Mesh) -> None:
    second = await mesh.trial.add_gateway("second")
    url = second.ready_text()
    gate = mesh.backend.hold("/held")
    in_progress = asyncio.create_task(mesh.ask("POST", "/held", content=b"x", url=url))
    await until(lambda: mesh.backend.seen("/held"))
    second.send_signal(signal.SIGTERM)
    port = int(url.rpartition(":")[2])

    def closed() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    await until(closed)
    assert second.running
    gate.set()
    reply = await in_progress
    assert (reply.status, reply.response.content, reply.record["outcome"]) == (200, b"x", "answered")
    async with asyncio.timeout(WAIT):
        assert await second.wait() in (0, -signal.SIGTERM)
    assert "Traceback" not in second.log.read_text()
    mesh.trial.gateways.remove(second)
    assert (await mesh.ask()).status == 200, "the other gateway serves on"


async def test_idle_callers_do_not_hold_up_the_end(mesh: Mesh) -> None:
    """One with a connection kept open that does not read, so never agrees to close; one that never got to TLS."""
    third = await mesh.trial.add_gateway("third")
    address = ("127.0.0.1", int(third.ready_text().rpartition(":")[2]))
    with (
        socket.create_connection(address) as plain,
        socket.create_connection(address),
        mesh.context("caller").wrap_socket(plain, server_hostname="localhost") as kept,
    ):
        kept.sendall(head("GET", "/healthz", client=None))
        assert kept.recv(12) == b"HTTP/1.1 200"
        started = time.monotonic()
        third.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT):
            await third.wait()
        assert time.monotonic() - started < 5
    mesh.trial.gateways.remove(third)


# Who comes and says nothing


async def test_a_handshake_that_is_not_made_is_cut_off(mesh: Mesh) -> None:
    """Before it there is no protocol of ours, so no other deadline holds; callers beside it are served."""
    hasty = await mesh.trial.add_gateway("hasty", DATONG_HANDSHAKE_TIMEOUT="0.5")
    try:
        url = hasty.ready_text()
        port = int(url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        hello = client_hello(mesh.context("caller"))
        for _, writer in silent[25:]:
            writer.write(hello[: len(hello) // 2])
        assert (await mesh.ask(url=url)).status == 200
        async with asyncio.timeout(WAIT):
            for reader, writer in silent:
                with suppress(ConnectionError):  # cut off is cut off
                    assert await reader.read() == b""
                writer.close()
        async with mesh.connect("caller", url) as caller:
            await caller.send(head("GET", target("echo")))
            assert (await caller.answer()).status_code == 200
        mesh.recorded += 1
    finally:
        await mesh.trial.supervisor.stop_child("hasty")
        mesh.trial.gateways.remove(hasty)


def client_hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


async def test_a_refused_certificate_is_told_why_in_the_handshake(mesh: Mesh) -> None:
    """TLS has one word for it, and the caller gets to read it."""
    for party, word in (
        ("expired", "CERTIFICATE_EXPIRED"),
        ("foreign", "UNKNOWN_CA"),
        ("nobody", "UNSUPPORTED_CERTIFICATE"),
    ):
        async with mesh.one_record() as records:
            with pytest.raises((httpx.TransportError, ssl.SSLError)) as told:
                await mesh.client(party).get(target("echo"), headers={"X-Road-Client": CALLER})
        assert f"ALERT_{word}" in str(told.value)
        assert records[0]["outcome"] == "refused"
