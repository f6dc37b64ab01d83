"""What a mesh remembers: its ports, its databases, and that only one mesh uses a folder."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.state import (
    MeshOptions,
    MeshState,
    MeshStateError,
    data_folder,
    decide,
    free_port,
    is_free,
    load_state,
    save_state,
)

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)


def first(tmp_path: Path, **changes: object) -> tuple[MeshOptions, MeshState]:
    options = MeshOptions(data=tmp_path, **{"port": 0, **changes})  # type: ignore[arg-type]
    return options, decide(options, None, now=NOW)


def test_the_first_start_chooses_ports_and_the_next_keeps_them(tmp_path: Path) -> None:
    _, state = first(tmp_path)
    assert state.created_at == "2026-03-01T08:30:00+00:00"
    assert len({state.port, state.nats_port, state.backend_port}) == 3
    save_state(tmp_path, state)
    assert load_state(tmp_path) == state
    assert decide(MeshOptions(data=tmp_path), state, now=datetime.now(UTC)) == state


def test_what_the_user_says_goes_before_what_is_remembered(tmp_path: Path, free_ports: Callable[[], int]) -> None:
    _, state = first(tmp_path)
    port = free_ports()
    options = MeshOptions(data=tmp_path, port=port, database="postgresql://u:p@db/registry")
    changed = decide(options, state, now=NOW)
    assert (changed.port, changed.database) == (port, "postgresql://u:p@db/registry")
    assert changed.nats_port == state.nats_port


def test_zero_asks_for_any_free_port_even_when_one_is_remembered(tmp_path: Path) -> None:
    _, state = first(tmp_path)
    with socket.create_server(("127.0.0.1", state.port)):
        assert decide(MeshOptions(data=tmp_path, port=0), state, now=NOW).port != state.port


@pytest.mark.parametrize(("name", "option"), [("port", "--port"), ("nats_port", "--nats-port")])
def test_a_busy_port_is_an_error_that_names_port_and_option(tmp_path: Path, name: str, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(MeshStateError, match=rf"Port {port} on 127\.0\.0\.1 is in use.*{option} N") as raised:
            first(tmp_path, **{name: port})
    assert str(port) in raised.value.texts["zh"]
    assert option in raised.value.texts["zh"]


def test_a_remembered_gateway_port_that_is_busy_is_not_changed_silently(tmp_path: Path) -> None:
    """Addresses that were printed, and perhaps noted, must not change by themselves."""
    _, state = first(tmp_path)
    with (
        socket.create_server(("127.0.0.1", state.port)),
        pytest.raises(MeshStateError, match=f"Port {state.port} "),
    ):
        decide(MeshOptions(data=tmp_path), state, now=NOW)


def test_ports_that_nobody_types_give_way(tmp_path: Path) -> None:
    _, state = first(tmp_path)
    with socket.create_server(("127.0.0.1", state.nats_port)), socket.create_server(("127.0.0.1", state.backend_port)):
        moved = decide(MeshOptions(data=tmp_path), state, now=NOW)
    assert moved.nats_port != state.nats_port
    assert moved.backend_port != state.backend_port


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeshStateError, match=r"Cannot listen on 192\.0\.2\.1"):
        first(tmp_path, host="192.0.2.1")


def test_state_is_for_its_owner_alone(tmp_path: Path) -> None:
    _, state = first(tmp_path)
    save_state(tmp_path, replace(state, database="postgresql://u:secret@db/registry"))
    assert stat.S_IMODE((tmp_path / "mesh.json").stat().st_mode) == 0o600
    with data_folder(tmp_path / "new"):
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "port": 1}', '{"format": 1'])
def test_damaged_state_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "mesh.json").write_text(content)
    with pytest.raises(MeshStateError, match=r"mesh\.json"):
        load_state(tmp_path)


def test_a_folder_holds_one_mesh_at_a_time(tmp_path: Path) -> None:
    with (
        data_folder(tmp_path),
        pytest.raises(MeshStateError, match=rf"already up on .*process {os.getpid()}"),
        data_folder(tmp_path),
    ):
        pytest.fail("two meshes hold one folder")
    with data_folder(tmp_path):
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom deploy.state import data_folder\n"
        "with data_folder(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(MeshStateError, match=f"process {holder.pid}"), data_folder(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with data_folder(tmp_path):
            pass


def test_a_file_in_the_place_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(MeshStateError, match="cannot be used"), data_folder(tmp_path / "data"):
        pass


def test_free_means_free() -> None:
    port = free_port("127.0.0.1")
    assert is_free("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free("127.0.0.1", port)
