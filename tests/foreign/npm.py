"""The NATS project's npm packages, installed once beside the environment of the tests: versions and hashes as locked."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.ci import require_or_skip

HERE = Path(__file__).parent / "node"
PROGRAM = "discover.mjs"


def node_folder() -> Path:
    """The folder with `discover.mjs` and what it needs; skips the test, or fails it in CI, where there is no npm."""
    npm = shutil.which("npm")
    require_or_skip(npm and shutil.which("node"), "node and npm (Debian: nodejs, npm)")
    lock = (HERE / "package-lock.json").read_bytes()
    place = Path(sys.prefix) / "foreign-node" / hashlib.sha256(lock).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as waiting:
        fcntl.flock(waiting, fcntl.LOCK_EX)  # tests run several at a time
        if not (place / "installed").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, place)
            done = subprocess.run(
                [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=place,
                capture_output=True,
                text=True,
                timeout=110,
                check=False,
            )
            require_or_skip(done.returncode == 0, f"what npm ci installs ({done.stderr[-500:]})")
            (place / "installed").touch()
    shutil.copy(HERE / PROGRAM, place)  # node looks for packages beside the program
    return place


def discover(url: str, anchors: Path, certificate: Path, key: Path, inbox: str) -> dict[str, list[dict[str, Any]]]:
    """What the NATS project's client finds on the bus: `ping`, `info` and `stats`, each a list of answers."""
    folder = node_folder()
    done = subprocess.run(
        ["node", PROGRAM, url, str(anchors), str(certificate), str(key), inbox],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return found
