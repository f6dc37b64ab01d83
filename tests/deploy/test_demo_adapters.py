"""The adapters' files of the demo, read as an adapter reads them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from department_adapters import AdapterContract, HttpSource, read_contract
from department_adapters.serve import make_source
from deploy.demo.adapters import civil_adapter, health_adapter, land_adapter, tax_adapter
from deploy.demo.identities import CIVIL_SUBSYSTEM, HEALTH_SUBSYSTEM, LAND_SUBSYSTEM, TAX_SUBSYSTEM

BUS = "tls://127.0.0.1:4222"


def contract_of(data: Path, name: str, text: str) -> AdapterContract:
    """Place the file where it will stand, and read it."""
    folder = data / "adapters" / name
    folder.mkdir(parents=True)
    (folder / "adapter.toml").write_text(text, encoding="utf-8")
    return read_contract(folder / "adapter.toml")


@pytest.mark.parametrize("name", ["tax", "civil", "health", "land"])
def test_the_file_names_the_keys_in_the_data_folder(tmp_path: Path, name: str) -> None:
    text = {
        "tax": tax_adapter(bus_url=BUS, base_url="http://127.0.0.1:1"),
        "civil": civil_adapter(bus_url=BUS),
        "health": health_adapter(bus_url=BUS),
        "land": land_adapter(bus_url=BUS, address="http://127.0.0.1:1/land"),
    }[name]
    contract = contract_of(tmp_path, name, text)
    subsystems = {"tax": TAX_SUBSYSTEM, "civil": CIVIL_SUBSYSTEM, "health": HEALTH_SUBSYSTEM, "land": LAND_SUBSYSTEM}
    assert contract.subsystem == subsystems[name]
    assert contract.bus.url == BUS
    pki = tmp_path / "pki"
    assert [path.resolve() for path in (contract.bus.certificate, contract.bus.key)] == [
        pki / f"{name}.crt",
        pki / f"{name}.key",
    ]
    assert contract.bus.trust_anchors.resolve() == pki / "ca.pem"
    assert contract.bus.gateways.resolve() == pki / "gateway.crt"
    assert contract.ledger.folder == tmp_path / "adapters" / name / "ledger"


def test_odd_characters_in_an_address_stay_what_they_are() -> None:
    database = 'postgresql://reader:a"b\\c$d@host/民政'
    services = tomllib.loads(civil_adapter(bus_url=BUS, database=database))["services"]
    assert {service["database"] for service in services.values()} == {database}


def test_the_tax_adapter_passes_requests_on_to_the_bureau(tmp_path: Path) -> None:
    contract = contract_of(tmp_path, "tax", tax_adapter(bus_url=BUS, base_url="http://127.0.0.1:8080"))
    assert contract.services.keys() == {"enterprises"}
    assert isinstance(make_source(contract.services["enterprises"], contract), HttpSource)
