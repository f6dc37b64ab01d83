"""wrk as a load tool for mTLS: how it is called, and what its report says."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchError
from benchmarks.targets import Target

NATIVE = Path(__file__).resolve().parent / "native"
_MARK = "REPORT "
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class WrkReport:
    """One run of wrk.

    Attributes:
        requests: Answers received whole, whatever their status.
        faults: Count by kind (`connect`, `read`, `write`, `status`, `timeout`); `status` is 400 and above.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    faults: Mapping[str, int]

    @property
    def good(self) -> int:
        """Answers that were not an error status."""
        return self.requests - self.faults.get("status", 0)

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.good / self.seconds if self.seconds else 0.0


def parse_report(output: str) -> WrkReport:
    """Read what `native/report.lua` printed among wrk's own lines.

    Raises:
        BenchError: There is no report in `output`, or it is not complete.
    """
    line = next((line for line in output.splitlines() if line.startswith(_MARK)), None)
    if line is None:
        raise BenchError("wrk gave no report")
    try:
        raw = json.loads(line.removeprefix(_MARK))
        return WrkReport(
            requests=int(raw["requests"]),
            seconds=raw["duration_us"] / 1e6,
            p50_ms=raw["p50_us"] / 1e3,
            p99_ms=raw["p99_us"] / 1e3,
            faults={kind: int(count) for kind, count in raw["faults"].items()},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"wrk gave a report that cannot be read: {line!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrk:
    """Runs wrk with a client certificate through the preloaded shim."""

    program: Path
    shim: Path

    def run(self, target: Target, *, connections: int, seconds: int, url: str | None = None) -> WrkReport:
        """Closed loop over kept-alive connections: each sends its next request when the last is answered."""
        return self._run(target, url or target.url, connections, seconds, extra=(), environment={})

    def run_new_connections(self, target: Target, url: str, *, connections: int, seconds: int) -> WrkReport:
        """One request a connection, each with a full handshake: `rate` counts connections per second."""
        return self._run(
            target,
            url,
            connections,
            seconds,
            extra=("-H", "Connection: close"),
            environment={"NO_RESUME": "1"},
        )

    def _run(
        self,
        target: Target,
        url: str,
        connections: int,
        seconds: int,
        extra: tuple[str, ...],
        environment: Mapping[str, str],
    ) -> WrkReport:
        headers = [part for name, value in target.headers.items() for part in ("-H", f"{name}: {value}")]
        load = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{_TIMEOUT_S}s"]
        script = ["-s", str(NATIVE / "report.lua")]
        done = subprocess.run(
            [str(self.program), *load, *script, *headers, *extra, url],
            env={
                **os.environ,
                **environment,
                "LD_PRELOAD": str(self.shim),
                "CLIENT_CERT": str(target.identity.cert),
                "CLIENT_KEY": str(target.identity.key),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            return parse_report(done.stdout)
        except BenchError as error:
            raise BenchError(
                f"{target.name}: {error} (exit {done.returncode}): {done.stderr.strip()[-500:]}"
            ) from error
