"""`adapter.toml`: what is right is read, what is wrong is told in one line with file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from department_adapters import ContractError, HttpSource, SqlSource, read_contract
from department_adapters.contract import HttpService, SqlService
from department_adapters.serve import make_source

GOOD = """
[adapter]
name = "civil"
subsystem = "CN/GOV/11990000000000000A/civil"
description = "民政局"

[bus]
url = "tls://127.0.0.1:4222"
certificate = "../pki/civil.crt"
key = "/etc/datong/civil.key"
trust_anchors = "ca.pem"
gateways = "gateways.pem"

[limits]
concurrency = 8

[services.enterprises]
source = "http"
base_url = "https://127.0.0.1:8443/api"
allow_addresses = ["127.0.0.1"]
trust_anchors = "own-ca.pem"

[services.residents]
source = "sql"
database = "sqlite:///civil.db"

[[services.residents.operations]]
path = "/residents/{number}"
query = "SELECT name FROM residents WHERE number = :number AND (:city IS NULL OR city = :city)"
optional = ["city"]
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "adapter.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_contract_is_read_with_its_paths_placed_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "民政 局 #1?%"
    folder.mkdir()
    contract = read_contract(write(folder, GOOD))
    bus = contract.bus
    assert [bus.certificate, bus.key, bus.trust_anchors, bus.gateways] == [
        folder / "../pki/civil.crt",
        Path("/etc/datong/civil.key"),
        folder / "ca.pem",
        folder / "gateways.pem",
    ]
    assert contract.ledger.folder == folder / "ledger"
    assert (contract.limits.concurrency, contract.limits.queue) == (8, 256)
    assert contract.adapter.version == "1.0.0"
    http, sql = contract.services["enterprises"], contract.services["residents"]
    assert isinstance(http, HttpService)
    assert isinstance(sql, SqlService)
    assert http.trust_anchors == folder / "own-ca.pem"
    assert isinstance(make_source(http, contract), HttpSource)
    source = make_source(sql, contract)
    assert isinstance(source, SqlSource)
    assert source._database.url.database == f"{folder}/civil.db"
    operation = sql.operations[0].operation()
    assert (operation.parameters, operation.max_rows, operation.result) == (("number", "city"), 500, "one")


@pytest.mark.parametrize(
    ("database", "read_as"),
    [
        ("sqlite:////var/lib/civil.db", "/var/lib/civil.db"),
        ("sqlite:///../backends/civil.sqlite", "{home}/../backends/civil.sqlite"),
    ],
)
def test_a_database_file_is_beside_the_contract_or_where_it_is_said(
    tmp_path: Path, database: str, read_as: str
) -> None:
    contract = read_contract(write(tmp_path, GOOD.replace("sqlite:///civil.db", database)))
    source = make_source(contract.services["residents"], contract)
    assert isinstance(source, SqlSource)
    assert source._database.url.database == read_as.format(home=tmp_path)


@pytest.mark.parametrize("password", ["secret", "p@ss:w/o?r#d%&=", "密码 口令", "${CIVIL_USER}", ""])
def test_a_password_comes_from_the_environment_whatever_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("CIVIL_PASSWORD", password)
    monkeypatch.setenv("CIVIL_USER", "reader")
    url = "postgresql://${CIVIL_USER}:${CIVIL_PASSWORD}@db.example:5433/civil"
    contract = read_contract(write(tmp_path, GOOD.replace("sqlite:///civil.db", url)))
    source = make_source(contract.services["residents"], contract)
    assert isinstance(source, SqlSource)
    assert (source._database.url.username, source._database.url.host, source._database.url.port) == (
        "reader",
        "db.example",
        5433,
    )
    assert (source._database.url.password or "") == password


def test_a_whole_url_comes_from_the_environment_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIVIL_DATABASE", "postgresql://reader:a%40b@db.example/civil")
    contract = read_contract(write(tmp_path, GOOD.replace("sqlite:///civil.db", "${CIVIL_DATABASE}")))
    source = make_source(contract.services["residents"], contract)
    assert isinstance(source, SqlSource)
    assert source._database.url.password == "a@b"


WRONG: dict[str, tuple[str, str, str]] = {
    # what is replaced, by what, and what is told of it
    "a key misspelt": ("concurrency =", "concurency =", "limits.concurency: is not a known key"),
    "a section misspelt": ("[limits]", "[limit]", "limit: is not a known key"),
    "a key missing": ('name = "civil"\n', "", "adapter.name: is missing"),
    "a section missing": ("[bus]", "[buss]", "bus: is missing"),
    "a text for a number": ("concurrency = 8", 'concurrency = "8"', "limits.concurrency: "),
    "a fraction": ("concurrency = 8", "concurrency = 8.5", "limits.concurrency: "),
    "nothing at once": ("concurrency = 8", "concurrency = 0", "limits.concurrency: "),
    "a true for a number": ("concurrency = 8", "concurrency = true", "limits.concurrency: "),
    "a name with a space": ('name = "civil"', 'name = "civil affairs"', "adapter.name: "),
    "a version that is none": ('description = "民政局"', 'version = "1.0"', "adapter.version: "),
    "no subsystem": ("CN/GOV/11990000000000000A/civil", "civil", "adapter.subsystem: not a subsystem identifier"),
    "a bus without TLS": ("tls://127.0.0.1:4222", "nats://127.0.0.1:4222", "bus.url: "),
    "a number for a path": ('key = "/etc/datong/civil.key"', "key = 7", "bus.key: "),
    "an unknown source": (
        'source = "sql"',
        'source = "ldap"',
        'services.residents.source: must be one of "http", "soap", "sql", "files", "python"',
    ),
    "no source": (
        'source = "sql"\n',
        "",
        'services.residents.source: must be one of "http", "soap", "sql", "files", "python"',
    ),
    "a service that cannot be named": ("[services.enterprises]", '[services."a/b"]', "services.a/b: not a service"),
    "another service that cannot be": ("[services.enterprises]", '[services."企业"]', "services.企业: not a service"),
    "a base URL with a password": ("https://127", "https://u:canary@127", "services.enterprises.base_url: a base"),
    "a base URL that is none": ("https://127.0.0.1:8443/api", "127.0.0.1", "services.enterprises.base_url: a base URL"),
    "a base URL with a query": ("8443/api", "8443/api?x=1", "services.enterprises.base_url: a base URL"),
    "a key of the other source": (
        'trust_anchors = "own-ca.pem"',
        'database = "x"',
        "services.enterprises.database: is not",
    ),
    "another database": ("sqlite:///civil.db", "oracle://u:canary@h/db", "services.residents.database: an adapter's"),
    "no database": ("sqlite:///civil.db", "civil.db", "services.residents.database: not a database URL"),
    "an absent variable": (
        "sqlite:///civil.db",
        "${ABSENT_1}",
        "database: the environment variable ABSENT_1 is not set",
    ),
    "a broken reference": (
        "sqlite:///civil.db",
        "sqlite:///${A-B}",
        "database: a reference to the environment is ${NAME}",
    ),
    "a path without a slash": ('path = "/res', 'path = "res', "services.residents.operations[0].path: "),
    "an unknown parameter": ("= :number", "= :nmber", "operations[0]: the query binds :nmber, which is no parameter"),
    "an unused parameter": ('["city"]', '["city", "x"]', "operations[0]: the parameter 'x' is not used in the query"),
    "an unknown result": ("optional =", 'result = "all"\noptional =', "services.residents.operations[0].result: "),
    "too many rows": ("optional =", "max_rows = 100001\noptional =", "services.residents.operations[0].max_rows: "),
    "a method that writes": ("optional =", 'method = "POST"\noptional =', "services.residents.operations[0].method: "),
    "no TOML": ("[adapter]", "[adapter", "not TOML"),
    "the same key twice": ("concurrency = 8", "concurrency = 8\nconcurrency = 8", "not TOML"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_with_file_and_key(tmp_path: Path, what: str) -> None:
    old, new, told = WRONG[what]
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    file = write(tmp_path, text)
    with pytest.raises(ContractError) as raised:
        read_contract(file)
    message = str(raised.value)
    assert message.startswith(f"{file}: ")
    assert told in message
    assert "\n" not in message
    assert "canary" not in message
    assert "canary" not in repr(raised.value.__cause__)


def test_a_contract_without_services_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="services: is missing"):
        read_contract(write(tmp_path, GOOD.partition("[services")[0]))
    with pytest.raises(ContractError, match="services: "):
        read_contract(write(tmp_path, GOOD.partition("[services")[0] + "[services]"))
    without = GOOD.partition("[[services.residents.operations]]")[0]
    with pytest.raises(ContractError, match=r"services\.residents\.operations: is missing"):
        read_contract(write(tmp_path, without))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="No such file"):
        read_contract(tmp_path / "adapter.toml")
    with pytest.raises(ContractError, match="directory"):
        read_contract(tmp_path)
    file = tmp_path / "adapter.toml"
    file.write_bytes('[adapter]\nname = "税务"'.encode("gb18030"))
    with pytest.raises(ContractError, match=r"adapter\.toml: not TOML"):
        read_contract(file)
