"""Where an adapter's HTTP source may go, and as whom: nowhere that nobody wrote down, and with the name checked."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import structlog

from ca_auth import CertificateRequest
from department_adapters import ContractError, HttpSource, read_contract
from department_adapters.http.outbound import (
    Addresses,
    Connector,
    CredentialError,
    Outbound,
    host_name,
    static_headers,
)
from department_adapters.http.section import HttpService, OutboundSection
from department_adapters.http.source import OURS
from department_adapters.section import BreakerSection
from department_adapters.serve import make_source
from department_adapters.source import ask
from exchange import BackendError
from tests.conftest import Pki
from tests.department_adapters.test_contract import GOOD, write
from tests.department_adapters.test_http_source import (
    HERE,
    OK,
    Echo,
    RawServer,
    Talk,
    always,
    raw_server,
    request,
    uvicorn_with,
)

PUBLIC = ["8.8.8.8", "223.5.5.5", "1.1.1.1", "101.0.0.1", "172.32.0.1", "192.0.1.1", "2400:3200::1", "2606:4700::1111"]
REFUSED = {
    "this machine": ["127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "::", "0.1.2.3"],
    "private": ["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fd00::", "fc00::1"],
    "of this link": ["169.254.0.1", "fe80::1", "fe80::1%lo"],
    "metadata": ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"],
    "shared": ["100.64.0.1", "100.127.255.255"],
    "an IPv4 address in an IPv6 one": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1"],
    "translated": ["64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::"],
    "of no single host": ["224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1"],
    "of documents and benchmarks": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "2001:db8::1", "3fff::1"],
    "of protocols": ["192.0.0.1", "192.88.99.1", "fec0::1", "100::1", "5f00::1"],
}


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_connected_to(text: str) -> None:
    assert Addresses().allowed(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", [text for texts in REFUSED.values() for text in texts])
def test_other_addresses_are_connected_to_only_when_they_are_listed(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert not Addresses().allowed(address)
    itself = text.partition("%")[0]
    if mapped := getattr(ipaddress.ip_address(itself), "ipv4_mapped", None):
        itself = str(mapped)
    assert Addresses([itself]).allowed(address)
    assert not Addresses(["10.20.30.40", "fd12::/16"]).allowed(address)


@pytest.mark.parametrize("text", REFUSED["metadata"])
def test_a_metadata_address_is_not_listed_by_the_network_around_it(text: str) -> None:
    address = ipaddress.ip_address(text)
    everything = Addresses(["0.0.0.0/0", "::/0", "169.254.0.0/16", "100.64.0.0/10", "fd00::/8", "168.63.129.0/24"])
    assert not everything.allowed(address)
    assert everything.allowed(ipaddress.ip_address("169.254.169.253"))
    assert not Addresses(["0.0.0.0/0"]).allowed(ipaddress.ip_address(f"::ffff:{text}" if "." in text else text))


@pytest.mark.parametrize("address", [*(text for texts in REFUSED.values() for text in texts)])
def test_an_address_in_the_base_url_must_be_listed_and_it_is_said_how(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(ValueError, match=r"write allow_addresses = \[\"[0-9a-f.:]+\"\] in the service's section"):
        HttpSource(f"http://{host}/")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0x7F.0x0.0x0.0x1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "127.0.0.01",
        "0x",
        "0",
    ],
)
def test_an_address_written_in_another_way_is_no_host(host: str) -> None:
    with pytest.raises(ValueError, match="written as an address is"):
        HttpSource(f"http://{host}/", outbound=Outbound(allow_addresses=["0.0.0.0/0"]))


@pytest.mark.parametrize(
    "host", ["a b", "a%2eb", "a..b", ".a", "-a", "a-", "a\\b", "a,b", "*", "[::1", "1.2.3.4%25eth0"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"base URL|Invalid IPv6|port|does not appear"):
        HttpSource(f"http://{host}:80/")


def test_hosts_are_compared_in_one_form() -> None:
    assert host_name("Tax.Example.") == "tax.example"
    assert host_name("FD00::0001") == "fd00::1"
    allowed = Outbound(hosts=["TAX.example", "10.1.2.3"], allow_addresses=["10.0.0.0/8"])
    assert [HttpSource(f"https://{host}/x", outbound=allowed) for host in ("tax.Example.", "10.1.2.3")]
    with pytest.raises(ValueError, match=r"host evil\.example is not one of hosts"):
        HttpSource("https://evil.example/", outbound=allowed)
    with pytest.raises(ValueError, match=r"10\.1\.2\.4 is not one of hosts"):
        HttpSource("https://10.1.2.4/", outbound=allowed)


class Resolver:
    """A name server in place of the machine's: each look-up of the name takes the next answer."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        families = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (each, port)) for family, each in zip(families, addresses, strict=True)
        ]


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> Resolver:
    resolver = Resolver(*answers)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver.getaddrinfo)
    return resolver


def connections_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that the loop is told to connect to."""
    loop = asyncio.get_running_loop()
    connect, called = loop.create_connection, []

    async def create_connection(factory: Any, host: str, *rest: Any, **options: Any) -> Any:
        called.append(host)
        return await connect(factory, host, *rest, **options)

    monkeypatch.setattr(loop, "create_connection", create_connection)
    return called


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "100.64.0.9", "fd00::9"])
async def test_a_name_that_leads_into_a_private_network_is_not_followed(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    async with raw_server(always(OK)) as server:
        resolving(monkeypatch, [address])
        source = HttpSource(f"http://tax.example:{server.url.rpartition(':')[2]}")
        with structlog.testing.capture_logs() as told, pytest.raises(BackendError) as raised:
            await ask(source, request())
        itself = ipaddress.ip_address(address)
        itself = getattr(itself, "ipv4_mapped", None) or itself
        assert f'write allow_addresses = ["{itself}"]' in repr(raised.value.__cause__)
        assert any(f'allow_addresses = ["{itself}"]' in str(event.get("reason")) for event in told)
        assert str(itself) not in str(raised.value)  # the caller is told nothing of the department's network
        assert server.connections == 0


async def test_the_address_that_was_looked_at_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers otherwise the second time leads nowhere: it is asked once for each connection."""
    async with raw_server(always(OK)) as server:
        outbound = Outbound(allow_addresses=["127.0.0.1"])
        source = HttpSource(f"http://tax.example:{server.url.rpartition(':')[2]}", outbound=outbound)
        resolver = resolving(monkeypatch, ["10.0.0.1", "127.0.0.1", "127.0.0.1"], ["10.0.0.1"])
        called = connections_made(monkeypatch)
        assert (await ask(source, request())).body == b"ok"
        assert resolver.asked == ["tax.example"]
        assert server.heads[0].startswith(b"GET / HTTP/1.1\r\nhost: tax.example:")
        with pytest.raises(BackendError):
            await ask(source, request())
        assert (resolver.asked, server.connections) == (["tax.example"] * 2, 1)
        assert called == ["127.0.0.1"], "nothing else was even tried"


async def test_of_several_addresses_the_first_that_takes_us_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(always(OK)) as server:
        source = HttpSource(f"http://tax.example:{server.url.rpartition(':')[2]}", outbound=HERE)
        resolving(monkeypatch, ["127.0.0.2", "127.0.0.3", "127.0.0.1"])  # nobody listens at the first two
        assert (await ask(source, request())).body == b"ok"
        resolving(monkeypatch, ["127.0.0.2", "127.0.0.3"])
        with pytest.raises(BackendError):
            await ask(source, request())


def server_tls(pki: Pki, folder: Path, *names: str, clients: bool = False) -> ssl.SSLContext:
    issued = pki.ca.issue(f"server-{folder.name}", CertificateRequest.for_server(*names))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(issued.certificate, issued.key)
    if clients:
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_verify_locations(pki.trust_anchors)
    return tls


async def test_the_certificate_is_of_the_name_whatever_the_address(
    monkeypatch: pytest.MonkeyPatch, pki: Pki, tmp_path: Path
) -> None:
    seen: list[str | None] = []
    tls = server_tls(pki, tmp_path, "tax.example")
    tls.sni_callback = lambda _, name, __: seen.append(name)
    outbound = Outbound(allow_addresses=["127.0.0.1"], trust_anchors=pki.trust_anchors)
    async with raw_server(always(OK), tls) as server:
        resolving(monkeypatch, ["127.0.0.1"])
        port = server.url.rpartition(":")[2]
        assert (await ask(HttpSource(f"https://tax.example:{port}", outbound=outbound), request())).body == b"ok"
        with pytest.raises(BackendError) as raised:
            await ask(HttpSource(f"https://civil.example:{port}", outbound=outbound), request())
        assert isinstance(raised.value.__cause__, ssl.SSLCertVerificationError)
        assert seen == ["tax.example", "civil.example"]


def with_peer(raw: RawServer, subjects: list[Any]) -> Any:
    """A conversation that notes who the client's certificate says it is."""

    def talk(_: RawServer, __: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await raw.head(reader)
            subjects.append(writer.get_extra_info("peercert")["subjectAltName"])
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            await writer.drain()

        return converse

    return talk


async def test_we_show_our_certificate_and_the_new_one_when_it_is_replaced(pki: Pki, tmp_path: Path) -> None:
    certificate, key = tmp_path / "own.crt", tmp_path / "own.key"

    def put(party: str) -> None:
        for source, file in ((pki.certificate(party), certificate), (pki.key(party), key)):
            new = file.with_suffix(".new")
            new.write_bytes(source.read_bytes())
            new.replace(file)

    put("tax")
    subjects: list[Any] = []
    tls = server_tls(pki, tmp_path, clients=True)
    outbound = Outbound(
        allow_addresses=["127.0.0.1"],
        trust_anchors=pki.trust_anchors,
        client_certificate=certificate,
        client_key=key,
        tls_min="1.3",
    )
    async with raw_server(lambda raw, n: with_peer(raw, subjects)(raw, n), tls) as server:
        source = HttpSource(server.url, outbound=outbound)
        await source.start()
        assert (await ask(source, request())).body == b"ok"
        put("civil")
        assert (await ask(source, request())).body == b"ok"
        key.unlink()
        with pytest.raises(BackendError) as raised:
            await ask(source, request())
        assert isinstance(raised.value.__cause__, CredentialError)
        without = HttpSource(
            server.url, outbound=Outbound(allow_addresses=["127.0.0.1"], trust_anchors=pki.trust_anchors)
        )
        with pytest.raises(BackendError):
            await ask(without, request())
    assert [subject[0][1].rpartition("/")[2] for subject in subjects] == ["tax", "civil"]


async def test_an_older_tls_than_is_wanted_is_not_spoken(pki: Pki, tmp_path: Path) -> None:
    tls = server_tls(pki, tmp_path)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    async with raw_server(always(OK), tls) as server:
        for version in ("1.3", "1.2"):
            outbound = Outbound(allow_addresses=["127.0.0.1"], trust_anchors=pki.trust_anchors, tls_min=version)
            source = HttpSource(server.url, outbound=outbound)
            if version == "1.3":
                with pytest.raises(BackendError):
                    await ask(source, request())
            else:
                assert (await ask(source, request())).body == b"ok"


async def sent_with(outbound: Outbound, *headers: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The headers that reach the system, without those of the connection."""
    backend = Echo()
    async with uvicorn_with(backend) as url:
        source = HttpSource(url, outbound=outbound)
        await ask(source, request(headers=list(headers)))
        await source.stop()
    return [pair for pair in backend.scopes[0]["headers"] if pair[0] not in OURS]


async def test_the_caller_s_authorization_passes_unless_the_department_has_its_own() -> None:
    theirs = ((b"authorization", b"Basic dTpw"), (b"x-api-key", b"theirs"), (b"x-a", b"1"))
    assert await sent_with(HERE, *theirs) == [*theirs]
    ours = Outbound(
        allow_addresses=["127.0.0.1"],
        bearer="token-1",
        headers=static_headers([("X-Api-Key", "ours"), ("x-unit", "税务局 1")], ours=OURS),
    )
    assert await sent_with(ours, *theirs) == [
        (b"x-a", b"1"),
        (b"x-api-key", b"ours"),
        (b"x-unit", "税务局 1".encode()),
        (b"authorization", b"Bearer token-1"),
    ]


async def test_a_token_in_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    outbound = Outbound(bearer_file=file)
    connector = Connector("tax.example", 80, tls=False, outbound=outbound)
    with pytest.raises(CredentialError, match="token"):
        connector.headers([])
    for number, token in enumerate(("one", "two", "three")):
        file.write_text(f"{token}\n")
        os.utime(file, ns=(number * 1000, number * 1000))
        for _ in range(2):
            assert connector.headers([(b"authorization", b"x")]) == [(b"authorization", f"Bearer {token}".encode())]
    for bad in ("", "two words", "canary\x00", "口令canary"):
        file.write_text(bad)
        with pytest.raises(CredentialError) as raised:
            connector.headers([])
        assert "canary" not in f"{raised.value} {raised.value.__cause__!r}"
    source = HttpSource("http://tax.example", outbound=outbound)
    with pytest.raises(BackendError):
        await ask(source, request())


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAX_TOKEN", "canary-token")
    monkeypatch.setenv("TAX_BAD", "canary two")
    monkeypatch.setenv("TAX_URL", "https://tax.example/api")
    monkeypatch.setenv("TAX_EVIL", "https://evil.example/api")


SECTION = 'base_url = "https://127.0.0.1:8443/api"\nallow_addresses = ["127.0.0.1"]\ntrust_anchors = "own-ca.pem"'


@pytest.mark.usefixtures("variables")
def test_the_keys_of_the_section_reach_the_source(tmp_path: Path) -> None:
    keys = """
base_url = "${TAX_URL}"
hosts = ["tax.example"]
methods = ["GET"]
allow_addresses = ["10.1.0.0/16", "fd12::7"]
client_certificate = "own.crt"
client_key = "own.key"
tls_min = "1.3"
bearer = "${TAX_TOKEN}"
headers = {X-Unit = "7", X-Api-Key = "k-${TAX_TOKEN}"}
"""
    contract = read_contract(write(tmp_path, GOOD.replace(SECTION, keys)))
    service = contract.services["enterprises"]
    assert isinstance(service, HttpService)
    source = make_source(service, contract)
    assert isinstance(source, HttpSource)
    outbound = source._connector._outbound
    assert (outbound.client_certificate, outbound.client_key) == (tmp_path / "own.crt", tmp_path / "own.key")
    assert (outbound.tls_min, outbound.bearer) == ("1.3", "canary-token")
    assert outbound.headers == [(b"x-unit", b"7"), (b"x-api-key", b"k-canary-token")]
    assert source._methods == {"GET"}
    for shown in (repr(service), repr(outbound), repr(contract)):
        assert "canary" not in shown
    filed = read_contract(write(tmp_path, GOOD.replace(SECTION, f'{SECTION}\nbearer_file = "token"')))
    http = filed.services["enterprises"]
    assert isinstance(http, HttpService)
    assert http.bearer_file == tmp_path / "token"


WRONG = {
    # a line more, and what is told of it
    "an address that is none": ('allow_addresses = ["10.0.0.0/33"]', "allow_addresses[0]: '10.0.0.0/33' is no network"),
    "a network with a host in it": (
        'allow_addresses = ["10.0.0.1/8"]',
        "allow_addresses[0]: '10.0.0.1/8' is no network",
    ),
    "a private address that is not listed": (
        "allow_addresses = []",
        "enterprises.base_url: the base URL's host is not a public address: to allow 127.0.0.1, write allow_addresses = [\"127",
    ),
    "another host": (
        'hosts = ["tax.example"]',
        "enterprises.base_url: the base URL's host 127.0.0.1 is not one of hosts",
    ),
    "a host that is none": ('hosts = ["tax example"]', "enterprises.hosts[0]: "),
    "a method that is none": ('methods = ["GET", "FETCH"]', "enterprises.methods[1]: "),
    "no method": ("methods = []", "enterprises.methods: "),
    "an unknown TLS": ('tls_min = "1.1"', "enterprises.tls_min: "),
    "a key without a certificate": (
        'client_key = "own.key"',
        "enterprises: client_certificate and client_key go together",
    ),
    "a token in clear": ('bearer = "canary"', "enterprises.bearer: no secret stands in the file: write ${NAME}"),
    "half a token in clear": ('bearer = "canary-${TAX_TOKEN}"', "enterprises.bearer: no secret stands in the file"),
    "a token that cannot be sent": ('bearer = "${TAX_BAD}"', "enterprises: the bearer token cannot be sent"),
    "two tokens": ('bearer = "${TAX_TOKEN}"\nbearer_file = "x"', "enterprises: of bearer and bearer_file"),
    "a token and a header": (
        'bearer = "${TAX_TOKEN}"\nheaders = {Authorization = "${TAX_TOKEN}"}',
        "enterprises: of bearer and a header Authorization",
    ),
    "a secret header in clear": (
        'headers = {X-Api-Key = "canary"}',
        "enterprises.headers: no secret stands in the file",
    ),
    "a header that is ours": ('headers = {Host = "x"}', "enterprises.headers: the header 'Host' cannot be set"),
    "a header that is none": ('headers = {"x y" = "x"}', "enterprises.headers: the header 'x y' cannot be set"),
    "two lines in one": (
        'headers = {X-A = "x\\r\\ny: z"}',
        "enterprises.headers: the value of the header 'X-A' cannot",
    ),
    "a header twice": ('headers = {X-A = "x", x-a = "y"}', "enterprises.headers: the header 'x-a' stands there twice"),
    "an absent variable": (
        'headers = {X-A = "${ABSENT_1}"}',
        "enterprises.headers: the environment variable ABSENT_1 is",
    ),
    "no turn": ("concurrency = 0", "enterprises.concurrency: "),
    "too many repeats": ("retries = 6", "enterprises.retries: "),
    "a key of the breaker misspelt": ("breaker = {failure = 1}", "enterprises.breaker.failure: is not a known key"),
    "no pause": ("breaker = {pause = 0}", "enterprises.breaker.pause: "),
}


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_with_its_key_and_no_secret(tmp_path: Path, what: str) -> None:
    line, told = WRONG[what]
    section = SECTION.replace('allow_addresses = ["127.0.0.1"]\n', "") if line.startswith("allow_") else SECTION
    text = GOOD.replace(SECTION, f"{section}\n{line}")
    assert text != GOOD
    with pytest.raises(ContractError) as raised:
        read_contract(write(tmp_path, text))
    assert f"services.{told}" in str(raised.value) or told in str(raised.value)
    assert "canary" not in str(raised.value)
    assert "canary" not in repr(raised.value.__cause__)


@pytest.mark.usefixtures("variables")
def test_an_address_from_the_environment_is_held_to_the_hosts(tmp_path: Path) -> None:
    text = GOOD.replace(SECTION, 'base_url = "${TAX_EVIL}"\nhosts = ["tax.example"]')
    with pytest.raises(ContractError, match=r"evil\.example is not one of hosts"):
        read_contract(write(tmp_path, text))


@pytest.mark.parametrize("missing", ["own-ca.pem", "own.crt", "own.key"])
async def test_a_missing_or_foreign_file_is_told_at_the_start(pki: Pki, tmp_path: Path, missing: str) -> None:
    names = {"own-ca.pem": pki.trust_anchors, "own.crt": pki.certificate("tax"), "own.key": pki.key("tax")}
    for name, source in names.items():
        (tmp_path / name).write_bytes(source.read_bytes())
    outbound = Outbound(
        trust_anchors=tmp_path / "own-ca.pem", client_certificate=tmp_path / "own.crt", client_key=tmp_path / "own.key"
    )
    await HttpSource("https://tax.example", outbound=outbound).start()
    (tmp_path / missing).write_bytes(pki.key("civil").read_bytes() if missing == "own.key" else b"nothing")
    with pytest.raises(ContractError, match=missing):
        await HttpSource("https://tax.example", outbound=outbound).start()
    (tmp_path / missing).unlink()
    with pytest.raises(ContractError, match=f"{missing}: No such file"):
        await HttpSource("https://tax.example", outbound=outbound).start()


@pytest.mark.usefixtures("variables")
def test_the_section_in_the_document_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAX_KEY", "k")
    text = (Path(__file__).parents[2] / "docs/sources/http.md").read_text(encoding="utf-8")
    section = text.split("```toml\n")[1].split("```")[0]
    head = GOOD.partition("[services.enterprises]")[0]
    contract = read_contract(write(tmp_path, f"{head}{section}"))
    service = contract.services["enterprises"]
    assert isinstance(service, HttpService)
    assert isinstance(make_source(service, contract), HttpSource)
    described = {*OutboundSection.__annotations__, "base_url", "concurrency", "queue", "retries"}
    for key in (*described, *(f"breaker.{name}" for name in BreakerSection.model_fields)):
        assert f"`{key}`" in text, f"{key} is not described"
