"""`datong member|service|grant|adapter`: the commands on a real database, as a person and as a script use them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner, Result

from deploy import adapter
from gateway.cli import grants, groups, members, roles, services
from registry import Registry
from tests.registry.conftest import ENTERPRISES, EXAMPLE_SEED, HOUSING, TAX
from tests.registry.test_registry import certificate

TAX_BUREAU = TAX.rsplit("/", 1)[0]
Command = Callable[..., Result]


def whole() -> typer.Typer:
    """The nouns joined, as `datong` joins them."""
    app = typer.Typer()
    app.add_typer(members.app, name="member")
    app.add_typer(services.app, name="service")
    app.add_typer(grants.app, name="grant")
    app.add_typer(groups.app, name="group")
    app.add_typer(roles.app, name="role")
    app.add_typer(adapter.app, name="adapter")
    return app


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What becomes of a command in each database is tested where it is done."""
    return sqlite_url


@pytest.fixture
def datong(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command on the test's database; `exit_code` is the expected one."""
    monkeypatch.setenv("DATONG_REGISTRY_DATABASE", database_url)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    def run(*arguments: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(whole(), list(arguments))
        assert result.exit_code == exit_code, (result.stdout, result.stderr, result.exception)
        return result

    return run


@pytest.fixture
def seeded(datong: Command, database_url: str) -> Command:
    async def seed() -> None:
        registry = await Registry.open(database_url)
        await registry.seed(EXAMPLE_SEED)
        await registry.close()

    asyncio.run(seed())
    return datong


def parsed(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_mesh_is_registered_and_called_by_commands_alone(datong: Command) -> None:
    why = ("--why", "接入申请", "--by", "operator")
    datong("member", "add", TAX_BUREAU, "--name", "税务局", "--name-en", "Tax Bureau", *why)
    datong("member", "add", "CN/GOV/1199000000000102XG", "--name", "住房局", *why)
    datong("member", "add-subsystem", TAX, "--name", "税务", "--role", "owner", *why)
    datong("member", "add-subsystem", HOUSING, "--name", "公租房", *why)
    datong(
        *("service", "add", ENTERPRISES, "--title", "企业", *why),
        *("--operation", "GET /enterprises/{uscc}", "--operation", "post /search safe", "--timeout", "2.5"),
    )
    call = ("grant", "explain", HOUSING, ENTERPRISES, "GET", "/enterprises/9111")
    assert "[grant]" in datong(*call, exit_code=1).stdout
    granted = parsed(
        datong(
            *("grant", "add", HOUSING, ENTERPRISES, "--method", "GET", "--path", "/enterprises/{uscc}"),
            *("--purpose", "public-rental-housing", "--until", "2039-12-31", "--json", *why),
        )
    )
    assert granted["valid_to"] == "2039-12-31T16:00:00.000Z"
    assert granted["decided_by"] == "operator"
    permitted = parsed(datong(*call, "--json"))
    assert (permitted["permitted"], permitted["grant"]["id"]) == (True, granted["id"])
    assert granted["id"] in datong(*call).stdout
    assert granted["id"] in datong("grant", "list", "--client", HOUSING).stdout

    datong("grant", "revoke", granted["id"], "--why", "项目结束", "--by", "owner")
    refused = parsed(datong(*call, "--json", exit_code=1))
    assert (refused["permitted"], refused["rule"]) == (False, "grant-revoked")
    assert "项目结束" in refused["detail"]
    assert parsed(datong("grant", "list", "--json")) == []
    assert [each["active"] for each in parsed(datong("grant", "list", "--all", "--json"))] == [False]
    history = parsed(datong("grant", "show", granted["id"], "--json"))["changes"]
    assert [(each["by"], each["action"]) for each in history] == [("operator", "grant.add"), ("owner", "grant.revoke")]


def test_lists_and_pages_show_what_is_registered_in_either_language(seeded: Command) -> None:
    listed = seeded("member", "list").stdout
    assert TAX in listed
    assert "Example City Tax Bureau" in listed
    assert "示例市税务局" in seeded("member", "list", "--lang", "zh").stdout
    assert parsed(seeded("member", "list", "--json"))[0]["id"] == TAX_BUREAU
    shown = seeded("member", "show", TAX_BUREAU).stdout
    assert ENTERPRISES in shown
    assert "member.add" in shown
    assert ENTERPRISES in seeded("service", "list").stdout
    page = seeded("service", "show", ENTERPRISES).stdout
    assert "POST /enterprises/search  safe" in page
    assert "dt.q." in page
    assert parsed(seeded("service", "show", ENTERPRISES, "--json"))["timeout"] == 5.0
    assert "GET /enterprises/{uscc}" in seeded("grant", "show", "housing-reads-enterprises", "--lang", "zh").stdout


def test_a_service_is_closed_and_opened(seeded: Command) -> None:
    seeded("service", "disable", ENTERPRISES, "--notice", "系统升级", "--why", "变更单88")
    assert "系统升级" in seeded("service", "list").stdout
    explained = seeded("grant", "explain", HOUSING, ENTERPRISES, "GET", "/enterprises/1", exit_code=1)
    assert "系统升级" in explained.stdout
    done = parsed(seeded("service", "enable", ENTERPRISES, "--why", "升级完成", "--json"))
    assert done["changed"] is True
    assert "is so already" in seeded("service", "enable", ENTERPRISES, "--why", "升级完成").stdout


def test_a_subsystem_is_suspended_and_activated(seeded: Command) -> None:
    call = ("grant", "explain", HOUSING, ENTERPRISES, "GET", "/enterprises/1")
    seeded("member", "suspend", HOUSING, "--why", "密钥可能泄露")
    assert "[client-active]" in seeded(*call, exit_code=1).stdout
    seeded("member", "activate", HOUSING, "--why", "已更换证书")
    seeded(*call)


def test_a_decision_can_be_asked_for_another_day(seeded: Command) -> None:
    call = ("grant", "explain", HOUSING, ENTERPRISES, "GET", "/enterprises/1", "--at")
    seeded(*call, "2039-12-31")
    assert "[grant-expired]" in seeded(*call, "2040-01-01", exit_code=1).stdout
    # Nothing was registered then; as it is known now, the grant began a day later.
    assert "[client-registered]" in seeded(*call, "2024-12-31", exit_code=1).stdout
    assert "[grant-not-yet-valid]" in seeded(*call, "2024-12-31", "--known-at", "now", exit_code=1).stdout
    seeded(*call, "2025-01-01", "--known-at", "now")


def test_an_adapter_certificate_is_registered(seeded: Command, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    made = certificate(f"datong:{TAX}", begin=now - timedelta(hours=1), end=now + timedelta(days=1))
    path = tmp_path / "tax.crt"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    assert parsed(seeded("adapter", "register", TAX, str(path), "--why", "接入", "--json"))["changed"] is True
    assert "Nothing changed" in seeded("adapter", "register", TAX, str(path), "--why", "接入").stdout
    refused = seeded("adapter", "register", HOUSING, str(path), "--why", "接入", exit_code=1)
    assert f"datong:{TAX}" in refused.stderr
    missing = seeded("adapter", "register", TAX, str(tmp_path / "none.crt"), "--why", "接入", exit_code=1)
    assert "none.crt cannot be read" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("grant", "revoke", "g999", "--why", "x"), "grant g999"),
        (("member", "show", "CN/GOV/NOBODY"), "member CN/GOV/NOBODY"),
        (("member", "add", "CN/GOV/91350100M0001TGQXM", "--name", "x", "--why", "x"), "should be 1"),
        (("member", "add", TAX_BUREAU, "--name", "别名", "--why", "x"), "other content"),
        (("member", "add-subsystem", TAX, "--name", "x", "--role", "king", "--why", "x"), "king"),
        (("grant", "add", HOUSING, ENTERPRISES, "--purpose", "a b", "--why", "x"), "purpose"),
    ],
)
def test_what_is_refused_is_one_clear_line_and_what_to_do(
    seeded: Command, arguments: tuple[str, ...], said: str
) -> None:
    refused = seeded(*arguments, exit_code=1)
    assert refused.stdout == ""
    first, second = refused.stderr.splitlines()
    assert first.startswith("error: ")
    assert said in first
    assert second.strip()
    as_json = json.loads(seeded(*arguments, "--json", exit_code=1).stderr)["error"]
    assert said in as_json["detail"]
    assert as_json["rule"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("grant", "add", HOUSING, ENTERPRISES, "--purpose", "p", "--until", "tomorrow", "--why", "x"),
        ("grant", "add", HOUSING, ENTERPRISES, "--purpose", "p", "--until", "2039-01-01T00:00:00", "--why", "x"),
        ("service", "add", ENTERPRISES, "--title", "x", "--operation", "GET", "--why", "x"),
        ("service", "add", "CN/GOV/x", "--title", "x", "--operation", "GET /", "--why", "x"),
        ("member", "list", "--lang", "fr"),
        ("member", "list", "--database", "mysql://h/d"),
        ("grant", "revoke", "g1"),
    ],
)
def test_wrong_usage_ends_with_two(seeded: Command, arguments: tuple[str, ...]) -> None:
    assert "Traceback" not in seeded(*arguments, exit_code=2).output


def test_a_folder_without_a_registry_is_named_and_stays_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATONG_REGISTRY_DATABASE", raising=False)
    data = tmp_path / "data"
    result = CliRunner().invoke(whole(), ["member", "list", "--data", str(data), "--lang", "en"])
    assert result.exit_code == 1
    assert "there is no registry at" in result.stderr
    assert not data.exists()
    add = ["member", "add", TAX_BUREAU, "--name", "税务局", "--why", "x", "--data", str(data)]
    assert CliRunner().invoke(whole(), add).exit_code == 0
    assert (data / "registry.db").exists()


def test_a_database_that_is_down_is_an_error_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATONG_REGISTRY_DATABASE", "postgresql://datong:hidden-word@127.0.0.1:1/registry")
    result = CliRunner().invoke(whole(), ["member", "list", "--lang", "zh"])
    assert result.exit_code == 1
    assert "登记数据库不可用" in result.stderr
    assert "hidden-word" not in result.output


NOUNS = {
    "member": members.app,
    "service": services.app,
    "grant": grants.app,
    "group": groups.app,
    "role": roles.app,
    "adapter": adapter.app,
}


@pytest.mark.parametrize("noun", NOUNS)
def test_every_command_helps_with_an_example(noun: str) -> None:
    app = NOUNS[noun]
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        shown = CliRunner().invoke(whole(), [noun, name, "--help"])
        assert shown.exit_code == 0
        assert "Example:" in shown.stdout
        assert f"datong {noun} {name}" in " ".join(shown.stdout.split())


def test_a_grant_can_demand_signed_requests_and_every_command_says_so(seeded: Command) -> None:
    add = ("grant", "add", HOUSING, ENTERPRISES, "--path", "/enterprises", "--purpose", "arrears", "--why", "批复")
    granted = parsed(seeded(*add, "--signed", "--json"))
    assert granted["signed_requests"] is True
    unsigned = parsed(seeded(*add[:6], "--purpose", "inspection", "--why", "批复", "--json"))
    assert unsigned["signed_requests"] is False
    listed = {each["id"]: each["signed_requests"] for each in parsed(seeded("grant", "list", "--json"))}
    assert listed[granted["id"]] is True
    assert listed["housing-reads-enterprises"] is False
    assert "必须" in seeded("grant", "list", "--lang", "zh").stdout
    assert "own key" in seeded("grant", "show", granted["id"], "--lang", "en").stdout
    call = ("grant", "explain", HOUSING, ENTERPRISES, "GET", "/enterprises", "--purpose", "arrears", "--lang", "en")
    assert "own key" in seeded(*call).stdout
