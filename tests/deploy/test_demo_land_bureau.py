"""The land bureau as a process of its own: asked by a SOAP client that others wrote, and by the adapter of the demo."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import zeep
from openapi_spec_validator import validate

from department_adapters import SourceAnswer, SourceRequest, read_contract
from department_adapters.serve import make_source
from department_adapters.source import Source
from deploy.demo import land_register
from deploy.demo.adapters import land_adapter
from deploy.demo.civil_affairs import make_residents
from deploy.demo.land_bureau import wsdl
from deploy.demo.land_register import LandRegister, properties
from deploy.demo.synthetic import RESIDENT_MARRIED, RESIDENT_SINGLE
from tests.waiting import wait_until

NOBODY = "99700119000101001X"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("land")
    land_register.build(folder / "land.sqlite")
    return folder


@pytest.fixture(scope="module")
def address(data: Path) -> Iterator[str]:
    """Of a running bureau."""
    port = data / "port"
    command = [sys.executable, "-m", "deploy.demo.land_bureau", "--data", str(data), "--port-file", str(port)]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: port.exists() or process.poll() is not None)
            yield f"http://127.0.0.1:{port.read_text().strip()}/services/land"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    assert not port.exists()


@pytest.fixture
async def source(address: str, tmp_path: Path) -> AsyncIterator[Source]:
    """That of the demo's adapter."""
    (tmp_path / "land_bureau.wsdl").write_bytes(wsdl("http://127.0.0.1:1/"))
    (tmp_path / "adapter.toml").write_text(land_adapter(bus_url="tls://127.0.0.1:1", address=address))
    contract = read_contract(tmp_path / "adapter.toml")
    source = make_source(contract.services["properties"], contract)
    await source.start()
    yield source
    await source.stop()


async def get(source: Source, target: str) -> tuple[int, Any]:
    answer: SourceAnswer = await source.answer(SourceRequest("id", "GET", target.encode(), [], b"", 10.0, True))
    assert isinstance(answer.body, bytes)
    return answer.status, json.loads(answer.body)


def test_zeep_asks_it_by_the_wsdl_that_it_tells(address: str) -> None:
    session = requests.Session()
    session.trust_env = False
    with session:
        client = zeep.Client(f"{address}?wsdl", transport=zeep.Transport(session=session))
        told = client.service.FindByOwner(ownerNumber=RESIDENT_MARRIED)
        (flat,) = told.property
        assert told.ownerNumber == RESIDENT_MARRIED
        assert [each.share for each in flat.owner] == ["共同共有", "共同共有"]
        assert isinstance(flat.area._value_1, Decimal)
        assert client.service.GetProperty(unitNumber=flat.unitNumber) == flat
        for number, code in (("997001001001GB99999F00010001", "PropertyNotFound"), ("1", "InvalidNumber")):
            with pytest.raises(zeep.exceptions.Fault) as fault:
                client.service.GetProperty(unitNumber=number)
            assert fault.value.detail[0].tag == f"{{urn:sample-city:land}}{code}"


async def test_the_adapter_tells_what_a_person_owns(source: Source) -> None:
    status, told = await get(source, f"/owners/{RESIDENT_MARRIED}/properties")
    assert status == 200
    (flat,) = told["property"]
    assert abs(datetime.fromisoformat(told["asOf"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert flat["owner"][0]["number"] == RESIDENT_MARRIED
    assert flat["area"]["unit"] == "m2"
    assert re.fullmatch(r"\d+\.\d\d", flat["area"]["value"])
    assert await get(source, f"/properties/{flat['unitNumber']}") == (200, flat)
    assert (await get(source, f"/owners/{RESIDENT_MARRIED}/properties?usage=%E5%95%86%E4%B8%9A%E6%9C%8D%E5%8A%A1"))[1][
        "property"
    ] == []
    for number in (RESIDENT_SINGLE, NOBODY):
        status, told = await get(source, f"/owners/{number}/properties")
        assert (status, told["property"]) == (200, [])


async def test_faults_become_statuses_without_their_texts(source: Source) -> None:
    status, told = await get(source, "/properties/997001001001GB99999F00010001")
    assert (status, told["detail"]) == (404, "The department's system refused: PropertyNotFound.")
    status, told = await get(source, "/properties/1")
    assert (status, told["detail"]) == (400, "The department's system refused: InvalidNumber.")


async def test_every_property_passes_through_the_adapter_as_it_is_registered(source: Source, data: Path) -> None:
    register = LandRegister(data / "land.sqlite")
    try:
        made = list(properties(make_residents()))
        assert len(made) > 500
        assert {each.seized for each in made} == {True, False}
        assert any(each.land_until is None for each in made)
        for each in made[::25]:
            assert register.property(each.unit_number) == each
            status, told = await get(source, f"/properties/{each.unit_number}")
            assert status == 200
            assert told["certificateNumber"] == each.certificate_number
            assert told["landUntil"] == each.land_until
            assert told["seized"] is each.seized
            assert Decimal(told["area"]["value"]) * 10_000 == each.area_cm2 // 100 * 100
            assert [owner["number"] for owner in told["owner"]] == [owner.number for owner in each.owners]
            assert [int(Decimal(loan["amount"]) * 100) for loan in told["mortgage"]] == [
                loan.amount_fen for loan in each.mortgages
            ]
    finally:
        register.close()


DOCUMENT = Path(__file__).parents[2] / "docs/sources/soap.md"


def block(language: str) -> str:
    """The first block of the document in this language."""
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def test_the_section_in_the_document_is_one(address: str, tmp_path: Path) -> None:
    (tmp_path / "land_bureau.wsdl").write_bytes(wsdl(address))
    head = land_adapter(bus_url="tls://127.0.0.1:1", address=address).partition("[services")[0]
    (tmp_path / "adapter.toml").write_text(head + block("toml"))
    contract = read_contract(tmp_path / "adapter.toml")
    make_source(contract.services["properties"], contract)


def test_the_contract_in_the_document_is_made(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    (tmp_path / "land_bureau.wsdl").write_bytes(wsdl(address))
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    exec(block("python"), made)  # what the document shows
    document = made["document"]
    validate(document)
    assert list(document["paths"]) == ["/properties/{unit_number}"]
    schemas = document["components"]["schemas"]
    assert schemas["Property"]["description"] == "不动产登记信息"
    register = LandRegister(data / "land.sqlite")
    (flat,) = register.owned_by(RESIDENT_MARRIED)
    register.close()
    (number,) = document["paths"]["/properties/{unit_number}"]["get"]["parameters"]
    assert re.search(number["schema"]["pattern"], flat.unit_number)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "Client"),
        (b"<a>", "Client"),
        (b"<a/>", "VersionMismatch"),
        (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "Client"),
        (b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body/></e:Envelope>', "Client"),
        (
            b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><a/></e:Body></e:Envelope>',
            "Client",
        ),
        (b"x" * (65 << 10), "Client"),
    ],
    ids=range(7),
)
def test_what_it_cannot_serve_is_a_fault(address: str, body: bytes, code: str) -> None:
    answer = httpx.post(address, content=body, headers={"content-type": "text/xml"}, trust_env=False)
    assert answer.status_code == 500
    assert f"<faultcode>soap:{code}</faultcode>" in answer.text


def test_other_paths_and_methods_are_refused(address: str) -> None:
    with httpx.Client(trust_env=False) as client:
        assert client.get(address).status_code == 405
        assert client.get(address.replace("land", "sea")).status_code == 404


def test_the_register_is_the_same_for_the_same_seed_and_kept(data: Path, tmp_path: Path) -> None:
    land_register.build(tmp_path / "again.sqlite")
    both = [LandRegister(path) for path in (data / "land.sqlite", tmp_path / "again.sqlite")]
    owned = [register.owned_by(RESIDENT_MARRIED) for register in both]
    assert owned[0] == owned[1] != []
    for register in both:
        register.close()
    before = os.stat(data / "land.sqlite")
    land_register.build(data / "land.sqlite")
    assert os.stat(data / "land.sqlite") == before


def test_without_a_register_it_does_not_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo.land_bureau", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "is not there" in done.stderr
