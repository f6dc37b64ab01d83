"""The command: every verb it lists is there, says what it does, and loads nothing it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import COMMANDS, app

ROOT = Path(__file__).parents[2]
runner = CliRunner()


def test_help_lists_every_command_with_a_line() -> None:
    shown = runner.invoke(app, ["--help"], prog_name="datong", terminal_width=120)
    assert shown.exit_code == 0, shown.output
    for name in COMMANDS:
        assert f" {name} " in shown.output, name


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str) -> None:
    shown = runner.invoke(app, [name, "--help"], prog_name="datong")
    assert shown.exit_code == 0, shown.output
    assert f"Usage: datong {name}" in shown.output


def test_nothing_at_all_shows_the_help() -> None:
    shown = runner.invoke(app, [], prog_name="datong")
    assert "Usage: datong" in shown.output


def test_an_unknown_command_is_named() -> None:
    refused = runner.invoke(app, ["upp"], prog_name="datong")
    assert refused.exit_code == 2
    assert "upp" in refused.output


def test_one_command_does_not_load_the_others() -> None:
    """An adapter is small: it needs no web framework of the gateway and none of the demo."""
    program = (
        "import sys, typer.testing, deploy.cli as cli\n"
        "typer.testing.CliRunner().invoke(cli.app, ['adapter', 'run', '--help'])\n"
        "print([name for name in ('fastapi', 'uvicorn', 'deploy.mesh') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_contract_is_one_clear_line(tmp_path: Path) -> None:
    refused = runner.invoke(app, ["adapter", "run", str(tmp_path / "adapter.toml")], prog_name="datong")
    assert refused.exit_code == 2
    assert "adapter.toml" in refused.output
    assert "Traceback" not in refused.output
