"""`datong catalogue`: as a person and as a script use it, on a real database."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import catalogue
from registry import Registry
from tests.registry.catalogue_kit import CODE, document
from tests.registry.conftest import EXAMPLE_SEED, HOUSING, TAX

Command = Callable[..., Result]
WHY = ("--why", "目录更新〔2026〕3号", "--by", "张三")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What becomes of a command in each database is tested where it is done."""
    return sqlite_url


@pytest.fixture
def datong(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command on the test's database, which holds the example seed; `exit_code` is the expected one."""
    monkeypatch.setenv("DATONG_REGISTRY_DATABASE", database_url)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    async def seed() -> None:
        registry = await Registry.open(database_url)
        await registry.seed(EXAMPLE_SEED)
        await registry.close()

    asyncio.run(seed())

    def run(*arguments: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(catalogue.app, list(arguments))
        assert result.exit_code == exit_code, (result.stdout, result.stderr, result.exception)
        return result

    return run


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    """Writes something as a JSON file, and returns its path."""

    def write(content: Any, name: str = "资源.json") -> str:
        path = tmp_path / name
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return str(path)

    return write


def parsed(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_resource_is_written_published_found_shown_and_withdrawn(datong: Command, file: Callable[..., str]) -> None:
    added = parsed(datong("add", file(document()), *WHY, "--json"))
    assert (added["changed"], added["target"]) == (True, CODE)
    assert "No resource fits" in datong("search", "欠税").stdout
    assert CODE in datong("search", "欠税", "--state", "draft").stdout
    assert "resource.publish" in datong("publish", CODE, *WHY).stdout
    assert "Nothing changed" in datong("publish", CODE, *WHY).stdout
    found = parsed(datong("search", "欠税", "--class", "conditional", "--json"))
    assert [each["code"] for each in found["resources"]] == [CODE]
    assert (found["match"], found["more"]) == ("exact", False)
    assert found["resources"][0]["department"]["uscc"] == "11990000000001011Q"

    changed = file(document(name="欠税与滞纳金"))
    assert "say replace" in datong("add", changed, *WHY, exit_code=1).stderr
    datong("add", changed, "--replace", *WHY)
    datong("publish", CODE, "--why", "更名", "--by", "李四")
    shown = parsed(datong("show", CODE, "--json"))
    assert (shown["state"], shown["version"], shown["resource"]["name"]) == ("published", 2, "欠税与滞纳金")
    assert [each["by"] for each in shown["versions"]] == ["张三", "李四"]
    assert [each["pointer"] for each in shown["versions"][1]["differences"]] == ["/name"]
    first = parsed(datong("show", CODE, "--version", "1", "--json"))
    assert (first["resource"]["name"], first["why"]) == ("欠税信息", "目录更新〔2026〕3号")
    assert "version 7" in datong("show", CODE, "--version", "7", exit_code=1).stderr

    datong("withdraw", CODE, "--why", "职责调整")
    assert "No resource fits" in datong("search", "欠税").stdout
    assert "withdrawn" in datong("show", CODE).stdout


def test_a_person_reads_it_in_chinese_with_columns_that_line_up(datong: Command, file: Callable[..., str]) -> None:
    datong("add", file(document()), *WHY)
    datong("publish", CODE, *WHY)
    lines = datong("search", "信息", "--lang", "zh").stdout.splitlines()
    assert lines[0].split() == ["代码", "名称", "共享类型", "提供方", "共享方式"]
    assert {line.split()[2] for line in lines[1:]} == {"有条件共享"}
    starts = {
        _cells(line[: line.index(part)]) for line, part in zip(lines, ["提供方", "示例市", "示例市"], strict=True)
    }
    assert len(starts) == 1, "Chinese characters take two columns each"
    shown = datong("show", CODE, "--lang", "zh").stdout
    for text in (
        "欠税信息",
        "用于资格核查",
        "3 部门信息资源 / 06 税务 / 002 征收",
        "11990000000001011Q",
        "每日",
        "个人信息",
        "张三",
    ):
        assert text in shown
    assert "没有符合条件" in datong("search", "飞机", "--lang", "zh").stdout
    assert "内容相近" in datong("search", "欠税情况", "--lang", "zh").stdout


def _cells(text: str) -> int:
    return sum(2 if ord(character) > 0x2E80 else 1 for character in text)


def test_filters_are_checked(datong: Command) -> None:
    for option, value in (
        ("--class", "free"),
        ("--level", "x"),
        ("--mode", "x"),
        ("--state", "x"),
        ("--division", "45"),
    ):
        assert option in datong("search", option, value, exit_code=2).stderr
    assert len(parsed(datong("search", "--theme", "市场", "--department", TAX, "--json"))["resources"]) == 1
    assert parsed(datong("search", "--item", "法定", "--level", "city", "--json"))["resources"]
    assert parsed(datong("search", "--division", "990000", "--mode", "query-interface", "--json"))["resources"]


def test_a_subsystem_acts_with_its_own_roles(datong: Command, file: Callable[..., str]) -> None:
    sent = file(document())
    refused = datong("add", sent, "--as", HOUSING, *WHY, exit_code=1)
    assert "owner or integrator" in refused.stderr
    datong("add", sent, "--as", TAX, *WHY)
    assert "No resource fits" in datong("search", "--state", "draft", "--as", HOUSING).stdout
    assert CODE in datong("search", "--state", "draft", "--as", TAX).stdout
    assert CODE in datong("show", CODE, "--as", HOUSING, exit_code=1).stderr


def test_what_is_wrong_with_a_file_is_told_in_a_line(datong: Command, tmp_path: Path, file: Callable[..., str]) -> None:
    broken = tmp_path / "x.json"
    broken.write_bytes(b'{"code": ')
    assert "not JSON" in datong("add", str(broken), *WHY, exit_code=1).stderr
    assert "/colour" in datong("add", file(document(colour=1)), *WHY, exit_code=1).stderr
    wrong = datong("add", file(document(conditions="")), *WHY, "--json", exit_code=1)
    assert json.loads(wrong.stderr)["error"]["rule"] == "conditions"
    assert "this mesh" in datong("add", file(document(code="GX01")), *WHY, exit_code=1).stderr
    datong("add", file(document(code="GX01")), "--code-pattern", "GX[0-9]+", *WHY)
    assert "regular expression" in datong("add", file(document()), "--code-pattern", "(", *WHY, exit_code=2).stderr


def test_a_catalogue_goes_out_and_comes_back(datong: Command, tmp_path: Path, file: Callable[..., str]) -> None:
    datong("add", file(document()), *WHY)
    datong("publish", CODE, *WHY)
    for form in ("json", "xlsx"):
        out = tmp_path / f"目录.{form}"
        datong("export", "--format", form, "--out", str(out))
        report = parsed(datong("import", str(out), "--dry-run", "--json"))
        assert (len(report["unchanged"]), report["added"], report["changed"], report["faults"]) == (2, [], [], [])
        assert "2 unchanged" in datong("import", str(out), *WHY).stdout
    one = json.loads(datong("export", "--code", CODE).stdout)
    assert [each["code"] for each in one["resources"]] == [CODE]
    assert json.loads(datong("export", "--department", HOUSING).stdout)["resources"] == []
    graph = json.loads(datong("export", "--format", "dcat", "--url", "https://gateway.example").stdout)
    assert any(node["@id"] == f"https://gateway.example/v1/resources/{CODE}" for node in graph["@graph"])
    assert any("dcat:Catalog" in node["@type"] for node in graph["@graph"])
    assert "--url" in datong("export", "--format", "dcat", exit_code=2).stderr
    assert "--out" in datong("export", "--format", "xlsx", exit_code=2).stderr
    assert "choose from" in datong("export", "--format", "pdf", exit_code=2).stderr


def test_an_import_lists_every_fault_and_writes_nothing(datong: Command, file: Callable[..., str]) -> None:
    sent = file({"format": "datong-catalogue/1", "resources": [document(), document(code="x", name="")]})
    tried = datong("import", sent, "--dry-run", exit_code=1)
    for text in ("/resources/1/code", "/resources/1/name", "Nothing was written"):
        assert text in tried.stdout
    report = parsed(datong("import", sent, *WHY, "--json", exit_code=1))
    assert (report["applied"], len(report["faults"])) == (False, 2)
    assert "No resource fits" in datong("search", "欠税", "--state", "draft").stdout
    assert "--why" in datong("import", sent, exit_code=2).stderr
    good = file({"format": "datong-catalogue/1", "resources": [document()]})
    assert "1 added" in datong("import", good, "--publish", *WHY).stdout
    assert CODE in datong("search", "欠税").stdout


def test_the_template_is_a_workbook_that_says_what_it_wants(datong: Command, tmp_path: Path) -> None:
    out = tmp_path / "模板.xlsx"
    assert str(out) in datong("template", "--out", str(out)).stdout.replace("\n", "")
    assert re.search("between 1 and", datong("import", str(out), "--dry-run", exit_code=1).stderr)
