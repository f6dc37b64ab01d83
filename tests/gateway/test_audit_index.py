"""`datong audit index`: made, compared with the records, made anew."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import app
from tests.exchange.search_kit import fill, varied

ENTRIES = 4096 + 10


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a log."""
    asyncio.run(fill(f"sqlite:///{tmp_path / 'log.db'}", tmp_path, varied(31, ENTRIES)))
    return tmp_path


def index(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", "index", "--data", str(data), *arguments])


def test_the_index_is_made_compared_and_made_anew(data: Path) -> None:
    assert json.loads(index(data, "--check", "--json").stdout) == {"ok": True, "indexed": 0, "size": ENTRIES}
    assert json.loads(index(data, "--json").stdout) == {"ok": True, "indexed": 4096, "size": ENTRIES}
    done = index(data, "--lang", "en")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"✓ The search index holds 4096 of {ENTRIES} entries; newer ones are read from the log.\n"
    assert index(data, "--check").exit_code == 0
    with closing(sqlite3.connect(data / "log-search.db", isolation_level=None)) as db:
        db.execute("UPDATE search_rows SET data = zeroblob(100)")
    named = index(data, "--check", "--lang", "zh")
    assert named.exit_code == 1
    assert "第 0 至 4095 条的索引" in named.stdout
    fault = json.loads(index(data, "--check", "--json").stdout)
    assert (fault["ok"], fault["fault"]["first"], fault["fault"]["end"]) == (False, 0, 4096)
    assert index(data, "--rebuild").exit_code == 0
    assert index(data, "--check").exit_code == 0


def test_what_cannot_be_done_is_said(data: Path, tmp_path: Path) -> None:
    assert index(data, "--check", "--rebuild").exit_code == 2
    nothing = index(tmp_path / "nothing", "--lang", "en")
    assert nothing.exit_code == 2
    assert "there is no log at" in nothing.output
    (data / "log-search.db").mkdir()
    assert index(data).exit_code == 2
