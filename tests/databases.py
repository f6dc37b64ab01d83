"""Databases for tests: every test that asks for `database_url` runs on SQLite and on a real PostgreSQL of its own.

The server is started once per session from an installed PostgreSQL, in a folder of its own, and only when a test needs
it. PostgreSQL refuses to run as root, so root hands it to the user `postgres` or `nobody`. Without an installation the
tests skip; in CI they fail.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from tests.ci import missing

_USER = "datong"
_names = (f"test_{number}" for number in itertools.count())


class PostgresServer:
    """A PostgreSQL on a free port of 127.0.0.1 and on a unix socket; its data is not kept safe from a power cut."""

    settings = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._account = _unprivileged_account()
        if self._account:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        self.folder = folder
        self.port = _free_port()
        self._run("initdb", "-D", str(folder / "data"), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    def start(self) -> None:
        """Return when it accepts connections."""
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} {self.settings} -c max_connections=200"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "60", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Return when it is gone; connections are cut."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "60", "-m", "fast", "stop")

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    async def create_database(self, *, like: str = "template1") -> str:
        """Create a database with what another one holds, by default nothing, and return its URL."""
        name = next(_names)
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {like}")
        finally:
            await connection.close()
        return self.url(name)

    def _run(self, program: str, *arguments: str) -> None:
        account = self._account
        # To a file: with a pipe, the server that pg_ctl leaves behind would hold it open for ever.
        with (self.folder / "output").open("ab") as output:
            done = subprocess.run(
                [str(self._binaries / program), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                check=False,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        if done.returncode:
            logs = [path for path in (self.folder / "output", self.folder / "log") if path.exists()]
            raise RuntimeError(f"{program} failed:\n" + "\n".join(path.read_text()[-2000:] for path in logs))


def postgres_binaries() -> Path | None:
    """The folder of an installed server's programs, the newest version first; None without one."""
    candidates = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name.split(".")[0])
    )
    on_path = shutil.which("initdb")
    if on_path:
        candidates.insert(0, Path(on_path).resolve().parent)
    return next(
        (folder for folder in candidates if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None
    )


def _unprivileged_account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    missing("an account for PostgreSQL (postgres or nobody)")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL."""
    binaries = postgres_binaries()
    if binaries is None:
        missing("PostgreSQL (initdb and pg_ctl)")
    # Not below pytest's folder: the server's user may not enter it, and a unix socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="datong-pg-"))
    try:
        server = PostgresServer(binaries, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of a fresh PostgreSQL database."""
    return await postgres_server.create_database()


class DatabaseTemplate:
    """What databases of many tests begin with: made once in a session on each kind of database, then copied.

    Args:
        folder: Where its file goes.
        make: Fills the database at a URL, and leaves nothing open.
    """

    def __init__(self, folder: Path, make: Callable[[str], Awaitable[None]]) -> None:
        self._file = folder / "template.db"
        self._make = make
        self._name = ""

    async def copy_to(self, file: Path) -> None:
        """As a file of SQLite."""
        if not self._file.exists():
            unfinished = self._file.with_suffix(".unfinished")
            await self._make(f"sqlite:///{unfinished}")
            assert not list(self._file.parent.glob("*-wal")), "closed, it is all in one file"
            unfinished.rename(self._file)
        shutil.copyfile(self._file, file)

    async def copy_on(self, server: PostgresServer) -> str:
        """As a database of PostgreSQL; its URL."""
        if not self._name:
            made = await server.create_database()
            await self._make(made)
            self._name = made.rpartition("/")[2]
        return await server.create_database(like=self._name)


@pytest.fixture
def database_template() -> DatabaseTemplate | None:
    """What `database_url` begins with: here nothing. A folder of tests may know better."""
    return None


async def _fresh_file(folder: Path, template: DatabaseTemplate | None) -> str:
    file = folder / "数据 库.db"  # a space and other scripts in a path are normal
    if template:
        await template.copy_to(file)
    return f"sqlite:///{file}"


@pytest.fixture
async def sqlite_url(tmp_path: Path, database_template: DatabaseTemplate | None) -> str:
    """The URL of a fresh SQLite database, for tests of what stands above the databases."""
    return await _fresh_file(tmp_path, database_template)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, database_template: DatabaseTemplate | None
) -> AsyncIterator[str]:
    """The URL of a fresh database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield await _fresh_file(tmp_path, database_template)
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        yield await (database_template.copy_on(server) if database_template else server.create_database())


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgresql"])
async def shared_database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """As `database_url`, one for all tests of a module that ask for it: for those that only look, or are refused."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('shared') / '数据 库.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        yield await server.create_database()
