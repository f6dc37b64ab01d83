"""`datong service describe` and `difference`: the documents of services as a person and as a script see them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.registry.conftest import ENTERPRISES, HOUSING, TAX
from tests.registry.description_kit import OK, Tree, answering, changed, of, tree
from tests.registry.test_registry_commands import Command, datong, seeded, whole

__all__ = ["datong", "seeded"]

USCC: Tree = {"name": "uscc", "in": "path", "required": True, "schema": {"type": "string"}}
DOCUMENT: Tree = tree(
    paths={
        "/enterprises/{uscc}": {
            "parameters": [USCC],
            "get": {"responses": answering({"type": "object", "properties": {"name": {"type": "string"}}})},
        }
    }
)
PLACE = "/paths/~1enterprises~1{uscc}/get/responses/200/content/application~1json/schema/properties/name"


def worse(found: Tree) -> None:
    found["paths"]["/count"] = {"get": {"responses": OK}}
    answer = found["paths"]["/enterprises/{uscc}"]["get"]["responses"]["200"]["content"]["application/json"]
    answer["schema"]["properties"]["name"]["type"] = "integer"
    found["paths"]["/enterprises/{uscc}"]["parameters"].append(
        {"name": "q", "in": "query", "schema": {"type": "string"}}
    )
    found["paths"]["/enterprises/{uscc}"]["get"]["deprecated"] = True


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What becomes of a command in each database is tested where it is done."""
    return sqlite_url


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A document, and one that breaks it."""
    for name, content in (("one.json", DOCUMENT), ("two.json", changed(DOCUMENT, worse))):
        (tmp_path / name).write_bytes(of(content))
    return str(tmp_path / "one.json"), str(tmp_path / "two.json")


def test_a_document_is_registered_compared_and_replaced(seeded: Command, files: tuple[str, str]) -> None:
    first, second = files
    dry = seeded("service", "describe", ENTERPRISES, first, "--dry-run", "--by", "x").stdout
    assert "✚ The operation GET /enterprises/{uscc} is new." in dry
    assert "Nothing was changed: a dry run." in dry
    done = seeded("service", "describe", ENTERPRISES, first, "--why", "目录〔2026〕12号", "--by", "x").stdout
    assert f"Done: document.add {ENTERPRISES}/openapi/1" in done
    again = seeded("service", "describe", ENTERPRISES, first, "--by", "x").stdout
    assert "Nothing differs" in again
    assert "Nothing changed" in again

    shown = seeded("service", "difference", ENTERPRISES, second, exit_code=1).stdout.splitlines()
    assert shown == [
        "✚ GET /enterprises/{uscc}  The query parameter q is new and need not be given.",
        "✚ The operation GET /count is new.",
        "~ GET /enterprises/{uscc} is now deprecated.",
        "✖ GET /enterprises/{uscc}  name in the answer was string and is integer now.",
        f"    concerns {HOUSING}",
        "2 added, 1 changed, 1 breaking; 1 subsystem concerned",
    ]
    chinese = seeded("service", "difference", ENTERPRISES, second, "--lang", "zh", exit_code=1).stdout
    assert "✖ GET /enterprises/{uscc}  应答项 name 的类型由 string 改为 integer。" in chinese
    assert f"    涉及 {HOUSING}" in chinese

    refused = seeded("service", "describe", ENTERPRISES, second, "--by", "x", exit_code=1)
    assert "breaks callers in 1 way, and 1 subsystem is concerned" in refused.stderr
    seeded("service", "describe", ENTERPRISES, second, "--accept-breaking", "--by", "x")
    operations = json.loads(seeded("service", "show", ENTERPRISES, "--json").stdout)["operations"]
    assert [(each["method"], each["path"]) for each in operations] == [
        ("GET", "/count"),
        ("GET", "/enterprises/{uscc}"),
    ]
    assert seeded("service", "difference", ENTERPRISES, second).stdout.startswith("Nothing differs")


def test_scripts_get_json(seeded: Command, files: tuple[str, str]) -> None:
    first, second = files
    done = json.loads(seeded("service", "describe", ENTERPRISES, first, "--json", "--by", "x").stdout)
    assert done.keys() == {"service", "number", "dry_run", "change", "added", "changed", "breaking", "complete"}
    assert (done["service"], done["number"], done["dry_run"]) == (ENTERPRISES, 1, False)
    assert isinstance(done["change"], int)
    found = json.loads(seeded("service", "difference", ENTERPRISES, second, "--json", exit_code=1).stdout)
    (broken,) = found["breaking"]
    assert (broken["rule"], broken["item"], broken["pointer"], broken["affects"]) == (
        "answer-type",
        "name",
        PLACE,
        [HOUSING],
    )
    refused = seeded("service", "describe", ENTERPRISES, second, "--json", "--by", "x", exit_code=1)
    error = json.loads(refused.stderr)["error"]
    assert (error["rule"], error["status"], error["pointer"]) == ("breaking-change", 409, PLACE)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "Not JSON"),
        (b"swagger: '2.0'", "This is Swagger 2.0"),
        (
            of(tree(components={"schemas": {"A": {"$ref": "x.yaml"}}})),
            "At /components/schemas/A/$ref: 'x.yaml' leads out",
        ),
    ],
)
def test_a_wrong_file_is_one_clear_line(seeded: Command, tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "wrong"
    path.write_bytes(content)
    for command in ("describe", "difference"):
        assert told in seeded("service", command, ENTERPRISES, str(path), exit_code=1).stderr


def test_what_is_not_there_is_told(seeded: Command, files: tuple[str, str], tmp_path: Path) -> None:
    assert "such.json" in seeded("service", "describe", ENTERPRISES, str(tmp_path / "no-such.json"), exit_code=2).stderr
    refused = seeded("service", "describe", f"{TAX}/nothing", files[0], "--by", "x", exit_code=1)
    assert "There is no service" in refused.stderr
    refused = seeded("service", "describe", ENTERPRISES, files[0], "--as", HOUSING, "--by", "x", exit_code=1)
    assert "does not hold the role" in refused.stderr


def test_a_document_comes_from_standard_input(seeded: Command) -> None:
    result = CliRunner().invoke(whole(), ["service", "describe", ENTERPRISES, "-", "--by", "x"], input=of(DOCUMENT))
    assert result.exit_code == 0, result.stderr
    assert "openapi/1" in result.stdout


def test_a_service_may_be_hidden(seeded: Command) -> None:
    why = ("--why", "内部", "--by", "x")
    seeded("service", "add", f"{TAX}/hidden", "--title", "内部", "--operation", "GET /x", "--unlisted", *why)
    found: dict[str, Any] = json.loads(seeded("service", "show", f"{TAX}/hidden", "--json").stdout)
    assert found["listed"] is False
    refused = seeded("service", "add", f"{TAX}/listMethods", "--title", "x", "--operation", "GET /x", *why, exit_code=1)
    assert "choose another code" in refused.stderr
