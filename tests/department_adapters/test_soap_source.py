"""A department's SOAP service as a source: declared operations in JSON, over real servers, one of which others wrote."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import structlog

from department_adapters import ContractError, SourceAnswer, SourceRequest, read_contract
from department_adapters.soap.model import SchemaError
from department_adapters.soap.operation import SoapOperation, bind
from department_adapters.soap.section import SoapService
from department_adapters.soap.security import UsernameToken
from department_adapters.soap.source import LARGE, SoapFaultError
from department_adapters.soap.wsdl import ENVELOPES, load_wsdl
from department_adapters.source import UnusableAnswerError
from exchange import AnswerTimeoutError, BackendError, Headers, PayloadTooLargeError
from tests.ci import require_or_skip

FOLDER = Path(__file__).parent / "wsdl"
FOREIGN = Path(sys.prefix) / "foreign"
FOUND = {
    "wsdl": FOLDER / "rpc.wsdl",
    "operations": [{"path": "/parcels/{number}", "soap": "Find", "method": "GET", "result": "found"}],
    "faults": {"NoSuchParcel": 404},
}
SMALL = {"version": 1, "text": "a", "whole": -5, "amount": "1.50", "yes": True, "day": None, "body": "b"}


@dataclass
class Service:
    """A server that answers every request alike, and notes what came."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/xml; charset=utf-8"})
    body: bytes = b""
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(int(lengths[0][15:])))
                headers = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
                writer.write(
                    f"HTTP/1.1 {self.status} x\r\ncontent-length: {len(self.body)}\r\n{headers}\r\n".encode()
                    + self.body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(service: Service, keys: dict[str, Any], max_answer: int = 64 << 20) -> AsyncIterator[Any]:
    """A source over a service; the address is the service's."""
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/land?v=1"
    declared = {"source": "soap", "address": address, "allow_addresses": ["127.0.0.1"], **keys}
    source = SoapService.model_validate(declared).make_source(max_answer=max_answer)
    await source.start()
    try:
        yield source
    finally:
        await source.stop()
        server.close()
        await server.wait_closed()


def request(
    target: str, body: Any = None, *, method: str = "", headers: Headers | None = None, safe: bool = True
) -> SourceRequest:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    chosen = method or ("GET" if body is None else "POST")
    return SourceRequest("id", chosen, target.encode(), headers or [], content, 5.0, safe)


def told(answer: SourceAnswer) -> Any:
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def envelope(body: str, soap: Any = "1.1") -> bytes:
    return f'<e:Envelope xmlns:e="{ENVELOPES[soap]}"><e:Body>{body}</e:Body></e:Envelope>'.encode()


PARCEL = envelope(
    '<r:FindResponse xmlns:r="urn:rpc"><found><number>地</number><area>12.50</area></found></r:FindResponse>'
)
NOTHING = envelope(
    '<r:FindResponse xmlns:r="urn:rpc"><found xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="1"/></r:FindResponse>'
)


async def test_path_and_query_become_the_question_and_the_answer_is_json() -> None:
    service = Service(body=PARCEL)
    async with running(service, FOUND) as source:
        answer = await source.answer(
            request("/parcels/%E5%9C%B0%3Cb%3E?year=2024", headers=[(b"authorization", b"secret"), (b"cookie", b"c")])
        )
    assert (answer.status, told(answer)) == (200, {"number": "地", "area": "12.50"})
    assert dict(answer.headers)[b"content-type"] == b"application/json"
    find = ElementTree.fromstring(service.bodies[0]).find(".//{urn:rpc}Find")
    assert find is not None
    assert [(each.tag, each.text) for each in find] == [("number", "地<b>"), ("year", "2024")]
    head = service.heads[0].lower()
    assert head.startswith(b"post /land?v=1 http/1.1\r\n")
    assert b'soapaction: "find"' in head
    assert b"content-type: text/xml; charset=utf-8" in head
    assert b"secret" not in head
    assert b"cookie" not in head


@pytest.mark.parametrize(
    ("target", "body", "status", "detail"),
    [
        ("/parcels/1", None, 400, "'year' is required"),
        ("/parcels/1?year=x", None, 400, "'year' is no whole number"),
        ("/parcels/1?year=1&year=2", None, 400, "'year' is given twice"),
        ("/parcels/1?year=1&number=2", None, 400, "'number' is not known"),
        ("/parcels/1?year=1&other=2", None, 400, "'other' is not known"),
        ("/parcels/%FF?year=1", None, 400, "not UTF-8"),
        ("/parcels/%00?year=1", None, 422, "/number holds a character"),
        ("/parcels/1?year=99999999999", None, 400, "'year' is outside the range"),
        ("/parcels", None, 404, "no such operation"),
        ("/Find", {}, 404, "no such operation"),
        ("/parcels/1", {}, 405, "Only GET, HEAD are offered"),
    ],
)
async def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    target: str, body: Any, status: int, detail: str
) -> None:
    service = Service(body=PARCEL)
    async with running(service, FOUND) as source:
        answer = await source.answer(request(target, body))
    assert answer.status == status
    assert detail in told(answer)["detail"]
    assert dict(answer.headers).get(b"allow") == (b"GET, HEAD" if status == 405 else None)
    assert not service.heads


async def test_head_is_answered_like_get_without_the_body_and_texts_are_chinese_on_demand() -> None:
    async with running(Service(body=PARCEL), FOUND) as source:
        answer = await source.answer(request("/parcels/1?year=1", method="HEAD"))
        assert (answer.status, answer.body) == (200, b"")
        refused = await source.answer(request("/parcels/1", headers=[(b"accept-language", b"zh-CN")]))
    assert told(refused)["detail"] == "参数 'year' 缺失。"


async def test_a_result_that_is_not_there_is_404() -> None:
    async with running(Service(body=NOTHING), FOUND) as source:
        answer = await source.answer(request("/parcels/1?year=1"))
    assert answer.status == 404
    assert "no such record" in told(answer)["detail"]


EVERYTHING = {"wsdl": FOLDER / "everything.wsdl"}


async def test_without_a_declaration_every_operation_is_offered() -> None:
    service = Service(status=202)
    with structlog.testing.capture_logs() as said:
        async with running(service, EVERYTHING):
            pass
    assert [(each["event"], each["operation"]) for each in said] == [("adapter.operation_left_out", "Encoded")]
    async with running(service, EVERYTHING) as source:
        rung = await source.answer(request("/Ring", {}))
        assert (rung.status, rung.body) == (204, b"")
        assert (await source.answer(request("/Ring", b"", method="POST"))).status == 204
        assert (await source.answer(request("/Encoded", {}))).status == 404
        assert (await source.answer(request("/Ring", method="GET"))).status == 405
        wrong = await source.answer(request("/Keep", {"thing": {**SMALL, "whole": "5"}}))
    assert wrong.status == 422
    assert told(wrong)["errors"] == [{"pointer": "/thing/whole", "detail": "must be a whole number"}]
    assert len(service.heads) == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"1", 422),
        (b'{"thing": 1}', 422),
        (b"{}", 422),
        (b"", 422),
    ],
    ids=range(8),
)
async def test_a_body_that_is_no_question_is_refused(body: bytes, status: int) -> None:
    service = Service()
    async with running(service, EVERYTHING) as source:
        assert (await source.answer(request("/Keep", body, method="POST"))).status == status
    assert not service.heads


async def test_members_come_from_the_path_the_body_and_what_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAND_MARK", "secret mark")
    keep = {
        "path": "/things/{version}",
        "soap": "Keep",
        "parameters": {"version": "thing.version", "tag": "thing.tag"},
        "fixed": {"thing.mark": "${LAND_MARK}"},
        "result": "thing.part",
    }
    service = Service(headers={"content-type": "application/soap+xml"})
    async with running(service, {**EVERYTHING, "port": "Soap12", "operations": [keep]}) as source:
        thing = {name: each for name, each in SMALL.items() if name != "version"}
        service.body = envelope("<e:Fault/>", "1.2")
        with pytest.raises(BackendError):
            await source.answer(request("/things/7?tag=a&tag=b", {"thing": thing}))
        sent = ElementTree.fromstring(service.bodies[0]).find(".//{urn:everything}thing")
        assert sent is not None
        assert sent.attrib == {"version": "7", "mark": "secret mark"}
        assert [each.text for each in sent.findall("{urn:everything}tag")] == ["a", "b"]
        head = service.heads[0].lower()
        assert b'content-type: application/soap+xml; charset=utf-8; action="urn:everything#keep"\r\n' in head
        assert b"soapaction" not in head
        for twice in ({"version": 8}, {"mark": "m"}):
            answer = await source.answer(request("/things/7", {"thing": thing | twice}))
            assert answer.status == 422
            assert "given twice" in told(answer)["detail"]
        assert len(service.heads) == 1


def fault(code: str, detail: str = "") -> bytes:
    return envelope(
        f"<e:Fault><faultcode>{code}</faultcode><faultstring>canary-text</faultstring><detail>{detail}</detail></e:Fault>"
    )


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (fault("e:Server", "<NoSuchParcel>canary-text</NoSuchParcel>"), 404, "NoSuchParcel"),
        (fault("NoSuchParcel"), 404, "NoSuchParcel"),
        (fault("e:Client"), 422, "Client"),
        (fault("e:Client.Secret-canary-text"), 422, "Client"),
    ],
)
async def test_a_fault_that_is_the_callers_is_told_without_its_text(body: bytes, status: int, named: str) -> None:
    async with running(Service(status=500, body=body), FOUND) as source:
        answer = await source.answer(request("/parcels/1?year=1"))
    assert answer.status == status
    assert named in told(answer)["detail"]
    assert b"canary" not in answer.body


async def test_any_other_fault_is_a_failure_of_the_system_with_its_text_in_the_cause() -> None:
    async with running(Service(status=500, body=fault("e:Server", "<Other/>")), FOUND) as source:
        with pytest.raises(BackendError) as failed:
            await source.answer(request("/parcels/1?year=1"))
    # The system is at work: the breaker does not open for it, and nothing is repeated.
    assert isinstance(failed.value, UnusableAnswerError)
    assert isinstance(failed.value.__cause__, SoapFaultError)
    assert "canary-text" in str(failed.value.__cause__)
    assert "canary-text" not in str(failed.value)


@pytest.mark.parametrize(
    "service",
    [
        Service(status=500, headers={"content-type": "text/html"}, body=b"<h1>canary</h1>"),
        Service(status=200, headers={}, body=PARCEL),
        Service(status=500, body=PARCEL),
        Service(body=b""),
        Service(status=302, headers={"location": "http://169.254.169.254/", "content-type": "text/xml"}),
        Service(body=b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + PARCEL),
        Service(headers={"content-type": "text/xml", "content-encoding": "gzip"}, body=PARCEL),
        Service(headers={"content-type": "multipart/related; boundary=a"}, body=PARCEL),
        Service(body=PARCEL.replace(b"12.50", b"a lot")),
    ],
    ids=range(9),
)
async def test_an_answer_that_is_none_is_a_failure_and_of_a_change_nobody_knows_what_it_did(service: Service) -> None:
    async with running(service, FOUND) as source:
        with pytest.raises(BackendError):
            await source.answer(request("/parcels/1?year=1", safe=True))
        with pytest.raises(AnswerTimeoutError):
            await source.answer(request("/parcels/1?year=1", safe=False))


@dataclass
class Closing(Service):
    """It takes what is asked and says nothing."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()


async def test_whether_a_change_was_made_is_unknown_when_the_connection_breaks() -> None:
    async with running(Closing(), FOUND) as source:
        with pytest.raises(BackendError):
            await source.answer(request("/parcels/1?year=1", safe=True))
        with pytest.raises(AnswerTimeoutError):
            await source.answer(request("/parcels/1?year=1", safe=False))


@pytest.mark.parametrize(("status", "at_work"), [(500, True), (502, False), (503, False), (504, False)])
async def test_a_proxy_that_says_the_service_is_down_is_heard_by_the_breaker(status: int, at_work: bool) -> None:
    service = Service(status=status, headers={"content-type": "text/html"}, body=b"<h1>Bad Gateway</h1>")
    async with running(service, FOUND) as source:
        with pytest.raises(BackendError) as failed:
            await source.answer(request("/parcels/1?year=1"))
    assert isinstance(failed.value, UnusableAnswerError) is at_work


async def test_an_answer_is_read_in_the_encoding_that_came_with_it() -> None:
    service = Service(headers={"content-type": 'text/xml; charset="GBK"'}, body=PARCEL.decode().encode("gbk"))
    async with running(service, FOUND) as source:
        assert told(await source.answer(request("/parcels/1?year=1")))["number"] == "地"


async def test_a_large_answer_is_read_and_a_larger_one_refused() -> None:
    service = Service(body=PARCEL.replace("地".encode(), b"x" * (2 * LARGE)))
    async with running(service, FOUND) as source:
        assert len(told(await source.answer(request("/parcels/1?year=1")))["number"]) == 2 * LARGE
    async with running(service, {**FOUND, "max_envelope": LARGE}) as source:
        with pytest.raises(PayloadTooLargeError):
            await source.answer(request("/parcels/1?year=1"))


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with running(Service(body=PARCEL), FOUND) as source:
        assert (await source.answer(request("/parcels/1?year=1"))).status == 200


@pytest.mark.parametrize("kind", ["text", "digest"])
async def test_a_password_goes_into_the_header_and_nowhere_else(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAND_PASSWORD", "p<&>w")
    service = Service(body=PARCEL)
    keys = {**FOUND, "username": "gate", "password": "${LAND_PASSWORD}", "password_type": kind}
    async with running(service, keys) as source:
        await source.answer(request("/parcels/1?year=1"))
        await source.answer(request("/parcels/1?year=1"))
    assert "p<&>w" not in repr(SoapService.model_validate({"source": "soap", **keys}))
    assert service.bodies[0] != service.bodies[1] or kind == "text"
    token = {each.tag.rpartition("}")[2]: each for each in ElementTree.fromstring(service.bodies[0]).iter()}
    assert token["Username"].text == "gate"
    if kind == "text":
        assert token["Password"].text == "p<&>w"
    else:
        nonce, created = base64.b64decode(token["Nonce"].text or ""), (token["Created"].text or "").encode()
        assert token["Password"].text == base64.b64encode(hashlib.sha1(nonce + created + b"p<&>w").digest()).decode()
    assert "p<" not in repr(UsernameToken(username="u", password="p<&>w"))


def test_the_digest_is_that_of_the_profile() -> None:
    token = UsernameToken(username="u", password="secret", kind="digest")
    header = token.header(datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), b"0123456789abcdef")
    expected = hashlib.sha1(b"0123456789abcdef2024-01-02T03:04:05Zsecret").digest()
    assert base64.b64encode(expected).decode() in header


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        (SoapOperation(path="/a", soap="Nothing"), "it has: Find"),
        (SoapOperation(path="/a/{b}", soap="Find"), "no member 'b'"),
        (SoapOperation(path="/a/{b", soap="Find"), "brace"),
        (SoapOperation(path="/a/{number}/{number}", soap="Find"), "twice"),
        (SoapOperation(path="/a", soap="Find", parameters={"x": "number.y"}), "no member 'number.y'"),
        (SoapOperation(path="/a", soap="Find", parameters={"x-y": "number"}), "must be A-Z"),
        (SoapOperation(path="/a", soap="Find", fixed={"year": "x"}), "is no whole number"),
        (SoapOperation(path="/a/{year}", soap="Find", fixed={"year": "1"}), "fixed and a parameter"),
        (SoapOperation(path="/a", soap="Find", result="nothing"), "no member 'nothing'"),
        (SoapOperation(path="/a", soap="Find", result="found.number.x"), "no member"),
    ],
)
def test_a_declaration_that_does_not_fit_the_wsdl_is_refused(declared: SoapOperation, problem: str) -> None:
    with pytest.raises(SchemaError, match=problem):
        bind(load_wsdl(FOLDER / "rpc.wsdl"), declared)


def test_a_get_must_be_able_to_ask() -> None:
    with pytest.raises(SchemaError, match="requires 'thing'"):
        bind(load_wsdl(FOLDER / "everything.wsdl"), SoapOperation(path="/a", soap="Keep", method="GET"))


ADAPTER = """
[adapter]
name = "land"
subsystem = "CN/GOV/11997001DT0000078P/land"
[bus]
url = "tls://127.0.0.1:4222"
certificate = "a"
key = "a"
trust_anchors = "a"
gateways = "a"
[services.parcels]
source = "soap"
wsdl = "wsdl/rpc.wsdl"
allow_addresses = ["127.0.0.1"]
[services.parcels.faults]
NoSuchParcel = 404
[[services.parcels.operations]]
path = "/parcels/{number}"
soap = "Find"
method = "GET"
result = "found"
"""


def adapter(folder: Path, old: str = "", new: str = "") -> Path:
    (folder / "wsdl").mkdir()
    (folder / "wsdl/rpc.wsdl").write_bytes((FOLDER / "rpc.wsdl").read_bytes())
    assert old in ADAPTER
    (folder / "adapter.toml").write_text(ADAPTER.replace(old, new) if old else ADAPTER)
    return folder / "adapter.toml"


def test_it_is_declared_in_adapter_toml(tmp_path: Path) -> None:
    section = read_contract(adapter(tmp_path)).services["parcels"]
    assert isinstance(section, SoapService)
    assert section.wsdl == tmp_path / "wsdl/rpc.wsdl"
    section.make_source(max_answer=1)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('wsdl = "wsdl/rpc.wsdl"', 'wsdl = "wsdl/none.wsdl"', "none.wsdl: No such file"),
        ('soap = "Find"', 'soap = "Found"', "no operation 'Found'; it has: Find"),
        ('allow_addresses = ["127.0.0.1"]', "", "allow_addresses"),
        ('allow_addresses = ["127.0.0.1"]', 'port = "x"', "no port 'x'"),
        ('allow_addresses = ["127.0.0.1"]', 'address = "ftp://a/b"', "base URL"),
        ("NoSuchParcel = 404", "NoSuchParcel = 200", "faults.NoSuchParcel"),
        ('allow_addresses = ["127.0.0.1"]', 'username = "u"', "username and password go together"),
        ('allow_addresses = ["127.0.0.1"]', 'username = "u"\npassword = "clear-text"', "no secret stands in the file"),
        ('allow_addresses = ["127.0.0.1"]', 'password = "${NOT_SET}"', "NOT_SET is not set"),
        ('method = "GET"', 'method = "PUT"', "operations[0].method"),
        ('path = "/parcels/{number}"', 'path = "parcels"', "operations[0].path"),
    ],
)
def test_what_is_wrong_with_the_declaration_is_told(tmp_path: Path, old: str, new: str, problem: str) -> None:
    with pytest.raises(ContractError) as wrong:
        read_contract(adapter(tmp_path, old, new)).services["parcels"].make_source(max_answer=1)
    assert problem in str(wrong.value)
    assert "clear-text" not in str(wrong.value)


@pytest.fixture(scope="module", params=["1.1", "1.2"])
def spyne(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The WSDL of a running service that is written with spyne."""
    require_or_skip((FOREIGN / "spyne").is_dir(), "spyne (make setup)")
    program = Path(__file__).parents[1] / "foreign/spyne_service.py"
    environment = os.environ | {"PYTHONPATH": str(FOREIGN)}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", program, request.param], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{process.stdout.readline().strip()}/?wsdl"
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            path = tmp_path_factory.mktemp("spyne") / "land.wsdl"
            with opener.open(url, timeout=10) as answer:
                path.write_bytes(answer.read())
            yield path
        finally:
            process.terminate()


async def test_a_service_that_others_wrote_is_asked_by_the_wsdl_that_it_tells(spyne: Path) -> None:
    keys = {
        "source": "soap",
        "wsdl": spyne,
        "allow_addresses": ["127.0.0.1"],
        "faults": {"Client.NoSuchParcel": 404, "NoSuchParcel": 404},
        "operations": [
            {"path": "/parcels/{number}", "soap": "get_parcel", "method": "GET", "result": "get_parcelResult"},
            {"path": "/parcels", "soap": "keep"},
            {"path": "/count/{to}", "soap": "count", "method": "GET", "result": "countResult.string"},
        ],
    }
    source = SoapService.model_validate(keys).make_source(max_answer=1 << 20)
    await source.start()
    try:
        parcel = told(await source.answer(request("/parcels/320102?year=2024")))
        assert parcel == {
            "number": "320102",
            "area": "120.50",
            "registered": "2020-02-29",
            "changed": "2024-01-02T03:04:05",
            "mortgaged": True,
            "map": "AP8=",
            "owners": {"Owner": [{"name": "例甲", "share": "0.5"}, {"name": "<乙> & 丙"}]},
        }
        assert told(await source.answer(request("/parcels", {"parcel": parcel}))) == {"keepResult": parcel}
        assert told(await source.answer(request("/count/3"))) == ["0", "1", "2"]
        missing = await source.answer(request("/parcels/none"))
        assert missing.status == 404
        assert "person" not in missing.body.decode()
        with pytest.raises(BackendError):
            await source.answer(request("/parcels/broken"))
    finally:
        await source.stop()
