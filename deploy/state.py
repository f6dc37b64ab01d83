"""What a one-machine mesh remembers between its runs, in its data folder.

Rules:
1. One mesh at a time uses a folder: a lock that the kernel gives back when the holder ends, however it ends.
2. The gateway's port stays what it was, so that printed addresses stay right; ports that nobody types may change.
3. The folder and what is in it belong to its owner alone: private keys and database passwords are there.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from exchange import Language

FORMAT = 1
DEFAULT_PORT = 8443
_PORTS = range(20_000, 32_768)
"""Below those that systems hand to connections going out: nobody takes one by chance before its part of the mesh listens there."""
_given: set[int] = set()
_RELEASE_SECONDS = 1.0
"""Children of a mesh that was killed give their ports back within this time."""


class MeshStateError(Exception):
    """The mesh cannot be brought up with this folder or these ports; the texts say why and what to do."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.texts: dict[Language, str] = {"en": en, "zh": zh}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshState:
    """What was decided at the first start."""

    created_at: str
    host: str
    port: int
    """Of the gateway."""
    nats_port: int
    backend_port: int
    """Of the tax bureau's own API."""
    database: str
    """URL of the registry's database; empty for a file in the data folder, which may then be moved as a whole."""
    log_database: str
    """The same for the exchange log."""
    audit_witness_port: int = 0
    """Of the witness of the audit office; 0 in what an older version remembered."""
    civil_witness_port: int = 0
    land_port: int = 0
    """Of the natural-resources bureau's own service; 0 in what an older version remembered."""
    """Of that of the civil affairs bureau."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshOptions:
    """What the user asked for; None where nothing was said."""

    data: Path
    host: str | None = None
    port: int | None = None
    nats_port: int | None = None
    database: str | None = None
    log_database: str | None = None


def load_state(data: Path) -> MeshState | None:
    """What an earlier run remembered, or None at the first.

    Raises:
        MeshStateError: The file is damaged, or another version of Datong wrote it.
    """
    path = data / "mesh.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise MeshStateError(
                f"{path} was written by another version of Datong; use another folder: --data DIR",
                f"{path} 由其他版本的大同写入；请使用其他目录：--data 目录",
            )
        return MeshState(**content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MeshStateError(
            f"{path} is damaged ({error}); restore it, or use another folder: --data DIR",
            f"{path} 已损坏（{error}）；请恢复该文件，或使用其他目录：--data 目录",
        ) from error


def save_state(data: Path, state: MeshState) -> None:
    """Remember `state`; all or nothing of it."""
    draft = data / "mesh.json.new"
    draft.write_text(json.dumps({"format": FORMAT, **asdict(state)}, indent=2) + "\n", encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(data / "mesh.json")


def decide(options: MeshOptions, earlier: MeshState | None, *, now: datetime) -> MeshState:
    """Return what this run uses: what the user said, else what was remembered, else defaults and free ports.

    Raises:
        MeshStateError: A port is taken that the user chose or was told of. It names the port and the option.
    """
    host = options.host or (earlier.host if earlier else "127.0.0.1")
    return MeshState(
        created_at=earlier.created_at if earlier else now.astimezone(UTC).isoformat(timespec="seconds"),
        host=host,
        port=_gateway_port(host, options.port, earlier),
        nats_port=_inner_port(options.nats_port, earlier.nats_port if earlier else None, "--nats-port"),
        backend_port=_inner_port(None, earlier.backend_port if earlier else None, ""),
        audit_witness_port=_inner_port(None, earlier.audit_witness_port if earlier else None, ""),
        civil_witness_port=_inner_port(None, earlier.civil_witness_port if earlier else None, ""),
        land_port=_inner_port(None, earlier.land_port if earlier else None, ""),
        database=options.database or (earlier.database if earlier else ""),
        log_database=options.log_database or (earlier.log_database if earlier else ""),
    )


def _gateway_port(host: str, wanted: int | None, earlier: MeshState | None) -> int:
    if wanted or (wanted is None and earlier):
        port = wanted or (earlier.port if earlier else 0)
        _must_be_free(host, port, "--port")
        return port
    return DEFAULT_PORT if wanted is None and is_free(host, DEFAULT_PORT) else free_port(host)


def _inner_port(wanted: int | None, earlier: int | None, option: str) -> int:
    """The port of a part that only other parts of this mesh connect to, on the loopback address."""
    if wanted:
        _must_be_free("127.0.0.1", wanted, option)
        return wanted
    if wanted is None and earlier and is_free("127.0.0.1", earlier):
        return earlier
    return free_port("127.0.0.1")


def _must_be_free(host: str, port: int, option: str) -> None:
    deadline = time.monotonic() + _RELEASE_SECONDS
    while not is_free(host, port):
        if time.monotonic() > deadline:
            raise MeshStateError(
                f"Port {port} on {host} is in use by another program. Stop it, or choose another port: {option} N "
                f"({option} 0 takes a free one).",
                f"{host} 的端口 {port} 已被占用。请停止占用它的程序，或指定其他端口：{option} N（0 表示任选）。",
            )
        time.sleep(0.05)


def is_free(host: str, port: int) -> bool:
    """Whether a program could listen there now.

    Raises:
        MeshStateError: The address is not one of this machine, or the port is not for ordinary users.
    """
    try:
        _listen(host, port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise _cannot_listen(host, port, error) from error
    return True


def free_port(host: str) -> int:
    """A port that nobody listens on at this moment, given out once; raises MeshStateError if the address is not of this machine."""
    try:
        with _listen(host, 0) as listener:
            whichever: int = listener.getsockname()[1]
    except OSError as error:
        raise _cannot_listen(host, 0, error) from error
    for port in random.sample(_PORTS, 100):
        if port not in _given and is_free(host, port):
            _given.add(port)
            return port
    return whichever


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _cannot_listen(host: str, port: int, error: OSError) -> MeshStateError:
    # Failed name look-ups have numbers of their own, and a text.
    why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
    return MeshStateError(
        f"Cannot listen on {host}, port {port}: {why}. Choose with --host and --port.",
        f"无法监听 {host} 端口 {port}：{why}。请用 --host 和 --port 指定。",
    )


@contextmanager
def data_folder(path: Path) -> Iterator[None]:
    """Make the folder if needed, and hold it as the only mesh that uses it.

    Raises:
        MeshStateError: Another mesh runs on it, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        (path / "run").mkdir(exist_ok=True)
        # Opened without truncating: until we hold the lock, what is written there is the other's.
        lock = os.open(path / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MeshStateError(
            f"The data folder {path} cannot be used: {error.strerror or error}. Choose another: --data DIR",
            f"数据目录 {path} 不可用：{error.strerror or error}。请指定其他目录：--data 目录",
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 100).decode(errors="replace").strip()
            raise MeshStateError(
                f"A mesh is already up on {path} ({holder}). Use it, stop it, or choose another folder: --data DIR",
                f"{path} 上已有一个环境在运行（{holder}）。请使用或停止它，或指定其他目录：--data 目录",
            ) from error
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()}, since {datetime.now(UTC).isoformat(timespec='seconds')}".encode())
        yield
    finally:
        os.close(lock)
