"""`datong adapter new`: from a database, a document, files and a WSDL that it has never seen to a folder that runs as it is."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from department_adapters import SampleCall, ScaffoldError, read_contract, sample_calls, write_adapter_folder
from deploy import adapter_drafting
from deploy.cli import app
from registry import Examiner
from tests.databases import PostgresServer
from tests.department_adapters.sql_kit import execute
from tests.deploy.department_systems import (
    API_KEY,
    NAMES,
    NUMBERS,
    TABLES,
    ExaminerHere,
    land_registry,
    meter_api,
    served,
)
from tests.mariadb import MariaServer

ROOT = Path(__file__).parents[2]
WSDL = ROOT / "tests/department_adapters/wsdl/rpc.wsdl"
SUBSYSTEM = "CN/GOV/11997001DT0000019Q/land"
FILES = {
    ".gitignore", "README.md", "README.zh.md", "adapter.toml", "contract.yaml", "register.sh", "resource.json",
    "test_adapter.py",
}  # fmt: skip
New = Callable[..., Result]


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> New:
    """Runs the command in an empty folder of a user's."""
    home = tmp_path / "用户"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr(adapter_drafting, "Examiner", ExaminerHere)

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, ["adapter", "new", *map(str, arguments)], prog_name="datong")

    return run


def written(name: str) -> dict[str, Any]:
    """What adapter.toml says."""
    assert {path.name for path in Path(name).iterdir()} == FILES
    return tomllib.loads(Path(name, "adapter.toml").read_text(encoding="utf-8"))


def answers(name: str) -> list[SampleCall]:
    """Each operation asked through the adapter's own source; none may break its contract or tell unlisted items."""
    calls = asyncio.run(sample_calls(Path(name, "adapter.toml")))
    for call in calls:
        assert call.status == 200, (call.operation, call.missing, call.trouble)
        assert not call.faults
        assert not call.unlisted
    return calls


def test_a_database_becomes_an_adapter_that_answers(new: New, tmp_path: Path) -> None:
    """Columns are listed, each table has its key in the path, and what is about persons is proposed as such."""
    file = land_registry(tmp_path)
    done = new(
        "land", "--from-db", f"sqlite:///{file}", "--table", "owners", "--table", "parcels", "--subsystem", SUBSYSTEM
    )
    assert done.exit_code == 0, done.output
    adapter = written("land")
    assert adapter["adapter"]["subsystem"] == SUBSYSTEM
    assert adapter["bus"]["certificate"] == "pki/adapter.crt"
    section = adapter["services"]["land"]
    assert [each["path"] for each in section["operations"]] == ["/owners/{id_no}", "/parcels/{parcel}"]
    assert "*" not in section["operations"][0]["query"]
    proposed = {path: (item["sensitivity"], item.get("mask", "")) for path, item in section["items"].items()}
    assert proposed["id_no"] == ("sensitive-personal", "number")
    assert proposed["xm"] == ("personal", "name")
    assert proposed["mobile"] == ("personal", "phone")
    assert proposed["owner"] == ("sensitive-personal", "number")  # by its values
    assert proposed["remark"] == ("sensitive-personal", "full")
    assert proposed["area"] == ("internal", "")
    calls = answers("land")
    assert json.loads(calls[0].body)["xm"] in NAMES
    # Nothing of a record stands in what was written.
    for path in Path("land").iterdir():
        assert not any(value in path.read_text(encoding="utf-8") for value in (*NUMBERS, *NAMES)), path
    for line in ("datong adapter check land --no-bus", "sensitive-personal, mask number"):
        assert line in done.output


def test_its_own_test_passes_and_its_registration_is_a_script_that_can_be_read(new: New, tmp_path: Path) -> None:
    """As a department would run them: pytest in the folder; the shell reads the script, the registry's commands its words."""
    file = land_registry(tmp_path)
    assert new("land", "--from-db", f"sqlite:///{file}", "--table", "owners", "--subsystem", SUBSYSTEM).exit_code == 0
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=.", "."],
        cwd="land",
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "3 passed" in tested.stdout
    # `datong` stands for the command: it is to get exactly these words.
    shown = subprocess.run(
        [
            "sh",
            "-c",
            """datong() { for each in "$@"; do printf '[%s]' "$each"; done; echo; }; . land/register.sh""",
            "x",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the reason" in shown.stderr  # is obligatory
    script = Path("land/register.sh").read_text(encoding="utf-8").replace('here=$(dirname "$0")', "here=land")
    shown = subprocess.run(
        ["sh", "-euc", f"""datong() {{ for each in "$@"; do printf '[%s]' "$each"; done; echo; }}\n{script}""", "x",
         "批复 7", "--data", "d"],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    service = f"{SUBSYSTEM}/land"
    assert shown.stdout.splitlines() == [
        f"[service][add][{service}][--title][owners][--operation][GET /owners/{{id_no}} safe][--why][批复 7][--data][d]",
        f"[service][describe][{service}][land/contract.yaml][--why][批复 7][--data][d]",
    ]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_servers_of_both_kinds(
    kind: str, new: New, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password that was given becomes a reference, is told to be exported, and stands nowhere."""
    if kind == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        url = asyncio.run(postgres.create_database())
    else:
        maria: MariaServer = request.getfixturevalue("maria_server")
        url = asyncio.run(maria.create_database())
    scheme, _, rest = url.partition("://")
    place = rest.partition("@")[2]
    database = place.rpartition("/")[2]
    grants = {
        "postgresql": (f"CREATE ROLE reader_{database} LOGIN", f"GRANT SELECT ON visits, owners TO reader_{database}"),
        "mysql": (
            f"CREATE USER reader_{database} IDENTIFIED BY 'pa@ss'",
            f"GRANT SELECT ON {database}.* TO reader_{database}",
        ),
    }
    asyncio.run(execute(url, *TABLES, *grants[kind]))
    reader = f"{scheme}://reader_{database}"
    unknown = new("x", "--from-db", f"{reader}:pa%40ss@{place}", "--table", "owners", "--key", "nothing")
    assert "it has: id_no, xm" in unknown.output
    done = new("land-2", "--from-db", f"{reader}:pa%40ss@{place}", "--table", "visits", "--key", "owner")
    assert done.exit_code == 0, done.output
    section = written("land-2")["services"]["land-2"]
    assert section["database"] == f"{reader}:${{LAND_2_DB_PASSWORD}}@{place}"
    assert "export LAND_2_DB_PASSWORD=" in done.output
    monkeypatch.setenv("LAND_2_DB_PASSWORD", "pa@ss")
    for path in Path("land-2").iterdir():
        assert "pa@ss" not in path.read_text(encoding="utf-8")
        assert "pa%40ss" not in path.read_text(encoding="utf-8")
    (call,) = answers("land-2")
    assert call.operation == "GET /visits"
    assert [each["visited"] for each in json.loads(call.body)["items"]] == ["2024-01-01", "2024-01-02", "2024-01-03"]


def test_a_document_and_its_api_become_an_adapter_that_answers(new: New, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the URL of the document: base URL, methods, credentials by reference, and the one private address."""
    with served(meter_api()) as url:
        done = new("meters", "--from-openapi", f"{url}/openapi.json", "--subsystem", SUBSYSTEM, "--lang", "zh")
        assert done.exit_code == 0, done.output
        assert "allow_addresses" in done.output
        adapter = written("meters")
        section = adapter["services"]["meters"]
        assert section["base_url"] == url
        assert section["methods"] == ["GET", "HEAD", "POST"]
        assert section["allow_addresses"] == ["127.0.0.1"]
        assert section["headers"] == {"X-Api-Key": "${METERS_X_API_KEY}"}
        assert section["items"]["mobilePhone"]["mask"] == "phone"
        monkeypatch.setenv("METERS_X_API_KEY", API_KEY)
        calls = answers("meters")
    assert [call.operation for call in calls] == ["GET /meters", "GET /meters/{meterId}"]
    assert calls[1].target == "/meters/1"  # as the list told
    resource = json.loads(Path("meters/resource.json").read_text(encoding="utf-8"))
    assert {access["method"] for access in resource["accesses"]} == {"GET", "POST"}


def test_a_document_in_a_file_may_leave_its_address_open(new: New) -> None:
    document = {
        "openapi": "3.0.3",
        "info": {"title": "Births", "version": "1"},
        "paths": {"/births/{id}": {"get": {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {}}],
                                           "security": [{"bearer": []}], "responses": {"200": {"description": "ok"}}}}},
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }  # fmt: skip
    Path("births.json").write_text(json.dumps(document), encoding="utf-8")
    refused = new("births", "--from-openapi", "births.json")
    assert refused.exit_code == 1
    assert "--base-url" in refused.output
    done = new("births", "--from-openapi", "births.json", "--base-url", "https://births.invalid/api/")
    assert done.exit_code == 0, done.output
    section = written("births")["services"]["births"]
    assert section["base_url"] == "https://births.invalid/api/"
    assert section["bearer"] == "${BIRTHS_TOKEN}"
    assert "allow_addresses" not in section
    assert "placeholder" in done.output  # no subsystem was named


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("swagger: '2.0'", "3.0"),
        ("openapi: 3.1.0\ninfo: {title: t, version: '1'}\npaths: {}", "no operation"),
        ("{", "error:"),
        ("openapi: 3.1.0\ninfo: &a {title: t, version: '1'}\npaths: *a", "error:"),
    ],
)
def test_documents_that_the_registry_would_refuse_are_refused(new: New, document: str, told: str) -> None:
    Path("bad.yaml").write_text(document, encoding="utf-8")
    refused = new("bad", "--from-openapi", "bad.yaml")
    assert refused.exit_code == 1
    assert told in refused.output
    assert "Traceback" not in refused.output
    assert not Path("bad").exists()


def test_where_clouds_hand_out_credentials_no_adapter_is_drafted(new: New) -> None:
    document = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "servers": [{"url": "http://169.254.169.254/latest"}],
        "paths": {"/x": {"get": {"responses": {"200": {"description": "ok"}}}}},
    }
    Path("cloud.json").write_text(json.dumps(document), encoding="utf-8")
    refused = new("cloud", "--from-openapi", "cloud.json")
    assert refused.exit_code == 1
    assert "credentials" in refused.output


def test_files_become_an_adapter_that_answers(new: New) -> None:
    Path("drop").mkdir()
    for part in range(2):
        rows = [f"{number},{name},2024-03-0{part + 1},00{part}" for number, name in zip(NUMBERS, NAMES, strict=True)]
        rows = rows[:2] if part else rows[2:]
        Path(f"drop/{part}.csv").write_bytes("\n".join(["证件号码,姓名,接种日期,单位", *rows]).encode("gb18030"))
    done = new("vaccinations", "--from-files", "drop/*.csv", "--service", "records")
    assert done.exit_code == 0, done.output
    section = written("vaccinations")["services"]["records"]
    assert section["files"] == "../drop/*.csv"
    assert section["key"] == "证件号码"
    assert section["types"] == {"接种日期": "date"}
    assert section["items"]["姓名"]["mask"] == "name"
    (call,) = answers("vaccinations")
    assert json.loads(call.body)["单位"] in ("000", "001")  # zeros stay


def test_a_wsdl_becomes_a_contract_in_json(new: New, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is examined as the registry does it, in a process of its own."""
    monkeypatch.setattr(adapter_drafting, "Examiner", Examiner)
    done = new("find", "--from-wsdl", WSDL, "--title", "查询")
    assert done.exit_code == 0, done.output
    section = written("find")["services"]["find"]
    assert section["source"] == "soap"
    assert Path("find", section["wsdl"]).resolve() == WSDL
    assert read_contract(Path("find/adapter.toml")).services["find"].contract == Path("find/contract.yaml").resolve()
    assert "x-datong-safe" in done.output


def test_what_has_no_key_needs_one_to_be_named(new: New, tmp_path: Path) -> None:
    file = land_registry(tmp_path)
    refused = new("visits", "--from-db", f"sqlite:///{file}", "--table", "visits")
    assert refused.exit_code == 1
    assert "--key" in refused.output
    assert "owner, visited" in refused.output
    unknown = new("visits", "--from-db", f"sqlite:///{file}", "--table", "nothing")
    assert "owners, parcels, visits" in unknown.output
    Path("x.csv").write_text("a,b\n1,2\n1,2\n", encoding="utf-8")
    refused = new("x", "--from-files", "x.csv")
    assert refused.exit_code == 1
    assert "--key" in refused.output
    Path("y.csv").write_text("a,b,c\n1,2,4\n1,3,\n", encoding="utf-8")
    assert new("y", "--from-files", "y.csv").exit_code == 0
    assert written("y")["services"]["y"]["key"] == "b"  # the only one that is filled everywhere and nowhere twice
    assert "No file matches" in new("x", "--from-files", "*.xlsx").output


def test_nothing_is_overwritten_and_nothing_half_written_is_left(new: New, tmp_path: Path) -> None:
    Path("land").mkdir()
    file = land_registry(tmp_path)
    refused = new("land", "--from-db", f"sqlite:///{file}", "--table", "owners")
    assert refused.exit_code == 1
    assert list(Path().iterdir()) == [Path("land")]
    assert not list(Path("land").iterdir())
    # Whatever goes wrong while it is written: here a name that is no file's.
    with pytest.raises(FileNotFoundError):
        write_adapter_folder(Path("other"), {"a": b"1", "no/such": b"2"})
    with pytest.raises(ScaffoldError):
        write_adapter_folder(Path("land"), {"a": b"1"})
    assert list(Path().iterdir()) == [Path("land")]
    done = new("mine", "--from-db", f"sqlite:///{file}", "--table", "owners", "--out", "deep/er")
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(Path("deep/er/mine").stat().st_mode) == 0o700  # keys will lie in it
    assert answers("deep/er/mine")


def test_hostile_names_stay_names(new: New) -> None:
    """Of a database that somebody else filled: what is written is data, never a line of its own in TOML, shell or YAML."""
    odd = "a\"b'''c # $(touch pwned) `x` :y {z} |"
    table = f'{odd}\nsource = "python"'
    quoted, quoted_table = (name.replace('"', '""') for name in (odd, table))
    connection = sqlite3.connect("odd.db")
    with connection:
        connection.execute(f'CREATE TABLE "{quoted_table}" ("k:1" TEXT PRIMARY KEY, "{quoted}" TEXT)')
        connection.execute(f"""INSERT INTO "{quoted_table}" VALUES ('1', 'x')""")
    connection.close()
    done = new("odd", "--from-db", "sqlite:///odd.db", "--table", table)
    assert done.exit_code == 0, done.output
    section = written("odd")["services"]["odd"]
    assert section["source"] == "sql"
    (call,) = answers("odd")
    assert json.loads(call.body)[odd] == "x"
    script = Path("odd/register.sh").read_text(encoding="utf-8")
    subprocess.run(["sh", "-euc", f"datong() {{ :; }}\n{script}", "x", "why"], check=True)
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["x"],
        ["x", "--from-db", "sqlite:///a.db"],
        ["x", "--from-files", "*.csv", "--table", "t"],
        ["x", "--from-files", "*.csv", "--from-wsdl", "y"],
        ["a/b", "--from-files", "*.csv"],
        ["x", "--from-files", "*.csv", "--subsystem", "CN/GOV"],
    ],
)
def test_wrong_usage_is_told_as_such(new: New, arguments: list[str]) -> None:
    assert new(*arguments).exit_code == 2
    assert not list(Path().iterdir())
