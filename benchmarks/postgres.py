"""A PostgreSQL of our own: in a folder of the run, on a free port of 127.0.0.1, durable, with the defaults of its makers."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.errors import BenchError
from benchmarks.processes import free_port

_USER = "datong"


@contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """The URL of a database, an empty one unless the folder was used before; the server ends with the block.

    Raises:
        BenchError: There is no installation, or it does not start.
    """
    binaries = _binaries()
    account = next((each for each in pwd.getpwall() if each.pw_name in ("postgres", "nobody")), None)
    if os.geteuid() != 0:
        account = None  # only root must not run it
    folder.mkdir(parents=True, exist_ok=True)
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, port = folder / "data", free_port()

    def run(program: str, *arguments: str) -> None:
        # To a file: with a pipe, the server that pg_ctl leaves behind would hold it open for ever.
        with (folder / "output").open("ab") as output:
            done = subprocess.run(
                [binaries / program, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
                check=False,
            )
        if done.returncode:
            raise BenchError(f"{program} failed:\n{(folder / 'output').read_text()[-2000:]}")

    fresh = not data.exists()
    if fresh:
        run("initdb", "-D", str(data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C")
    # As on a server of this size: a quarter of the memory that it is given, and room for a day's writes.
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c shared_buffers=1GB -c max_wal_size=4GB"
    run("pg_ctl", "-D", str(data), "-w", "-t", "60", "-l", str(folder / "log"), "-o", options, "start")
    try:
        if fresh:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", _USER, "datong")
        yield f"postgresql://{_USER}@127.0.0.1:{port}/datong"
    finally:
        run("pg_ctl", "-D", str(data), "-w", "-t", "120", "-m", "fast", "stop")


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name.split(".")[0]))
    on_path = shutil.which("initdb")
    if on_path:
        found.insert(0, Path(on_path).resolve().parent)
    for folder in found:
        if (folder / "pg_ctl").exists():
            return folder
    raise BenchError("there is no PostgreSQL (initdb, pg_ctl)")
