"""`datong adapter check`: each thing that can be wrong with an adapter is found, and what to do is said; a good one passes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from department_adapters import read_contract
from department_adapters.checking import fuzzing
from deploy import adapter_checks
from deploy.adapter_checks import Plan, findings_of
from deploy.cli import app
from deploy.demo.identities import CIVIL_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from gateway.cli.findings import Finding
from tests.conftest import Pki, bus_users
from tests.databases import PostgresServer
from tests.department_adapters.sql_kit import execute
from tests.deploy.department_systems import API_KEY, NUMBERS, TABLES, ExaminerHere, land_registry, meter_api, served

QUICK = Plan(bus=False, fuzz_seconds=0, seed=0, samples=(), unsafe=False)


class Departments:
    """Drafted adapters of two departments; each test gets a copy of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api: FastAPI = meter_api()
        self._copies = 0

    def copy(self, name: str, *changes: tuple[str, str], file: str = "adapter.toml") -> Path:
        """A copy, beside what it is a copy of; each change must be one."""
        self._copies += 1
        made = self.folder / f"{name}-{self._copies}"
        shutil.copytree(self.folder / name, made)
        text = (made / file).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (made / file).write_text(text, encoding="utf-8")
        return made


@pytest.fixture(scope="module")
def departments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Departments]:
    folder = tmp_path_factory.mktemp("departments")
    departments = Departments(folder)
    with served(departments.api) as url:
        drafts = {
            "land": ["--from-db", f"sqlite:///{land_registry(folder)}", "--table", "owners", "--table", "parcels"],
            "meters": ["--from-openapi", f"{url}/openapi.json"],
        }
        for name, options in drafts.items():
            arguments = ["adapter", "new", name, *options, "--out", str(folder), "--subsystem", TAX_SUBSYSTEM]
            drafted = CliRunner().invoke(app, arguments)
            assert drafted.exit_code == 0, drafted.output
        yield departments


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERS_X_API_KEY", API_KEY)
    monkeypatch.setattr(adapter_checks, "Examiner", ExaminerHere)
    # So many are made whatever the time: with the same seed always the same.
    monkeypatch.setattr(fuzzing, "MOST_CASES", 25)


def found(findings: list[Finding], state: str) -> dict[str, str]:
    """What was found so: name of the check -> what it says, with what to do."""
    return {each.name: f"{each.says['en']} | {each.todo['en']}" for each in findings if each.state == state}


def test_a_good_adapter_passes_and_shows_what_its_masks_make_of_its_data(
    departments: Departments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["adapter", "check", str(departments.copy("land")), "--no-bus", "--seconds", "60", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["healthy"]
    says = {each["check"]: each["says"] for each in told["checks"]}
    assert says["land: GET /owners/{id_no}"].startswith(f"/owners/{NUMBERS[0]} → 200, ")
    assert " p50 " in says["land: GET /owners/{id_no}"]
    assert says["land: mask number of id_no"] == f"{NUMBERS[0]} → 110************02X"
    assert says["land: mask name of xm"] == "王小明 → 王**"
    tried, _, rest = says["land: made-up requests"].partition(",")
    assert int(tried) > 25
    assert "each answered as the contract says" in rest
    assert not list(tmp_path.iterdir())  # nothing is left where somebody stood


def test_it_speaks_both_languages_a_line_a_check(departments: Departments) -> None:
    place = departments.copy("land") / "adapter.toml"
    for lang, summary in (("en", "failed: 0"), ("zh", "失败：0 项")):
        done = CliRunner().invoke(app, ["adapter", "check", str(place), "--no-bus", "--no-fuzz", "--lang", lang])
        assert done.exit_code == 0
        assert summary in done.output
        assert "✔ land: GET /owners/{id_no}: " in done.output


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("[adapter]", "[adapter"), "not TOML"),
        (('name = "meters"', 'nome = "meters"'), "adapter.name"),
        (("METERS_X_API_KEY", "NEVER_SET"), "NEVER_SET is not set"),
        (('mask = "phone"', 'mask = "fone"'), "there is no mask 'fone'"),
        (('sensitivity = "personal"', 'sensitivity = "secret"'), "sensitivity"),
        (('allow_addresses = ["127.0.0.1"]', ""), "not a public address"),
    ],
)
async def test_a_file_that_cannot_be_used_is_told_with_its_key(
    departments: Departments, change: tuple[str, str], told: str
) -> None:
    place = departments.copy("meters", change)
    findings = await findings_of(place, QUICK)
    assert [each.state for each in findings] == ["failed"]
    assert told in findings[0].says["en"]
    assert "geheim" not in findings[0].says["en"]


async def test_a_password_in_the_file_is_told_and_not_repeated(departments: Departments, postgres_url: str) -> None:
    """An account that may write is told as well."""
    await execute(postgres_url, *TABLES)
    url = postgres_url.replace("datong@", "datong:pa55word@")
    old = read_contract(departments.folder / "land" / "adapter.toml")
    assert old.services["land"].source == "sql"
    text = (departments.folder / "land" / "adapter.toml").read_text(encoding="utf-8")
    written = next(line for line in text.splitlines() if line.startswith("database = "))
    findings = await findings_of(departments.copy("land", (written, f'database = "{url}"')), QUICK)
    failures = found(findings, "failed")
    assert failures["land: database"].startswith("a password stands in the file | Write ${LAND_DB_PASSWORD}")
    assert "superuser" in failures["land: account"]
    assert "GRANT SELECT" in failures["land: account"]
    assert not any("pa55word" in line for line in failures.values())
    assert "land: GET /owners/{id_no}" in found(findings, "ok")  # the rest is looked at all the same


async def test_a_database_that_is_away_is_told(departments: Departments, postgres_server: PostgresServer) -> None:
    text = (departments.folder / "land" / "adapter.toml").read_text(encoding="utf-8")
    written = next(line for line in text.splitlines() if line.startswith("database = "))
    away = postgres_server.url("no_such_database")
    findings = await findings_of(
        departments.copy("land", (written, f'database = "{away}"')), replace(QUICK, fuzz_seconds=5)
    )
    failures = found(findings, "failed")
    assert "no_such_database" in failures["land: account"]
    assert set(found(findings, "warning")) == {"land: GET /owners/{id_no}", "land: GET /parcels/{parcel}"}


async def test_an_api_that_is_away_is_told_once_and_not_asked_two_hundred_times(departments: Departments) -> None:
    text = (departments.folder / "meters" / "adapter.toml").read_text(encoding="utf-8")
    written = next(line for line in text.splitlines() if line.startswith("base_url = "))
    findings = await findings_of(
        departments.copy("meters", (written, 'base_url = "http://127.0.0.1:1"')), replace(QUICK, fuzz_seconds=5)
    )
    failures = found(findings, "failed")
    assert set(failures) == {"meters: connection", "meters: GET /meters"}
    assert "ConnectionRefusedError" in failures["meters: GET /meters"]


async def test_wrong_credentials_are_told(departments: Departments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERS_X_API_KEY", "wrong")
    failures = found(await findings_of(departments.copy("meters"), QUICK), "failed")
    assert failures["meters: GET /meters"].startswith("/meters?limit=10 → 403 | Check the credentials")
    assert "wrong" not in str(failures)


async def test_made_up_requests_find_what_breaks_and_change_nothing(departments: Departments) -> None:
    """The API breaks on meters below 1. Operations that may change something are left out, unless they are asked for."""
    place = departments.copy("meters")
    findings = await findings_of(place, replace(QUICK, fuzz_seconds=60))
    failures = found(findings, "failed")
    assert set(failures) == {"meters: made-up requests"}
    assert re.match(r"GET /meters/(0|-[0-9]+): status 500 ", failures["meters: made-up requests"])
    assert "POST /meters" in found(findings, "warning")["meters: operations"]
    listed = await _meters(place)
    assert len(listed) == 3
    await findings_of(place, replace(QUICK, fuzz_seconds=60, unsafe=True))
    assert len(await _meters(place)) > 3


async def test_made_up_requests_find_answers_that_break_the_contract(departments: Departments) -> None:
    """The list is called with the contract's default and is right; with limits of its own it is as wrong as any."""
    document = json.loads((departments.folder / "meters" / "contract.yaml").read_text(encoding="utf-8"))
    document["paths"]["/meters"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["minItems"] = 3
    del document["paths"]["/meters/{meterId}"], document["paths"]["/meters"]["post"]
    place = departments.copy("meters")
    (place / "contract.yaml").write_text(json.dumps(document), encoding="utf-8")
    findings = await findings_of(place, replace(QUICK, fuzz_seconds=60))
    assert "meters: GET /meters" in found(findings, "ok")
    (told,) = found(findings, "failed").items()
    assert told[0] == "meters: made-up requests"
    assert "status 200: / holds fewer than 3" in told[1]


async def _meters(place: Path) -> list[object]:
    from department_adapters import call_samples, tried_services

    async with tried_services(read_contract(place / "adapter.toml")) as (service,):
        (call,) = [
            call
            for call in await call_samples(service, given=["GET /meters?limit=1000"])
            if call.operation == "GET /meters"
        ]
    assert call.target == "/meters?limit=1000"
    found: list[object] = json.loads(call.body)
    return found


async def test_answers_that_break_the_contract_are_told_with_their_place_and_no_value(departments: Departments) -> None:
    place = departments.copy(
        "land", ("xm:\n          type: string", "xm:\n          type: integer"), file="contract.yaml"
    )
    findings = await findings_of(place, QUICK)
    (told,) = found(findings, "failed").items()
    assert told[0] == "land: GET /owners/{id_no}: contract"
    assert "/xm" in told[1]
    assert "王" not in told[1]


async def test_a_contract_that_the_registry_would_refuse_is_told(departments: Departments) -> None:
    place = departments.copy("land", ("version: 1.0.0", "varsion: 1.0.0"), file="contract.yaml")
    failures = found(await findings_of(place, QUICK), "failed")
    assert "version" in failures["land: contract contract.yaml"]
    (place / "contract.yaml").unlink()
    failures = found(await findings_of(place, QUICK), "failed")
    assert "No such file" in failures["land: contract contract.yaml"]


async def test_items_that_nobody_thought_about_are_told(departments: Departments) -> None:
    text = (departments.folder / "land" / "adapter.toml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith('"mobile"'))
    findings = await findings_of(departments.copy("land", (line, ""), ('mask = "name"', 'mask = ""')), QUICK)
    warnings = found(findings, "warning")
    assert "not listed" in str([each for each in findings if each.name == "land: item mobile"])
    assert 'mask = "phone"' in str([each.todo for each in findings if each.name == "land: item mobile"])
    assert "land: item id_no" not in warnings
    lifted = await findings_of(
        departments.copy("land", ('sensitivity = "sensitive-personal", mask = "number"', 'sensitivity = "internal"')),
        QUICK,
    )
    assert "looks like a citizen's number" in found(lifted, "warning")["land: item id_no"]


async def test_an_operation_without_an_example_is_left_out_and_one_can_be_given(departments: Departments) -> None:
    place = departments.copy("land", ("x-datong-sample", "x-other"), file="contract.yaml")
    findings = await findings_of(place, QUICK)
    assert "path id_no" in found(findings, "warning")["land: GET /owners/{id_no}"]
    given = replace(QUICK, samples=(f"GET /owners/{NUMBERS[1]}", "GET /parcels/77"))
    findings = await findings_of(place, given)
    assert found(findings, "ok")["land: GET /owners/{id_no}"].startswith(f"/owners/{NUMBERS[1]} → 200")
    assert found(findings, "warning")["land: GET /parcels/{parcel}"].startswith("/parcels/77 → 404")


async def test_without_the_library_of_made_up_requests_it_says_what_to_install(
    departments: Departments, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "schemathesis" else find_spec(name))
    findings = await findings_of(departments.copy("land"), replace(QUICK, fuzz_seconds=1))
    assert "datong[check]" in found(findings, "warning")["land: made-up requests"]


async def test_the_bus_lets_it_serve_what_is_registered_and_nothing_else(
    departments: Departments, nats_server: NatsServer, pki: Pki
) -> None:
    """Certificate, holder, gateways, connection and right to serve, each in its turn."""
    place = departments.copy(
        "land",
        ('url = "tls://localhost:4222"', f'url = "{nats_server.url}"'),
        ("[services.land", "[services.enterprises"),
    )
    plan = replace(QUICK, bus=True)

    async def failures() -> dict[str, str]:
        return found(await findings_of(place, plan), "failed")

    assert "datong adapter enrol" in (await failures())["certificate"]
    own = place / "pki"
    own.mkdir()
    shutil.copy(pki.trust_anchors, own / "ca.pem")
    shutil.copy(pki.certificate("gateway"), own / "gateways.pem")
    for party in ("civil", "tax"):
        shutil.copy(pki.certificate(party), own / "adapter.crt")
        shutil.copy(pki.key(party), own / "adapter.key")
        if party == "civil":
            told = await failures()
            assert f"the certificate is for {CIVIL_SUBSYSTEM}" in told[f"subsystem {TAX_SUBSYSTEM}"]
    findings = await findings_of(place, plan)
    assert not found(findings, "failed")
    good = found(findings, "ok")
    assert good[f"bus {nats_server.url}"].startswith("connected outward, NATS ")
    assert good[f"bus {TAX_SUBSYSTEM}/enterprises"].startswith("may be served")
    # A service that is not registered for this certificate.
    text = (place / "adapter.toml").read_text(encoding="utf-8")
    (place / "adapter.toml").write_text(text.replace("[services.enterprises", "[services.other"), encoding="utf-8")
    assert "datong service add" in (await failures())[f"bus {TAX_SUBSYSTEM}/other"]
    # A key that is another certificate's, and one that others may read.
    shutil.copy(pki.key("civil"), own / "adapter.key")
    assert any(name.startswith("key ") for name in await failures())
    shutil.copy(pki.key("tax"), own / "adapter.key")
    (own / "adapter.key").chmod(0o644)
    assert any("chmod 600" in said for said in (await failures()).values())
    (own / "adapter.key").chmod(0o600)
    # One that the bus does not know: it closes the connection.
    assert await nats_server.set_users(bus_users({CIVIL_SUBSYSTEM: ("divisions",)}))
    assert f"datong adapter register {TAX_SUBSYSTEM}" in (await failures())[f"bus {nats_server.url}"]
    await nats_server.stop()
    assert "connect outward" in (await failures())[f"bus {nats_server.url}"]


def test_other_services_of_the_same_adapter_go_on_when_one_has_no_contract(departments: Departments) -> None:
    place = departments.copy("meters", ('contract = "contract.yaml"\n', ""))
    findings = asyncio.run(findings_of(place, QUICK))
    assert "no contract" in found(findings, "warning")["meters"]
    assert not found(findings, "failed")


def test_code_needs_no_contract_of_its_own(departments: Departments) -> None:
    """What its types say is the contract; what it raises is shown to the department."""
    place = departments.copy("meters")
    (place / "people.py").write_text(
        """
from department_adapters import Adapter

adapter = Adapter()


@adapter.get("/people/{number}")
async def person(number: int) -> dict[str, str]:
    if number == 7:
        return {"name": "王小明"}
    raise RuntimeError("the register is closed")
""",
        encoding="utf-8",
    )
    text = (place / "adapter.toml").read_text(encoding="utf-8")
    head = text[: text.index("[services.meters]")]
    (place / "adapter.toml").write_text(
        f'{head}[services.people]\nsource = "python"\nmodule = "people.py"\n', encoding="utf-8"
    )
    findings = asyncio.run(findings_of(place, replace(QUICK, samples=("GET /people/7",))))
    assert found(findings, "ok")["people: GET /people/{number}"].startswith("/people/7 → 200")
    assert "looks like a person's name" in found(findings, "warning")["people: item name"]
    findings = asyncio.run(findings_of(place, replace(QUICK, samples=("GET /people/8",))))
    assert "the register is closed" in found(findings, "failed")["people: GET /people/{number}"]
