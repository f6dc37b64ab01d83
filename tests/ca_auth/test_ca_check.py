"""`datong ca check`: what it says, in which form, and with which exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from ca_auth import identity_uri
from exchange import subsystem_id
from gateway.cli.ca_check import check
from tests.ca_auth.chain_kit import DAY, NOW, Holder, root

SUBSYSTEM = subsystem_id("CN/GOV/11990000000001011Q/tax")
AT = NOW.isoformat()

Run = Callable[..., tuple[int, Any]]

app = typer.Typer()
app.command()(check)


@pytest.fixture(scope="module")
def anchor() -> Holder:
    return root()


@pytest.fixture(scope="module")
def lower(anchor: Holder) -> Holder:
    return anchor.sub_ca("lower")


@pytest.fixture(scope="module")
def member(lower: Holder) -> Holder:
    return lower.leaf("tax", names=[x509.UniformResourceIdentifier(identity_uri(SUBSYSTEM))])


@pytest.fixture
def run(tmp_path: Path, anchor: Holder, lower: Holder) -> Run:
    """Check a leaf and give back the exit status and the JSON; files may be replaced by other content."""

    def run(leaf: Holder | bytes, *options: str, **files: bytes) -> tuple[int, Any]:
        chain = leaf if isinstance(leaf, bytes) else _pem(leaf, lower)
        content = {"anchor": _pem(anchor), "chain": chain, **files}
        arguments = ["--json", *options]
        if "--at" not in options:
            arguments += ["--at", AT]
        for option, data in content.items():
            path = tmp_path / option
            path.write_bytes(data)
            arguments += [f"--{option.partition('_')[0]}", str(path)]
        result = CliRunner().invoke(app, arguments)
        assert not isinstance(result.exception, Exception), result.output
        return result.exit_code, json.loads(result.stdout or result.stderr or "null")

    return run


def test_a_member_is_told_with_the_profile_the_path_and_how_revocation_was_checked(run: Run, member: Holder) -> None:
    status, answer = run(member)
    assert status == 0
    assert answer["identity"]["subsystem"] == SUBSYSTEM
    assert answer["profile"] == "datong-uri"
    assert answer["revocation"] == "unchecked"
    assert [label.split(",")[0] for label in answer["path"]] == ["CN=tax", "CN=lower", "CN=root"]
    assert answer["until"] == (NOW + 300 * DAY).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert answer["warnings"] == []


def test_a_good_certificate_that_names_nobody_is_accepted_with_a_warning_unless_a_profile_is_named(
    run: Run, lower: Holder
) -> None:
    stranger = lower.leaf("somebody")
    status, answer = run(stranger)
    assert (status, answer["profile"], answer["identity"]) == (0, None, None)
    assert "names nobody" in answer["warnings"][0]["en"]
    status, answer = run(stranger, "--profile", "datong-uri")
    assert (status, answer["rule"]) == (1, "certificate-profile")


def test_profile_none_is_without_our_rules(run: Run, lower: Holder) -> None:
    server = lower.leaf("server", purposes=None)
    assert run(server)[0] == 1
    status, answer = run(server, "--profile", "none")
    assert (status, answer["profile"], answer["warnings"]) == (0, "none", [])


def test_a_refusal_names_the_rule_the_certificate_and_what_to_do(run: Run, lower: Holder) -> None:
    status, answer = run(lower.leaf("late", end=NOW - DAY))
    assert (status, answer["rule"]) == (1, "certificate-expired")
    assert answer["certificate"].startswith("CN=late, serial ")
    assert all(answer[key] for key in ("problem", "problem_zh", "next", "next_zh"))


def test_revocation_by_list_and_by_answer(run: Run, anchor: Holder, lower: Holder, member: Holder) -> None:
    lists = _pem_crl(anchor.crl()) + _pem_crl(lower.crl())
    assert run(member, crl=lists)[1]["revocation"] == "crl"
    assert run(member, crl=anchor.crl(), crl_2=lower.crl([member]))[1]["rule"] == "certificate-revoked"
    assert run(member, crl=anchor.crl(), ocsp=lower.ocsp(member, lower))[1]["revocation"] == "ocsp"
    status, answer = run(member, "--profile", "none", ocsp=lower.ocsp(member, lower))
    assert status == 0
    assert "CN=lower" in answer["warnings"][0]["en"]


@pytest.mark.parametrize(
    ("at", "status"),
    [
        ("2026-06-01T12:00:00Z", 0),
        ("2026-06-01T12:00:00", 0),
        ("2026-06-01 20:00:00.5+08:00", 0),
        ("2031-06-01T12:00:00+00:00", 1),
        ("2026-06-01", 2),
        ("yesterday", 2),
        ("2026-13-01T12:00:00Z", 2),
        ("0001-01-01T00:00:00+08:00", 2),
    ],
)
def test_the_time_is_rfc_3339_with_an_offset_or_utc(run: Run, member: Holder, at: str, status: int) -> None:
    assert run(member, "--at", at)[0] == status


def test_depth_may_be_limited(run: Run, member: Holder) -> None:
    assert run(member, "--max-depth", "1")[0] == 0
    status, answer = run(member, "--max-depth", "0")
    assert (status, answer["rule"]) == (1, "certificate-chain-depth")


def test_der_files_hold_one_certificate_or_several(run: Run, anchor: Holder, lower: Holder, member: Holder) -> None:
    assert run(_der(member) + _der(lower), anchor=_der(anchor))[0] == 0
    assert run(_der(member))[1]["rule"] == "certificate-chain"


def test_a_chain_that_cannot_be_read_is_refused_and_one_damaged_intermediate_is_passed_over(
    run: Run, lower: Holder, member: Holder
) -> None:
    damaged = _pem(member).replace(b"MII", b"MIJ", 1)
    status, answer = run(damaged)
    assert (status, answer["rule"]) == (1, "certificate-malformed")
    status, answer = run(_pem(member) + damaged + _pem(lower))
    assert status == 0
    assert answer["warnings"][0]["en"].startswith("certificate 2 of ")
    assert run(_der(member)[:-30])[1]["rule"] == "certificate-malformed"


def test_damaged_anchors_accept_nobody(run: Run, anchor: Holder, member: Holder) -> None:
    damaged = _pem(anchor).replace(b"MII", b"MIJ", 1)
    assert run(member, anchor=damaged)[0] == 1
    assert run(member, anchor=damaged + _pem(anchor))[0] == 0


@pytest.mark.parametrize("option", ["anchor", "chain", "crl", "ocsp"])
@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_of_something_else_is_unusable(run: Run, member: Holder, option: str, content: bytes) -> None:
    status, answer = run(member, **{option: content})
    assert status == 2
    assert answer["error"]["detail_zh"]


def test_missing_files_and_unknown_options_are_unusable(run: Run, member: Holder, tmp_path: Path) -> None:
    assert run(member, "--profile", "nobodys")[0] == 2
    for option in ("--crl", "--ocsp"):
        assert run(member, option, str(tmp_path / "missing"))[0] == 2
    assert CliRunner().invoke(app, ["--anchor", str(tmp_path), "--chain", str(tmp_path)]).exit_code == 2
    assert CliRunner().invoke(app, []).exit_code == 2


@pytest.mark.parametrize(
    ("lang", "words"), [("en", ["accepted", "who", "NOT CHECKED"]), ("zh", ["接受", "身份", "未检查"])]
)
def test_people_are_told_in_their_language(
    tmp_path: Path, anchor: Holder, lower: Holder, member: Holder, lang: str, words: list[str]
) -> None:
    (tmp_path / "anchor").write_bytes(_pem(anchor))
    (tmp_path / "chain").write_bytes(_pem(member, lower))
    arguments = ["--anchor", str(tmp_path / "anchor"), "--chain", str(tmp_path / "chain"), "--at", AT, "--lang", lang]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert all(word in result.stdout for word in [*words, SUBSYSTEM])
    refused = CliRunner().invoke(app, [*arguments, "--max-depth", "0"])
    assert refused.exit_code == 1
    assert "certificate-chain-depth" in refused.stdout


def _pem(*holders: Holder) -> bytes:
    return b"".join(each.certificate.public_bytes(Encoding.PEM) for each in holders)


def _der(holder: Holder) -> bytes:
    return holder.certificate.public_bytes(Encoding.DER)


def _pem_crl(encoded: bytes) -> bytes:
    return x509.load_der_x509_crl(encoded).public_bytes(Encoding.PEM)
