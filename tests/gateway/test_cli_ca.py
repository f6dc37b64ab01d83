"""`datong ca`: every command, as an operator and a department type it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from typer.testing import CliRunner, Result

from ca_auth import identity_of, load_crls
from exchange import subsystem_id
from gateway.cli.ca import app
from tests.ca_auth.enrolment_server import CaServer, ca_server
from tests.ca_auth.issuing_world import csr_for, new_key, openssl

TAX = subsystem_id("CN/GOV/11990000000000000X/tax")
PASSPHRASE = "correct horse battery staple"


def ca_command(*arguments: str | Path, typed: str | None = None, lang: str = "C.UTF-8") -> Result:
    environment = {"LC_ALL": lang, "DATONG_CA": None, "COLUMNS": "200"}
    return CliRunner().invoke(app, [str(each) for each in arguments], input=typed, env=environment)


def done(*arguments: str | Path, typed: str | None = None) -> str:
    result = ca_command(*arguments, typed=typed)
    assert result.exit_code == 0, result.output + result.stderr
    return result.stdout


def as_json(*arguments: str | Path) -> Any:
    return json.loads(done(*arguments, "--json"))


def refused(*arguments: str | Path) -> dict[str, str]:
    result = ca_command(*arguments, "--json")
    assert result.exit_code == 1, result.output
    error: dict[str, str] = json.loads(result.stderr)["error"]
    return error


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA that is never changed: tests work on copies."""
    folder = tmp_path_factory.mktemp("ca")
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    done(
        "init",
        folder / "ca",
        "--name",
        "测试 CA",
        "--passphrase-file",
        folder / "passphrase",
        "--permit-member",
        "CN/GOV",
    )
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "ca", tmp_path / "ca")
    shutil.copy(made / "passphrase", tmp_path / "passphrase")
    return tmp_path / "ca"


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[CaServer]:
    with ca_server(folder, tmp_path) as running:
        yield running


# Beginning


def test_init_asks_for_the_passphrase_twice_and_tells_to_take_the_root_away(tmp_path: Path) -> None:
    typed = f"{PASSPHRASE}\n{PASSPHRASE}\n"
    said = done("init", tmp_path / "ca", typed=typed)
    assert "offline/root.key off this machine" in said
    root = x509.load_pem_x509_certificate((tmp_path / "ca/root.crt").read_bytes())
    shown = openssl("x509", "-in", tmp_path / "ca/root.crt", "-noout", "-fingerprint", "-sha256").stdout
    assert shown.strip().rpartition("=")[2] in said
    key = (tmp_path / "ca/offline/root.key").read_bytes()
    with pytest.raises(TypeError):
        load_pem_private_key(key, None)
    assert load_pem_private_key(key, PASSPHRASE.encode()).public_key() == root.public_key()


def test_init_over_a_ca_is_refused(folder: Path, tmp_path: Path) -> None:
    assert refused("init", folder, "--passphrase-file", tmp_path / "passphrase")["rule"] == "ca-exists"


def test_init_speaks_chinese(tmp_path: Path) -> None:
    (tmp_path / "p").write_text(PASSPHRASE)
    result = ca_command("init", tmp_path / "ca", "--passphrase-file", tmp_path / "p", lang="zh_CN.UTF-8")
    assert result.exit_code == 0
    assert "根证书指纹" in result.stdout
    again = ca_command("init", tmp_path / "ca", "--passphrase-file", tmp_path / "p", "--lang", "zh")
    assert (again.exit_code, "不为空" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("init", "x", "--curve", "Ed25519"),
        ("init", "x", "--pkcs11-token", "t"),
        ("init", "x", "--pkcs11-module", "/x.so"),
        ("code", "--for", "nonsense"),
        ("code",),
        ("code", "--for", TAX, "--valid-for", "soon"),
        ("code", "--for", TAX, "--server", "x.example"),
        ("code", "--server", "not a name"),
        ("code", "--person", "张三"),
        ("revoke",),
        ("revoke", "aa", "--for", TAX),
        ("revoke", "aa", "--reason", "boredom"),
        ("crl", "--der"),
        ("list", "--lang", "fr"),
        ("enroll", "--url", "https://x", "--root-fingerprint", "0", "--code", "x", "--out", "x", "--name", "../x"),
        ("root-crl", "--root", "x", "--root-key", "x"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ca_command(*arguments).exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["code", "issue", "revoke", "crl", "list", "serve", "request", "install", "enroll"])
def test_every_command_has_an_example(command: str) -> None:
    assert f"Example: datong ca {command}" in " ".join(ca_command(command, "--help").stdout.split())


def test_a_folder_that_is_no_ca_is_said(tmp_path: Path) -> None:
    assert refused("list", "--ca", tmp_path)["rule"] == "ca-folder"


# The root


def test_the_root_signs_a_second_issuing_ca_and_its_crl(folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    done("init", second, "--existing-root", "--name", "区级 CA")
    root = ("--root", folder / "root.crt", "--root-key", folder / "offline/root.key")
    passphrase = ("--passphrase-file", tmp_path / "passphrase")
    assert refused("list", "--ca", second)["rule"] == "ca-not-installed"
    signed = tmp_path / "issuing.crt"
    done("sign-issuing", second / "issuing.csr", *root, *passphrase, "--out", signed, typed="y\n")
    assert ca_command("sign-issuing", second / "issuing.csr", *root, *passphrase, typed="n\n").exit_code == 1
    done("install", signed, "--root", folder / "root.crt", "--ca", second)
    crl = tmp_path / "root.crl.pem"
    done("root-crl", *root, *passphrase, "--previous", folder / "upstream.crl.pem", "--out", crl)
    done("crl", "--ca", second, "--import", crl, "--all", "--out", tmp_path / "all.pem")
    done("issue", "--ca", second, "--for", TAX, "--out", tmp_path / "tax")
    verified = openssl(
        *(
            "verify",
            "-x509_strict",
            "-crl_check_all",
            "-CAfile",
            folder / "root.crt",
            "-untrusted",
            second / "issuing.crt",
        ),
        *("-CRLfile", tmp_path / "all.pem", tmp_path / "tax/tax.crt"),
    )
    assert verified.returncode == 0, verified.stderr
    done("root-crl", *root, *passphrase, "--previous", crl, "--revoke", signed, "--reason", "superseded", "--out", crl)
    (revoked,) = load_crls(crl.read_bytes())
    assert len(revoked) == 1


def test_a_wrong_passphrase_does_not_open_the_root(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("something else")
    root = ("--root", folder / "root.crt", "--root-key", folder / "offline/root.key")
    error = refused("root-crl", *root, "--first", "--passphrase-file", tmp_path / "wrong", "--out", tmp_path / "crl")
    assert error["rule"] == "ca-key"
    assert not (tmp_path / "crl").exists()


# Issuing


def test_issue_makes_a_key_here_or_takes_a_signing_request(folder: Path, tmp_path: Path) -> None:
    issued = as_json("issue", "--ca", folder, "--for", TAX, "--organization", "税务局", "--out", tmp_path / "a")
    certificate = x509.load_pem_x509_certificates((tmp_path / "a/tax.crt").read_bytes())[0]
    assert identity_of(certificate).subsystem == TAX
    assert issued["serial_number"] == f"{certificate.serial_number:x}"
    key = load_pem_private_key((tmp_path / "a/tax.key").read_bytes(), None)
    assert key.public_key() == certificate.public_key()
    mine = new_key()
    (tmp_path / "my.csr").write_bytes(csr_for(mine, "police"))
    done("issue", "--ca", folder, "--for", TAX, "--csr", tmp_path / "my.csr", "--days", "7", "--out", tmp_path / "b")
    other = x509.load_pem_x509_certificates((tmp_path / "b/tax.crt").read_bytes())[0]
    assert other.public_key() == mine.public_key()
    assert identity_of(other).subsystem == TAX
    assert not (tmp_path / "b/tax.key").exists()
    assert ca_command("issue", "--ca", folder, "--for", TAX, "--out", tmp_path / "a").exit_code == 2


def test_issue_keeps_to_the_limits(folder: Path, tmp_path: Path) -> None:
    assert refused("issue", "--ca", folder, "--for", "CN/COM/1/x", "--out", tmp_path)["rule"] == "ca-request"
    assert refused("issue", "--ca", folder, "--for", TAX, "--days", "9999", "--out", tmp_path)["rule"] == "ca-request"
    (tmp_path / "bad.csr").write_text("nothing")
    error = refused("issue", "--ca", folder, "--for", TAX, "--csr", tmp_path / "bad.csr", "--out", tmp_path)
    assert error["rule"] == "csr-form"


def test_a_persons_number_comes_from_a_file_and_is_not_listed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "number").write_text("IDCCN-11010519491231002X\n")
    person = ("--person", "张三", "--person-number-file", tmp_path / "number", "--for", "CN/GOV/11990000000000000X")
    done("issue", "--ca", folder, *person, "--out", tmp_path, "--name", "zhang")
    certificate = x509.load_pem_x509_certificates((tmp_path / "zhang.crt").read_bytes())[0]
    assert "IDCCN-11010519491231002X" in certificate.subject.rfc4514_string()
    for shown in (done("list", "--ca", folder), done("list", "--ca", folder, "--json")):
        assert "张三" in shown
        assert "11010519491231002X" not in shown


def test_list_shows_what_ends_soon_and_what_codes_there_are(folder: Path, tmp_path: Path) -> None:
    done("issue", "--ca", folder, "--for", TAX, "--days", "10", "--out", tmp_path, "--name", "short", "--why", "试用")
    done("issue", "--ca", folder, "--server", "gw.example.cn", "--days", "100", "--out", tmp_path)
    assert [each["holder"] for each in as_json("list", "--ca", folder)] == [TAX, "gw.example.cn"]
    (soon,) = as_json("list", "--ca", folder, "--expiring", "30")
    assert (soon["holder"], soon["why"], soon["state"]) == (TAX, "试用", "valid")
    assert as_json("list", "--ca", folder, "--for", "gw.example.cn")[0]["holder"] == "gw.example.cn"
    code = as_json("code", "--ca", folder, "--for", TAX, "--valid-for", "30m")
    (listed,) = as_json("list", "--ca", folder, "--codes")
    assert (listed["name"], listed["state"]) == (code["name"], "open")
    assert code["code"] not in done("list", "--ca", folder, "--codes")


# The department


def test_enrol_and_renew_over_the_network(folder: Path, server: CaServer, tmp_path: Path) -> None:
    code = as_json("code", "--ca", folder, "--for", TAX, "--url", server.url)
    out = tmp_path / "dept"
    where = ("--url", server.url, "--root-fingerprint", code["root_fingerprint"], "--out", out)
    got = as_json("enroll", *where, "--code", code["code"], "--name", "tax")
    assert got["holder"] == TAX
    first = x509.load_pem_x509_certificates((out / "tax.crt").read_bytes())[0]
    renewal = ("renew", "--url", server.url, "--cert", out / "tax.crt")
    assert as_json(*renewal)["renewed"] is False
    renewed = as_json(*renewal, "--now")
    second = x509.load_pem_x509_certificates((out / "tax.crt").read_bytes())[0]
    assert (renewed["renewed"], second == first, second.subject == first.subject) == (True, False, True)
    assert (
        refused("enroll", *where[:4], "--out", tmp_path / "x", "--code", code["code"])["rule"] == "enrolment-code-used"
    )
    revoked = as_json("revoke", "--ca", folder, "--for", TAX, "--reason", "key-compromise", "--why", "失窃")
    assert sorted(revoked["revoked"]) == sorted(f"{each.serial_number:x}" for each in (first, second))
    assert refused(*renewal, "--now")["rule"] == "certificate-revoked"
    assert server.stop() in (0, -15)
    assert refused(*renewal, "--now")["rule"] == "unreachable"


def test_enroll_asks_for_the_code(folder: Path, server: CaServer, tmp_path: Path) -> None:
    code = as_json("code", "--ca", folder, "--for", TAX)
    where = ("--url", server.url, "--root-fingerprint", code["root_fingerprint"], "--out", tmp_path / "dept")
    assert "client.crt" in done("enroll", *where, typed=f"{code['code'].lower()}\n")


def test_enroll_with_another_fingerprint_is_refused(server: CaServer, tmp_path: Path) -> None:
    where = ("--url", server.url, "--root-fingerprint", "ab" * 32, "--out", tmp_path / "dept")
    assert refused("enroll", *where, "--code", "x")["rule"] == "root-fingerprint"


def test_renew_without_files_says_which(tmp_path: Path) -> None:
    error = refused("renew", "--url", "https://localhost:1", "--cert", tmp_path / "none.crt")
    assert "none.crt" in error["detail"]


def test_serve_renews_its_own_certificate_and_keeps_a_good_one(folder: Path, tmp_path: Path) -> None:
    with ca_server(folder, tmp_path) as server:
        first = (folder / "server/server.crt").read_bytes()
        server.stop()
        server.start()
        assert (folder / "server/server.crt").read_bytes() == first
    with ca_server(folder, tmp_path, "--server-name", "localhost", "--server-name", "ca.example.cn"):
        assert (folder / "server/server.crt").read_bytes() != first


# Revoking


def test_a_certificate_is_revoked_by_serial_fingerprint_or_file(folder: Path, tmp_path: Path) -> None:
    issued = [as_json("issue", "--ca", folder, "--for", TAX, "--out", tmp_path / str(each)) for each in range(3)]
    for number, named in enumerate(
        (issued[0]["serial_number"].upper(), issued[1]["fingerprint"], tmp_path / "2" / "tax.crt")
    ):
        assert as_json("revoke", named, "--ca", folder)["revoked"] == [issued[number]["serial_number"]]
    assert as_json("revoke", issued[0]["serial_number"], "--ca", folder)["revoked"] == []
    assert refused("revoke", "abcdef", "--ca", folder)["rule"] == "ca-revoke"
    assert refused("revoke", "--for", "CN/GOV/1/none", "--ca", folder)["rule"] == "ca-revoke"
    listed = x509.load_pem_x509_crl(done("crl", "--ca", folder).encode())
    assert {f"{each.serial_number:x}" for each in listed} == {each["serial_number"] for each in issued}
    assert as_json("list", "--ca", folder) == []
    assert {each["state"] for each in as_json("list", "--ca", folder, "--all")} == {"revoked"}


def test_check_accepts_what_was_issued_and_refuses_what_was_revoked(folder: Path, tmp_path: Path) -> None:
    issued = as_json("issue", "--ca", folder, "--for", TAX, "--out", tmp_path / "x")
    check = ("check", "--anchor", folder / "root.crt", "--chain", tmp_path / "x/tax.crt")
    crls = ("--crl", folder / "issuing.crl", "--crl", folder / "upstream.crl.pem")
    done("crl", "--ca", folder, "--out", tmp_path / "crl.pem")
    assert TAX in done(*check, *crls)
    done("revoke", issued["serial_number"], "--ca", folder)
    result = ca_command(*check, *crls)
    assert (result.exit_code, "certificate-revoked" in result.stdout + result.stderr) == (1, True)


def test_crl_prints_writes_renews_and_merges(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    first = as_json("crl", "--ca", folder)
    assert as_json("crl", "--ca", folder)["number"] == first["number"]
    later = as_json("crl", "--ca", folder, "--next-update", "12h")
    assert later["number"] > first["number"]
    done("crl", "--ca", folder, "--der", "--out", tmp_path / "crl.der")
    assert (tmp_path / "crl.der").read_bytes() == (folder / "issuing.crl").read_bytes()
    issued = as_json("issue", "--ca", folder, "--for", TAX, "--out", tmp_path / "x")
    done("revoke", issued["serial_number"], "--ca", folder)
    merged = as_json("crl", "--ca", tmp_path / "copy", "--merge", folder / "issuing.crl")
    assert merged["entries"] == 1
    taken = x509.load_der_x509_crl((tmp_path / "copy/issuing.crl").read_bytes())
    assert [f"{each.serial_number:x}" for each in taken] == [issued["serial_number"]]
    (tmp_path / "rubbish").write_text("x")
    for option in ("--import", "--merge"):
        assert refused("crl", "--ca", folder, option, tmp_path / "rubbish")["rule"] == "ca-crl"
