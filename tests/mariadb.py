"""A real MariaDB for tests: started once per session, in a folder of its own, and only when a test needs it.

MariaDB refuses to run as root, so root hands it to the user `mysql` or `nobody`. Without an installation the tests skip;
in CI they fail.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncmy
import pytest

from tests.ci import missing

if TYPE_CHECKING:
    from tests.conftest import Pki

_ROOT = "root"
_SECONDS = 60
_names = (f"test_{number}" for number in itertools.count())


class MariaServer:
    """A MariaDB on a free port of 127.0.0.1; its data is not kept safe from a power cut."""

    settings = (
        "--no-defaults",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--skip-log-bin",
        "--performance-schema=off",
        "--innodb-buffer-pool-size=32M",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0",
        "--character-set-server=utf8mb4",
        "--max-connections=100",
        # What a department's server may well be set to: the adapter must not depend on it.
        "--default-time-zone=+08:00",
        "--net-write-timeout=5",
    )

    def __init__(self, folder: Path, certificate: Path, key: Path) -> None:
        self._account = _unprivileged_account()
        if self._account:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        self.folder = folder
        self.port = _free_port()
        self._tls = {"cert": folder / "server.crt", "key": folder / "server.key"}
        for file, content in zip(self._tls.values(), (certificate, key), strict=True):
            shutil.copyfile(content, file)
            if self._account:
                os.chown(file, self._account.pw_uid, self._account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            "mariadb-install-db", "--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db",
            "--auth-root-authentication-method=normal", "--skip-name-resolve",
        )  # fmt: skip

    def start(self) -> None:
        """Return when it accepts connections."""
        tls = [f"--ssl-{name}={file}" for name, file in self._tls.items()]
        own = (f"--datadir={self.folder / 'data'}", f"--port={self.port}", f"--socket={self.folder / 'socket'}")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(_program("mariadbd")), *self.settings, *own, *tls, f"--pid-file={self.folder / 'pid'}"],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                **self._as_account(),
            )
        end = time.monotonic() + _SECONDS
        while not _greets(self.port):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("MariaDB did not start:\n" + (self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)  # it tells nobody when it is ready

    def stop(self) -> None:
        """Return when it is gone; connections are cut."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(_SECONDS)

    def url(self, database: str, user: str = _ROOT) -> str:
        """The URL of one of its databases."""
        return f"mysql://{user}@127.0.0.1:{self.port}/{database}"

    async def create_database(self) -> str:
        """Create an empty database and return its URL, of an account that may do everything."""
        name = next(_names)
        await self.execute("", f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return self.url(name)

    async def execute(self, database: str, *statements: str) -> list[tuple[object, ...]]:
        """Do it, with every right; the rows of the last statement."""
        connection = await asyncmy.connect(
            host="127.0.0.1", port=self.port, user=_ROOT, database=database or None, autocommit=True
        )
        rows: list[tuple[object, ...]] = []
        try:
            async with connection.cursor() as cursor:
                for statement in statements:
                    await cursor.execute(statement)
                    rows = list(await cursor.fetchall()) if cursor.description else []
        finally:
            await connection.ensure_closed()
        return rows

    def _as_account(self) -> dict[str, object]:
        account = self._account
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(_program(program)), *arguments],
            capture_output=True,
            cwd=self.folder,
            check=False,
            **self._as_account(),
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout.decode()[-2000:]}{done.stderr.decode()[-2000:]}")


def _program(name: str) -> Path | None:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def _greets(port: int) -> bool:
    """Whether a server's greeting comes from there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return len(connection.recv(5)) == 5
    except OSError:
        return False


def _unprivileged_account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("mysql", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    missing("an account for MariaDB (mysql or nobody)")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def maria_server(pki: Pki) -> Iterator[MariaServer]:
    """A running MariaDB."""
    if _program("mariadbd") is None or _program("mariadb-install-db") is None:
        missing("MariaDB (mariadbd and mariadb-install-db)")
    # Not below pytest's folder: the server's user may not enter it, and a unix socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="datong-maria-"))
    try:
        server = MariaServer(folder, pki.certificate("server"), pki.key("server"))
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def maria_url(maria_server: MariaServer) -> str:
    """The URL of a fresh MariaDB database."""
    return await maria_server.create_database()
