"""`datong verify` and `datong audit`: what they print, and what they return to a script."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from exchange.ledger.ledger import Ledger
from exchange.log.record import read_record
from gateway.cli import audit
from gateway.cli.verify import verify
from tests.exchange.log_kit import CLIENTS, Attempt, Place, attempt, now_ms

OWNER = "CN/GOV/TAX/tax"

verify_app = typer.Typer()
verify_app.command()(verify)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a log of 43 records and its keys."""
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    asyncio.run(place.fill(20, [], extra=[REFUSED, *ANSWERED]))
    keys = {"format": "datong-keys/1", "logs": [place.signer.verifier.vkey], "trust_anchors": []}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    return tmp_path


REFUSED = attempt(1, outcome="refused", rule="grant")
ANSWERED = [attempt(0), attempt(2)]


def run(app: typer.Typer, *arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_json(app: typer.Typer, *arguments: object, status: int = 0) -> Any:
    result = run(app, *arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def test_list_finds_records_and_goes_on_where_it_ended(data: Path) -> None:
    first = run_json(audit.app, "list", "--data", data, "--limit", 30)
    second = run_json(audit.app, "list", "--data", data, "--limit", 30, "--cursor", first["next_cursor"])
    assert [one["seq"] for one in first["exchanges"] + second["exchanges"]] == list(range(42, -1, -1))
    refused = run_json(audit.app, "list", "--data", data, "--outcome", "refused")
    assert [one["record"]["id"] for one in refused["exchanges"]] == [REFUSED.exchange_id]
    assert run_json(audit.app, "list", "--data", data, "--until", "2020-01-01")["exchanges"] == []
    text = run(audit.app, "list", "--data", data, "--client", CLIENTS[1], "--rule", "grant")
    assert REFUSED.exchange_id in text.output
    assert "refused (grant)" in text.output
    assert run(audit.app, "list", "--data", data, "--cursor", "x").exit_code == 2
    assert run(audit.app, "list", "--data", data, "--since", "yesterday").exit_code == 2


def test_show_prints_a_record_and_writes_its_receipt(data: Path) -> None:
    receipt = data / "receipt.json"
    shown = run(audit.app, "show", REFUSED.exchange_id, "--data", data, "--receipt", receipt)
    assert shown.exit_code == 0, shown.output
    assert "query.purpose" in shown.output
    assert run_json(audit.app, "show", REFUSED.exchange_id, "--data", data)["record"]["outcome"] == "refused"
    verified = run(verify_app, receipt, "--keys", data / "keys.json")
    assert verified.exit_code == 0, verified.output
    assert verified.output.count("✓") == 9
    assert verified.output.count("–") == 4, "nobody witnessed, stamped or signed it, and nothing was carried"
    assert run_json(verify_app, receipt, "--keys", data / "keys.json")["ok"] is True
    assert "回执有效" in run(verify_app, receipt, "--keys", data / "keys.json", "--lang", "zh").output
    assert run(audit.app, "show", "01a206a1-73db-7edf-8228-92a438fdb5a5", "--data", data).exit_code == 1


def test_verify_tells_a_bad_receipt_from_unusable_input(data: Path) -> None:
    receipt, keys = data / "receipt.json", data / "keys.json"
    run(audit.app, "show", REFUSED.exchange_id, "--data", data, "--receipt", receipt)
    receipt.write_text(receipt.read_text().replace("refused", "answered", 1))
    forged = run(verify_app, receipt, "--keys", keys)
    assert forged.exit_code == 1
    assert "✗ in the log" in forged.output
    assert "NOT" in forged.output
    receipt.write_text("{")
    assert run(verify_app, receipt, "--keys", keys).exit_code == 1
    assert run(verify_app, data / "none", "--keys", keys).exit_code == 2
    assert run(verify_app, receipt, "--keys", data / "none").exit_code == 2
    assert run(verify_app, receipt, "--keys", receipt).exit_code == 2


def test_check_passes_an_untouched_log_and_names_what_was_changed(data: Path) -> None:
    assert run(audit.app, "check", "--data", data).exit_code == 0
    good = run_json(audit.app, "check", "--data", data)
    assert (good["ok"], good["size"], good["held_checkpoints"]) == (True, 43, 1)
    with closing(sqlite3.connect(data / "log.db")) as database:
        database.execute(
            "UPDATE log_entries SET outcome = 'answered', leaf = CAST(replace(CAST(leaf AS TEXT), 'refused', 'answered')"
            " AS BLOB) WHERE outcome = 'refused'"
        )
        database.commit()
    bad = run(audit.app, "check", "--data", data)
    assert bad.exit_code == 1
    assert "entry 20" in bad.output
    assert REFUSED.exchange_id in bad.output
    assert run_json(audit.app, "check", "--data", data, status=1)["where"] == "entry 20"
    assert "改动" in run(audit.app, "check", "--data", data, "--lang", "zh").output


def test_check_compares_with_checkpoints_that_were_kept_elsewhere(data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (data / "log.key.signed").rename(kept)
    with closing(sqlite3.connect(data / "log.db")) as database:
        database.execute("DELETE FROM log_checkpoints")
        database.execute("DELETE FROM log_edge")
        database.execute("DELETE FROM log_entries WHERE seq > 0")
        database.execute("UPDATE log_state SET size = 1, root = (SELECT leaf_hash FROM log_entries)")
        database.commit()
    assert run(audit.app, "check", "--data", data).exit_code == 0
    found = run(audit.app, "check", "--data", data, "--checkpoint", kept)
    assert found.exit_code == 1
    assert "removed" in found.output


def test_what_cannot_be_read_is_said_with_status_2(data: Path, tmp_path: Path) -> None:
    (data / "keys.json").rename(data / "other.json")
    assert run(audit.app, "check", "--data", data).exit_code == 2
    assert run(audit.app, "check", "--data", data, "--keys", data / "other.json").exit_code == 0
    assert run(audit.app, "list", "--data", tmp_path / "nowhere").exit_code == 2
    assert run(audit.app, "list", "--database", "mysql://x/y").exit_code == 2
    not_ours = tmp_path / "not-a-database"
    not_ours.write_text("no")
    assert run(audit.app, "list", "--database", f"sqlite:///{not_ours}").exit_code == 2
    assert run(audit.app, "reconcile", "--data", data, "--ledger", tmp_path / "none").exit_code == 2


async def write_ledger(folder: Path, attempts: list[Attempt]) -> None:
    ledger = await Ledger.open(folder, OWNER)
    for one in attempts:
        record = read_record(one.record)
        ledger.answered([(bytes(record.query), b"", bytes(record.answer), b"")])  # type: ignore[arg-type]
    await ledger.close()


def test_reconcile_tells_agreement_from_contradiction(tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    old = now_ms() - 3_600_000
    attempts = [attempt(0, at_ms=old) for _ in range(5)]
    asyncio.run(place.fill(0, [], extra=attempts[:4]))
    asyncio.run(write_ledger(tmp_path / "agrees", attempts[:4]))
    asyncio.run(write_ledger(tmp_path / "more", attempts))
    good = run(audit.app, "reconcile", "--data", tmp_path, "--ledger", tmp_path / "agrees")
    assert good.exit_code == 0, good.output
    bad = run(audit.app, "reconcile", "--data", tmp_path, "--ledger", tmp_path / "more")
    assert bad.exit_code == 1
    assert attempts[4].exchange_id in bad.output
    lines = run(audit.app, "reconcile", "--data", tmp_path, "--ledger", tmp_path / "more", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines][-1]["contradictions"] == 1
