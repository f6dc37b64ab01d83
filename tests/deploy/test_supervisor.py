"""Children of one parent, with real processes: small Python programs that behave well, badly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.supervisor import Event, Program, StartError, Supervisor
from tests.waiting import alive, until

WELL_BEHAVED = """
    import pathlib, signal, sys
    ready = pathlib.Path(sys.argv[1])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    print("serving", flush=True)
    ready.write_text("here\\n")
    signal.sigwait({signal.SIGTERM})
    with ready.with_name("order").open("a") as order:
        order.write(ready.name + "\\n")
"""
DEAF = """
    import pathlib, signal, subprocess, sys
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    below = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    pathlib.Path(sys.argv[1]).write_text(str(below.pid))
    signal.pause()
"""
BROKEN = """
    import sys
    sys.exit("no such table: members")
"""
MUTE = """
    import signal
    signal.pause()
"""


def program(folder: Path, name: str, text: str, **changes: object) -> Program:
    script = folder / f"{name}.py"
    script.write_text(textwrap.dedent(text))
    ready = folder / f"{name}.ready"
    settings = {"ready_within": 20.0, **changes}
    return Program(name=name, argv=(sys.executable, str(script), str(ready)), ready_file=ready, **settings)  # type: ignore[arg-type]


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[tuple[Supervisor, list[Event]]]:
    events: list[Event] = []
    async with Supervisor(tmp_path, events.append) as running:
        yield running, events


Running = tuple[Supervisor, list[Event]]


async def test_a_child_is_ready_when_it_says_so_and_keeps_its_log_and_pid(supervisor: Running, tmp_path: Path) -> None:
    child = await supervisor[0].start(program(tmp_path, "good", WELL_BEHAVED))
    assert child.running
    assert child.ready_text() == "here\n"
    assert (tmp_path / "good.pid").read_text() == f"{child.pid}\n"
    assert "serving" in child.log.read_text()
    assert [event.kind for event in supervisor[1]] == ["ready"]


async def test_a_ready_file_of_an_earlier_run_counts_for_nothing(supervisor: Running, tmp_path: Path) -> None:
    (tmp_path / "mute.ready").write_text("from before")
    with pytest.raises(StartError, match=r"mute was not ready within 0\.3 s"):
        await supervisor[0].start(program(tmp_path, "mute", MUTE, ready_within=0.3))


async def test_a_child_that_cannot_start_is_quoted(supervisor: Running, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"exit code 1.*broken\.log(?s:.*)no such table: members"):
        await supervisor[0].start(program(tmp_path, "broken", BROKEN))
    assert not (tmp_path / "broken.pid").exists()


async def test_children_stop_in_reverse_order(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        for name in ("first", "second", "third"):
            await supervisor.start(program(tmp_path, name, WELL_BEHAVED))
    assert (tmp_path / "order").read_text().split() == ["third.ready", "second.ready", "first.ready"]
    assert not list(tmp_path.glob("*.pid"))


async def test_who_does_not_listen_is_killed_with_everything_it_started(supervisor: Running, tmp_path: Path) -> None:
    child = await supervisor[0].start(program(tmp_path, "deaf", DEAF))
    pid, below = child.pid, int(child.ready_text())
    loop = asyncio.get_running_loop()
    started = loop.time()
    await supervisor[0].stop(within=0.5)
    assert loop.time() - started < 5
    await until(lambda: not alive(pid) and not alive(below))
    assert [event.kind for event in supervisor[1]] == ["ready", "stopping", "killed"]


async def test_a_child_that_dies_is_started_again_and_it_is_said(supervisor: Running, tmp_path: Path) -> None:
    child = await supervisor[0].start(program(tmp_path, "good", WELL_BEHAVED))
    first = child.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: [event.kind for event in supervisor[1]].count("ready") == 2)
    assert child.pid != first
    assert child.running
    died = supervisor[1][1]
    assert (died.kind, died.pid, died.code) == ("died", first, -signal.SIGKILL)
    assert supervisor[1][2].kind == "restarting"


async def test_pauses_grow_while_a_child_keeps_dying(supervisor: Running, tmp_path: Path) -> None:
    child = await supervisor[0].start(program(tmp_path, "good", WELL_BEHAVED))
    Path(child.program.argv[1]).write_text("import sys; sys.exit(1)")
    child.kill()
    await until(lambda: [event.kind for event in supervisor[1]].count("failed") == 2)
    pauses = [event.pause for event in supervisor[1] if event.kind == "restarting"]
    assert pauses[:3] == [0.2, 0.4, 0.8]


async def test_one_child_can_be_stopped_for_good(supervisor: Running, tmp_path: Path) -> None:
    child = await supervisor[0].start(program(tmp_path, "good", WELL_BEHAVED))
    await supervisor[0].stop_child("good")
    assert not child.running
    assert not supervisor[0].children
    assert [event.kind for event in supervisor[1]] == ["ready", "stopping", "stopped"]


PARENT = """
    import asyncio, pathlib, sys
    from deploy.supervisor import Program, Supervisor

    async def main() -> None:
        folder = pathlib.Path(sys.argv[1])
        async with Supervisor(folder) as supervisor:
            child = await supervisor.start(Program(
                name="mute", argv=(sys.executable, str(folder / "mute.py")), ready_file=folder / "mute.ready"))
            (folder / "up").write_text(str(child.pid))
            await asyncio.Event().wait()

    asyncio.run(main())
"""


@pytest.mark.faults
@pytest.mark.parametrize("watching", [False, True], ids=["kernel", "pipe"])
async def test_no_child_outlives_a_killed_parent(tmp_path: Path, watching: bool) -> None:
    """Whether the kernel ends the child (Linux) or the end of a pipe does (elsewhere)."""
    if sys.platform != "linux" and not watching:
        pytest.skip("only Linux ends children with their parent")
    (tmp_path / "mute.py").write_text(
        f"import os, signal\nopen({str(tmp_path / 'mute.ready')!r}, 'w').write(str(os.getpid()))\nsignal.pause()\n"
    )
    (tmp_path / "parent.py").write_text(textwrap.dedent(PARENT))
    root = Path(__file__).parents[2]
    if watching:
        # What `Child.start` does where the kernel has no such service, done by hand: a pipe that only we hold.
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, str(root / "deploy/child.py"), str(os.getpid())),
            *(sys.executable, str(tmp_path / "mute.py")),
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, "DATONG_CHILD_WATCHES": "yes"},
        )
    else:
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, str(tmp_path / "parent.py"), str(tmp_path)), env={**os.environ, "PYTHONPATH": str(root)}
        )
    ready = tmp_path / "mute.ready"
    await until(lambda: ready.exists() and ready.read_text() != "")
    child = int(ready.read_text())
    assert alive(child)
    if watching:
        assert parent.stdin
        parent.stdin.close()
    else:
        await until(lambda: (tmp_path / "up").exists())
        parent.kill()
    await until(lambda: not alive(child))
    with contextlib.suppress(ProcessLookupError):
        parent.kill()
    await parent.wait()
