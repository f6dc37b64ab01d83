"""The mesh under test: the real product processes, started as a whole by `deploy.trial_mesh`.

What is agreed with that program:
1. `python -m deploy.trial_mesh --dir DIR --backend-url URL --variant VARIANT` brings up one mesh with its own
   certificates, members, one grant and one service whose answer is about 1 kB of JSON. DIR is empty, on a real disk.
2. When a request would be answered it prints one line of JSON on standard output: `url` (GET it), `headers`
   (X-Road-Client), `pids` (roots of all its process trees), `cert`, `key`, `ca` (paths of PEM files); optional:
   `local_url` (answers without an exchange; default /healthz), `limit` (requests carried at once before a 503).
3. At the end of its standard input, or on SIGTERM, it ends everything that it started, and then itself.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin

from benchmarks.errors import BenchError
from benchmarks.processes import Processes
from benchmarks.targets import Identity, Target

Variant = Literal["full", "http", "no-evidence"]

NAMES: Mapping[Variant, str] = {"full": "mesh", "http": "mesh_http", "no-evidence": "mesh_no_evidence"}
"""full: adapter with an in-process Python source. http: its source is the peers' HTTP backend.
no-evidence: as full, without seals and log; a build for measurement only."""

_START_S = 120.0
_POLL_S = 0.05


class MeshUnderTest:
    """Starts the mesh in its variants; they run side by side, and `processes` ends them.

    Args:
        backend_url: Base URL of the peers' backend, for the HTTP source; it answers GET /b/1k.
        backend_pids: Processes of that backend: their CPU time counts for the variant that calls it.
        work: Folder below which each variant gets its own.
        program: Command of the program described above, without its options.
    """

    def __init__(
        self,
        processes: Processes,
        *,
        backend_url: str,
        backend_pids: tuple[int, ...],
        work: Path,
        program: Sequence[str] = (sys.executable, "-m", "deploy.trial_mesh"),
    ) -> None:
        self._processes = processes
        self._backend_url = backend_url
        self._backend_pids = backend_pids
        self._work = work
        self._program = program

    def start(self, variant: Variant) -> Target:
        """Bring up one variant and return when it answers.

        Raises:
            BenchError: It ended, took too long, or announced something unreadable.
        """
        name = NAMES[variant]
        folder, announcement = self._work / name, self._work / f"{name}.ready"
        folder.mkdir(parents=True)
        options = ["--dir", str(folder), "--backend-url", self._backend_url, "--variant", variant]
        process = self._processes.start(name, [*self._program, *options], output=announcement)
        line = self._first_line(name, process, announcement)
        return parse_announcement(name, line, extra_pids=self._backend_pids if variant == "http" else ())

    def _first_line(self, name: str, process: subprocess.Popen[bytes], announcement: Path) -> str:
        # A file rather than a pipe: nobody reads on after the first line, and a full pipe would stop the mesh.
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            for line in announcement.read_text(errors="replace").splitlines(keepends=True):
                if line.startswith("{") and line.endswith("\n"):
                    return line
            self._processes.check_alive(name, process)
            time.sleep(_POLL_S)
        raise BenchError(f"{name} is not ready after {_START_S:.0f} s\n{self._processes.tail(name)}")


def parse_announcement(name: str, line: str, *, extra_pids: tuple[int, ...] = ()) -> Target:
    """Read the line that the mesh prints when it is ready.

    Raises:
        BenchError: Something is missing from it or has the wrong type.
    """
    try:
        said: dict[str, Any] = json.loads(line)
        return Target(
            name=name,
            role="mesh",
            url=str(said["url"]),
            headers={str(header): str(value) for header, value in said["headers"].items()},
            pids=(*(int(pid) for pid in said["pids"]), *extra_pids),
            identity=Identity(cert=Path(said["cert"]), key=Path(said["key"]), ca=Path(said["ca"])),
            local_url=str(said.get("local_url") or urljoin(said["url"], "/healthz")),
            limit=int(said["limit"]) if said.get("limit") else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{name} announced itself in an unreadable way: {line.strip()!r}") from error
