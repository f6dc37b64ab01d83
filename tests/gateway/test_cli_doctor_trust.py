"""What the doctor sees of a trust file without a gateway: faults of the file, and CRLs that end or are gone."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange import Settings
from gateway.cli.findings import Finding
from gateway.cli.trust_checks import trust_file
from tests.ca_auth.issuing_world import Clock, make_ca

FILE = """
[[anchor]]
name = "ours"
certificates = "ca/root.crt"
[anchor.revocation]
crl = ["ca/issuing.crl", "ca/upstream.crl.pem"]
required = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CA whose CRL is good for an hour from now, and a trust file."""
    ca = make_ca(tmp_path / "ca", Clock(datetime.now(UTC).timestamp()))
    ca.revocations.new(next_update=timedelta(hours=1))
    ca.close()
    (tmp_path / "trust.toml").write_text(FILE, encoding="utf-8")
    (tmp_path / "subject.key").write_bytes(os.urandom(32))
    return tmp_path


def look(folder: Path) -> list[Finding]:
    settings = Settings.model_construct(trust_file=folder / "trust.toml", subject_key=folder / "subject.key")
    return list(trust_file(settings))


def states(findings: list[Finding]) -> list[str]:
    return [each.state for each in findings]


def test_fresh_lists_need_no_word(folder: Path) -> None:
    found = look(folder)
    assert states(found) == ["ok"]
    assert found[0].says == {"en": "1 anchor", "zh": "1 个信任锚"}


def test_a_list_that_ended_is_broken_and_one_that_ends_soon_a_warning(folder: Path) -> None:
    """The times are moved by making lists as of then."""
    for passed, state in ((timedelta(minutes=40), "warning"), (timedelta(hours=2), "failed")):
        then = Clock((datetime.now(UTC) - passed).timestamp())
        (folder / "other").mkdir(exist_ok=True)
        ca = make_ca(folder / "other" / state, then)
        ca.revocations.new(next_update=timedelta(hours=1))
        ca.close()
        text = FILE.replace("ca/", f"other/{state}/")
        (folder / "trust.toml").write_text(text, encoding="utf-8")
        found = look(folder)
        assert states(found) == ["ok", state]
        assert "Test CA" in found[1].name
        assert found[1].todo["zh"]


def test_no_list_at_all_is_broken(folder: Path) -> None:
    (folder / "ca" / "issuing.crl").unlink()
    (folder / "ca" / "upstream.crl.pem").unlink()
    found = look(folder)
    assert states(found)[0] == "ok"
    assert "failed" in states(found)
    assert any("every certificate is refused" in each.says["en"] for each in found)


def test_a_faulty_trust_file_is_told_with_its_line(folder: Path) -> None:
    (folder / "trust.toml").write_text(FILE + "\nunknown = 1\n", encoding="utf-8")
    (found,) = look(folder)
    assert found.state == "failed"
    assert "line" in found.says["en"]


def test_without_a_trust_file_there_is_nothing_to_say() -> None:
    assert list(trust_file(Settings.model_construct(trust_file=None))) == []
