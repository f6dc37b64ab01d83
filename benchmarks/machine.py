"""What a run was made on, so that its numbers can be judged later. No host name and no paths: results are published."""

import os
import platform
import re
import ssl
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.toolchain import Toolchain

_PACKAGES = (
    "uvicorn", "uvloop", "httptools", "fastapi", "starlette", "httpx", "aiohttp", "faststream", "nats-py",
    "cryptography", "msgspec", "orjson", "SQLAlchemy",
)  # fmt: skip


def describe(tools: Toolchain, work: Path) -> dict[str, str]:
    """Machine and software by name, in the order of the report."""
    return {
        **hardware(work),
        "OpenSSL": ssl.OPENSSL_VERSION,
        "nginx": _version_in(_one_line([tools.nginx, "-v"])),
        "wrk": _version_in(_one_line([tools.wrk, "-v"])),
        "nats-server": _version_in(_one_line([tools.nats_server, "--version"])),
        **{name: _package(name) for name in _PACKAGES},
    }


def hardware(work: Path) -> dict[str, str]:
    """The machine and what any program of ours needs, by name."""
    return {
        "CPU": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system of the logs": _one_line(["stat", "-f", "-c", "%T", work]),
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
        "Python": platform.python_version(),
    }


def revision(root: Path) -> str:
    """The git revision of `root`, with `+changes` if files differ from it; `unknown` outside git."""
    commit = _one_line(["git", "-C", root, "rev-parse", "--verify", "--quiet", "HEAD"])
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return "unknown"
    changed = _one_line(["git", "-C", root, "status", "--porcelain", "--untracked-files=no"])
    return f"{commit}{'+changes' if changed else ''}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _one_line(command: Sequence[str | Path]) -> str:
    """The first line a program prints, on either output; empty if there is no such program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def _version_in(line: str) -> str:
    found = re.search(r"\d+\.\d+(\.\d+)*", line)
    return found.group() if found else "unknown"


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
