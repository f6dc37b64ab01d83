"""docs/catalogue.md tells the truth: its resource is one, its commands run, its tables name every member."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import deploy.demo
from deploy.cli import app
from deploy.demo.tax_bureau import EnterpriseBody
from registry import Registry, ResourceDocument, read_seed
from registry.catalogue.documents import ItemDocument
from registry.catalogue.rules import faults_of
from tests.registry.conftest import EXAMPLE_SEED

DOCUMENT = (Path(__file__).parents[2] / "docs/catalogue.md").read_text(encoding="utf-8")
DEMO = Path(deploy.demo.__file__).with_name("seed.toml")


def example() -> str:
    (found,) = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    return str(found)


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("datong ")]


def test_the_example_is_a_resource_without_a_fault() -> None:
    document = ResourceDocument.model_validate_json(example())
    assert list(faults_of(document.resource())) == []


def test_every_command_runs_in_its_order(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def seed() -> None:
        registry = await Registry.open(database_url)
        await registry.seed(EXAMPLE_SEED)
        await registry.close()

    asyncio.run(seed())
    monkeypatch.setenv("DATONG_REGISTRY_DATABASE", database_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "欠税信息.json").write_text(example(), encoding="utf-8")
    assert len(commands()) >= 12
    for command in commands():
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, (command, result.stdout, result.stderr)
    found = CliRunner().invoke(app, ["catalogue", "search", "欠税", "--json"])
    assert [each["code"] for each in json.loads(found.stdout)["resources"]] == ["306002/000001"]
    assert (tmp_path / "目录模板.xlsx").exists()


@pytest.mark.parametrize("name", [*ResourceDocument.model_fields, *ItemDocument.model_fields])
def test_every_member_is_explained(name: str) -> None:
    assert f"`{name}`" in DOCUMENT


def test_the_demo_describes_what_its_tax_bureau_answers() -> None:
    """The demo's resources name the members of real answers, so that grants on items release something."""
    described = {each.code: each for each in read_seed(DEMO).resources}
    assert {item.path for item in described["306001/000001"].items} == {*EnterpriseBody.model_fields}
    names = {each.name for each in described.values()}
    assert {"纳税人登记信息", "欠税信息", "行政区划", "居民基本信息", "婚姻登记状态"} <= names
    assert all(each.name_en and each.abstract_en for each in described.values())
