"""`datong application`: the steps on a real database, as a person and as a script take them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import applications
from registry import Applications, Registry
from registry.applications.desk import Rulebook
from tests.registry.application_world import ARREARS, NOTICES, OFF_PLATFORM, World, resource
from tests.registry.example import EXAMPLE_SEED, HOUSING, TAX, Clock

Command = Callable[..., Result]

APPLICANT = ("--as", HOUSING, "--by", "李四")
OWNER = ("--as", TAX, "--by", "王五")
WANTED = (
    *("--purpose", "public-rental-housing", "--purpose-text", "核查企业", "--legal-basis", "第七条"),
    *("--scenario", "受理", "--item", "uscc", "--item", "owner.phone", "--until", "2039-12-31"),
    *("--contact", "0771", "--official", "李四", "--calls-per-day", "100"),
)
GROUNDS = ("--reason-code", "scope-too-wide", "--text", "超出所需", "--basis", "条例第二十条")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What becomes of a command in each database is tested where it is done."""
    return sqlite_url


@pytest.fixture
def datong(database_url: str, rulebook: Rulebook, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `datong application` on a registry with three resources; `exit_code` is the expected one."""
    monkeypatch.setenv("DATONG_REGISTRY_DATABASE", database_url)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    async def furnish() -> None:
        registry = await Registry.open(database_url)
        await registry.seed(EXAMPLE_SEED)
        world = World(registry=registry, clock=Clock(), applications=Applications(registry, rulebook))
        await world.publish(ARREARS)
        await world.publish(OFF_PLATFORM, accesses=())
        free = tuple(item for item in resource(NOTICES).items if item.path in ("uscc", "name"))
        await world.publish(NOTICES, sharing_class="unconditional", conditions="", legal_basis="", items=free)
        await registry.close()

    asyncio.run(furnish())

    def run(*arguments: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(applications.app, list(arguments))
        assert result.exit_code == exit_code, (result.stdout, result.stderr, result.exception)
        return result

    return run


def parsed(result: Result) -> Any:
    return json.loads(result.stdout)


def submitted(datong: Command) -> str:
    identifier: str = parsed(datong("submit", ARREARS, *WANTED, *APPLICANT, "--json"))["id"]
    return identifier


def test_an_application_is_made_asked_about_and_decided_by_commands(datong: Command) -> None:
    draft = parsed(datong("submit", OFF_PLATFORM, *WANTED, *APPLICANT, "--draft", "--json"))
    assert (draft["state"], draft["possible"]) == ("draft", ["edit", "submit", "withdraw"])
    identifier = draft["id"]
    shown = datong("submit", identifier, *APPLICANT)
    assert "10 working days left" in shown.stdout
    assert "Decree 809" in shown.stdout
    datong("review", identifier, *OWNER)
    asked = datong("ask", identifier, "--text", "请说明环节", *OWNER, "--lang", "zh")
    assert "待补正" in asked.stdout
    assert "暂停，剩余 10 个工作日" in asked.stdout
    datong("supplement", identifier, "--text", "受理环节", *APPLICANT)
    part = parsed(
        datong(
            "decide",
            identifier,
            "--approve",
            "--item",
            "owner.phone",
            "--mask",
            "owner.phone=",
            *GROUNDS,
            *OWNER,
            "--json",
        )
    )
    assert part["state"] == "partly-approved"
    assert part["decision"]["terms"]["items"] == ["owner.phone"]
    assert part["decision"]["terms"]["masks"] == {}
    assert part["decision"]["decided_by"] == f"{TAX} (王五)"
    assert "deliver" in part["possible"]
    delivered = datong("deliver", identifier, *OWNER)
    assert "delivered" in delivered.stdout
    assert "possible now" not in delivered.stdout
    history = datong("show", identifier)
    for action in ("application.submit", "grant.add", "application.deliver"):
        assert action in history.stdout
    case = parsed(datong("show", identifier, "--json"))
    assert [each["action"] for each in case["events"]][-1] == "application.deliver"
    listed = parsed(datong("list", "--state", "partly-approved", "--json"))
    assert [each["id"] for each in listed] == [identifier]
    assert identifier in datong("list", "--lang", "zh", "--as", HOUSING).stdout


def test_two_persons_refuse_and_the_refusal_is_disputed_up_to_the_authority(datong: Command) -> None:
    identifier = submitted(datong)
    datong("decide", identifier, "--refuse", *GROUNDS, "--two-persons", *OWNER)
    same = datong("confirm", identifier, "--agree", *OWNER, exit_code=1)
    assert "another person" in same.stderr
    decided = datong("confirm", identifier, "--agree", "--as", TAX, "--by", "赵六")
    assert f"{TAX} (王五) + {TAX} (赵六)" in decided.stdout
    opened = datong("dispute", identifier, "--about", "refusal", "--text", "依据明确", *APPLICANT)
    assert "negotiating" in opened.stdout
    datong("dispute", identifier, "--step", "escalate", "--text", "协商不成", *APPLICANT)
    datong("dispute", identifier, "--step", "rule", "--text", "x", exit_code=2)
    ruled = parsed(
        datong(
            *("dispute", identifier, "--step", "rule", "--outcome", "overturned", "--text", "应予提供"),
            *("--document", "桂数〔2026〕3号", "--json"),
        )
    )
    assert (ruled["state"], ruled["moves"][-1]["document"]) == ("overturned", "桂数〔2026〕3号")
    assert parsed(datong("show", identifier, "--json"))["state"] == "in-review"
    assert "overturned" in datong("show", identifier).stdout


def test_an_application_is_read_from_a_file_like_the_api_s_body(datong: Command, tmp_path: Path) -> None:
    file = tmp_path / "申请.json"
    body = {"purposes": ["rent"], "purpose_text": "核查", "legal_basis": "第七条", "scenario": "受理"}
    body |= {"items": ["uscc"], "valid_to": "2039-12-31", "contact": "0771", "official": "李四"}
    file.write_text(json.dumps(body), encoding="utf-8")
    made = parsed(datong("submit", ARREARS, "--file", str(file), *APPLICANT, "--json"))
    assert (made["state"], made["wanted"]["items"]) == ("submitted", ["uscc"])
    file.write_text(json.dumps({**body, "itmes": []}), encoding="utf-8")
    refused = datong("submit", ARREARS, "--file", str(file), *APPLICANT, exit_code=1)
    assert "/itmes" in refused.stderr
    file.write_text("[]", encoding="utf-8")
    datong("submit", ARREARS, "--file", str(file), *APPLICANT, exit_code=1)
    datong("ask", made["id"], "--text", "?", *OWNER)
    file.write_text(json.dumps({"scenario": "复核"}), encoding="utf-8")
    replied = datong("supplement", made["id"], "--text", "见附件", "--file", str(file), *APPLICANT, "--json")
    assert parsed(replied)["wanted"]["scenario"] == "复核"


def test_what_is_wrong_is_said_with_what_is_possible(datong: Command) -> None:
    identifier = submitted(datong)
    refused = datong("supplement", identifier, "--text", "x", *APPLICANT, exit_code=1)
    assert "Possible for you now: withdraw." in refused.stderr
    refused = datong("supplement", identifier, "--text", "x", *APPLICANT, "--lang", "zh", exit_code=1)
    assert "您现在可以：撤回" in refused.stderr
    datong("withdraw", identifier, "--text", "不再需要", *APPLICANT)
    assert datong("show", "a9999", exit_code=1).stderr.startswith("error: There is no application a9999")
    datong("submit", ARREARS, *WANTED, exit_code=1)
    refused = datong("submit", ARREARS, *WANTED[:4], *APPLICANT, "--lang", "zh", exit_code=1)
    assert "缺少 /legal_basis：" in refused.stderr
    assert "另缺 /scenario、/contact、/official、/valid_to。" in refused.stderr
    datong("submit", ARREARS, "--until", "soon", *APPLICANT, exit_code=2)
    datong("decide", identifier, "--approve", "--mask", "uscc", *OWNER, exit_code=2)
    datong("list", "--state", "sunk", exit_code=2)
    datong("list", "--due-before", "soon", exit_code=2)
    datong("dispute", identifier, "--text", "x", *APPLICANT, exit_code=2)
    datong("dispute", identifier, "--step", "shout", "--text", "x", *APPLICANT, exit_code=2)


def test_a_standing_approval_decides_at_once(datong: Command) -> None:
    assert "依法公开" in datong("standing", NOTICES, "--text", "依法公开", *OWNER).stdout
    made = parsed(datong("submit", NOTICES, *WANTED[:8], *WANTED[12:], *APPLICANT, "--json"))
    assert (made["state"], made["delivered_at"] is not None) == ("approved", True)
    assert [each["resource"] for each in parsed(datong("standing", "--json"))] == [NOTICES]
    datong("standing", NOTICES, "--end", "--text", "改为逐件审核", *OWNER)
    assert parsed(datong("standing", "--json")) == []


def test_the_ledger_and_the_league_table_are_printed(datong: Command, database_url: str, rulebook: Rulebook) -> None:
    assert parsed(datong("misses", "--json")) == []
    clock = Clock()

    async def miss_one() -> None:
        registry = await Registry.open(database_url, clock=clock)
        world = World(registry=registry, clock=clock, applications=Applications(registry, rulebook))
        world.at("2025-01-24T09:00")
        await world.submitted()
        world.at("2025-02-21T09:00")
        await world.applications.keep_time()
        await registry.close()

    asyncio.run(miss_one())
    printed = datong("misses").stdout
    assert TAX in printed
    assert "2025-02-13" in printed
    (line,) = parsed(datong("misses", "--open", "--department", TAX.rpartition("/")[0], "--json"))
    assert [each["rung"] for each in line["escalations"]] == ["owner-office", "authority"]
    assert "示例市税务局" in datong("misses", "--summary", "--lang", "zh").stdout
    (record,) = parsed(datong("misses", "--summary", "--json"))
    assert (record["overdue"], record["misses"]) == (1, 1)
    assert parsed(datong("misses", "--summary", "--department", "CN/GOV/X", "--json")) == []
