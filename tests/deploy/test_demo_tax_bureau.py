"""The tax bureau as a process of its own, asked over HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel

from deploy.demo import tax_bureau
from deploy.demo.synthetic import ENTERPRISE_IN_ARREARS, ENTERPRISE_IN_GOOD_ORDER, SEED, is_uscc, uscc
from deploy.demo.tax_register import ENTERPRISES, ClearanceRefusedError, Register, build, enterprises

UNKNOWN = uscc("91", "DT999999")
APPLICATION = {"applicant": "示例市住房保障局", "purpose": "公租房资格核查"}


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, up to 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"still waiting: {what}"
        time.sleep(0.02)


@dataclass(frozen=True)
class Bureau:
    """A running bureau."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    port_file: Path


def command(folder: Path, port: int = 0) -> list[str]:
    own = [sys.executable, "-m", "deploy.demo.tax_bureau"]
    return [*own, "--data", str(folder / "data"), "--port", str(port), "--port-file", str(folder / "port")]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Bureau]:
    with subprocess.Popen(command(folder)) as process:
        try:
            until(lambda: (folder / "port").exists() or process.poll() is not None, "the port file")
            address = f"http://127.0.0.1:{(folder / 'port').read_text().strip()}"
            with httpx.Client(base_url=address, trust_env=False) as client:
                yield Bureau(process, client, folder / "port")
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def bureau(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bureau]:
    with running(tmp_path_factory.mktemp("tax")) as bureau:
        yield bureau


def has_the_form_of(answer: httpx.Response, model: type[BaseModel]) -> None:
    """The document promises this form: the same members, no more, of the same types."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == model.model_fields.keys()
    model.model_validate(answer.json(), strict=True)


def test_an_enterprise_is_found_by_its_code(bureau: Bureau) -> None:
    answer = bureau.client.get(f"/enterprises/{ENTERPRISE_IN_GOOD_ORDER}")
    assert answer.status_code == 200
    has_the_form_of(answer, tax_bureau.EnterpriseBody)
    body = answer.json()
    assert body["uscc"] == ENTERPRISE_IN_GOOD_ORDER
    assert body["name"].startswith("示例市甲子天")
    assert (body["status"], body["credit_level"], body["division"]) == ("开业", "A", "997001")


def test_a_code_nobody_has_is_not_found_and_a_broken_one_is_refused(bureau: Bureau) -> None:
    wrong = ENTERPRISE_IN_GOOD_ORDER[:-1] + "0"
    for path in ("", "/arrears"):
        for code, status, error in ((UNKNOWN, 404, "ENTERPRISE_NOT_FOUND"), (wrong, 422, "INVALID_USCC")):
            answer = bureau.client.get(f"/enterprises/{code}{path}")
            assert (answer.status_code, answer.json()["code"]) == (status, error)
            has_the_form_of(answer, tax_bureau.Problem)


def test_arrears_are_listed_and_summed(bureau: Bureau) -> None:
    owing = bureau.client.get(f"/enterprises/{ENTERPRISE_IN_ARREARS}/arrears")
    has_the_form_of(owing, tax_bureau.ArrearsBody)
    body = owing.json()
    assert body["arrears"]
    assert body["total_fen"] == sum(each["amount_fen"] + each["late_fee_fen"] for each in body["arrears"]) > 0
    clear = bureau.client.get(f"/enterprises/{ENTERPRISE_IN_GOOD_ORDER}/arrears").json()
    assert (clear["total_fen"], clear["arrears"]) == (0, [])


def test_enterprises_are_found_by_name_page_by_page(bureau: Bureau) -> None:
    """Every enterprise is on exactly one page."""
    first = bureau.client.get("/enterprises")
    has_the_form_of(first, tax_bureau.EnterprisePage)
    assert first.json()["total"] == ENTERPRISES
    seen: list[str] = []
    for page in range(1, ENTERPRISES // 20 + 2):
        seen += [each["uscc"] for each in bureau.client.get("/enterprises", params={"page": page}).json()["items"]]
    assert seen == sorted({enterprise.uscc for enterprise, _ in enterprises()})
    food = bureau.client.get("/enterprises", params={"name": "餐饮", "page": 2}).json()
    assert 0 < food["total"] < ENTERPRISES
    assert all("餐饮" in each["name"] for each in food["items"])
    assert bureau.client.get("/enterprises", params={"name": "不存在的名称"}).json()["items"] == []


def test_a_certificate_is_issued_and_can_be_checked_by_its_number(bureau: Bureau) -> None:
    before = datetime.now(UTC)
    answer = bureau.client.post(f"/enterprises/{ENTERPRISE_IN_GOOD_ORDER}/certificates", json=APPLICATION)
    assert answer.status_code == 201
    has_the_form_of(answer, tax_bureau.CertificateBody)
    body = answer.json()
    assert answer.headers["location"] == f"/certificates/{body['number']}"
    assert body.items() >= {**APPLICATION, "uscc": ENTERPRISE_IN_GOOD_ORDER}.items()
    issued_at = datetime.fromisoformat(body["issued_at"])
    assert before - timedelta(seconds=1) < issued_at <= datetime.now(UTC)
    assert bureau.client.get(answer.headers["location"]).json() == body


def test_no_certificate_for_who_owes_tax_or_does_not_exist(bureau: Bureau) -> None:
    owing = bureau.client.post(f"/enterprises/{ENTERPRISE_IN_ARREARS}/certificates", json=APPLICATION)
    assert (owing.status_code, owing.json()["code"]) == (409, "CLEARANCE_REFUSED")
    assert "欠税" in owing.json()["message"]
    unknown = bureau.client.post(f"/enterprises/{UNKNOWN}/certificates", json=APPLICATION)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "ENTERPRISE_NOT_FOUND")
    broken = bureau.client.post("/enterprises/123/certificates", json=APPLICATION)
    assert (broken.status_code, broken.json()["code"]) == (422, "INVALID_USCC")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"applicant": "a"}', b'{"applicant": 1, "purpose": "b"}', b'{"applicant": "", "purpose": ""}'],
)
def test_an_application_without_its_parts_is_refused_in_the_bureaus_own_words(bureau: Bureau, body: bytes) -> None:
    answer = bureau.client.post(
        f"/enterprises/{ENTERPRISE_IN_GOOD_ORDER}/certificates",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_REQUEST")
    has_the_form_of(answer, tax_bureau.Problem)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/certificates/WS9970012026999999", 404),
        ("GET", "/nothing", 404),
        ("GET", "/enterprises?page=0", 422),
        ("GET", "/enterprises?page=x", 422),
        ("GET", f"/enterprises?name={'a' * 101}", 422),
        ("DELETE", f"/enterprises/{ENTERPRISE_IN_GOOD_ORDER}", 405),
    ],
)
def test_what_it_does_not_offer_it_refuses_in_its_own_words(
    bureau: Bureau, method: str, path: str, status: int
) -> None:
    answer = bureau.client.request(method, path)
    assert answer.status_code == status
    has_the_form_of(answer, tax_bureau.Problem)


def test_its_document_describes_each_operation_in_chinese(bureau: Bureau) -> None:
    document = bureau.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations.keys() == {
        ("get", "/enterprises"),
        ("get", "/enterprises/{uscc}"),
        ("get", "/enterprises/{uscc}/arrears"),
        ("post", "/enterprises/{uscc}/certificates"),
        ("get", "/certificates/{number}"),
    }
    described = [operation[member] for operation in operations.values() for member in ("summary", "description")]
    described += [
        member["description"]
        for name, schema in document["components"]["schemas"].items()
        for member in schema["properties"].values()
    ]
    assert all(any("一" <= character <= "鿿" for character in text) for text in described)
    problem = {"$ref": "#/components/schemas/Problem"}
    for operation in operations.values():
        assert operation["responses"]["422"]["content"]["application/json"]["schema"] == problem


def test_certificates_asked_for_at_once_have_numbers_without_gaps_also_after_a_restart(tmp_path: Path) -> None:
    numbers: list[str] = []
    for _ in range(2):
        with running(tmp_path) as bureau:

            def issue(_: int, client: httpx.Client = bureau.client) -> str:
                return str(
                    client.post(f"/enterprises/{ENTERPRISE_IN_GOOD_ORDER}/certificates", json=APPLICATION).json()[
                        "number"
                    ]
                )

            with ThreadPoolExecutor(8) as pool:
                numbers += pool.map(issue, range(20))
        assert bureau.process.returncode == 0
        assert not bureau.port_file.exists()
    assert sorted(int(number[-6:]) for number in numbers) == list(range(1, 41))


def test_it_ends_with_its_parent_even_if_that_is_killed(tmp_path: Path) -> None:
    """The parent gets no chance to say anything; the bureau stops by itself and leaves the port."""
    starter = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    with subprocess.Popen([sys.executable, "-c", starter, *command(tmp_path)]) as parent:
        until((tmp_path / "port").exists, "the port file")
        port = int((tmp_path / "port").read_text())
        parent.kill()
    until(lambda: not (tmp_path / "port").exists(), "the bureau to clean up")

    def closed() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(closed, "the port to close")


def test_a_signal_of_the_terminal_ends_it_in_order(tmp_path: Path) -> None:
    with running(tmp_path) as bureau:
        bureau.process.send_signal(signal.SIGINT)
        assert bureau.process.wait(20) == 0


def test_a_busy_port_and_a_foreign_database_are_clear_errors(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(command(tmp_path, port), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert f"cannot start at 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "tax.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")
    ended = subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "another version" in ended.stderr


def test_two_builds_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


def test_the_enterprises_are_many_different_and_valid() -> None:
    made = list(enterprises())
    assert made == list(enterprises(SEED, ENTERPRISES))
    companies = [enterprise for enterprise, _ in made]
    assert len({company.uscc for company in companies}) == len({company.name for company in companies}) == ENTERPRISES
    assert all(is_uscc(company.uscc) for company in companies)
    assert {company.credit_level for company in companies} == set("ABCD")
    assert {company.status for company in companies} == {"开业", "停业", "非正常", "注销"}
    assert 100 < sum(bool(arrears) for _, arrears in made) < 400
    assert all(company.credit_level in "CD" for company, arrears in made if arrears)


def test_a_deregistered_enterprise_gets_no_certificate(tmp_path: Path) -> None:
    register = Register(tmp_path / "tax.sqlite")
    gone = next(company.uscc for company, arrears in enterprises() if company.status == "注销" and not arrears)
    with contextlib.closing(register), pytest.raises(ClearanceRefusedError, match="注销"):
        register.issue_certificate(gone, applicant="a", purpose="b", now=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_certificate_is_dated_in_beijing(tmp_path: Path) -> None:
    """The last evening of a year in UTC is the next year there; number and validity follow its calendar."""
    register = Register(tmp_path / "tax.sqlite")
    with contextlib.closing(register):
        certificate = register.issue_certificate(
            ENTERPRISE_IN_GOOD_ORDER, applicant="a", purpose="b", now=datetime(2026, 12, 31, 16, 0, tzinfo=UTC)
        )
    assert certificate.number == "WS9970012027000001"
    assert (certificate.issued_at, certificate.valid_until) == ("2026-12-31T16:00:00.000Z", "2027-01-31")


def test_a_register_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its certificates stay; what its enterprises lack is what a new register would have."""
    new, old = Register(tmp_path / "new.sqlite"), tmp_path / "old.sqlite"
    build(old)
    connection = sqlite3.connect(old)
    for column in ("legal_representative_number", "phone"):
        connection.execute(f"ALTER TABLE enterprises DROP COLUMN {column}")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    upgraded = Register(old)
    assert upgraded.enterprise_json(ENTERPRISE_IN_GOOD_ORDER) == new.enterprise_json(ENTERPRISE_IN_GOOD_ORDER)
    issued = upgraded.issue_certificate(ENTERPRISE_IN_GOOD_ORDER, applicant="甲", purpose="乙", now=datetime.now(UTC))
    upgraded.close()
    again = Register(old)
    assert again.certificate(issued.number) == issued
    again.close()
    new.close()
