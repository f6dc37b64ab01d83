"""What X-Road's REST proxy suite checks, restated, with the mesh's own status codes; and its request hash."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
from typing import Any

import pytest

from deploy.trial_mesh import CALLER, ECHO, PROVIDER
from exchange import ServiceId, to_wire
from tests.gateway.conftest import ODD
from tests.gateway.echo_backend import Received, answer
from tests.gateway.exchange_mesh import Mesh, head, service, target, xml_error

pytestmark = pytest.mark.asyncio(loop_scope="module")

UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def request_hash(path: str, received: Received) -> str:
    """X-Road's formula, from what the provider received: base64 of SHA-512 over head, and over head's and body's."""
    start = f"{received.method}\r\n{path}\r\n".encode()
    digest = hashlib.sha512(start + b"".join(b"%b:%b\r\n" % pair for pair in received.forwarded())).digest()
    if received.body:
        digest = hashlib.sha512(digest + hashlib.sha512(received.body).digest()).digest()
    return base64.b64encode(digest).decode()


async def test_a_request_with_only_x_road_client_gets_x_roads_response_headers(mesh: Mesh) -> None:
    """The purpose is implied, the message id is made by the gateway."""
    reply = await mesh.ask("GET", "/hello")
    assert reply.status == 200
    headers = reply.response.headers
    assert headers["x-road-client"] == CALLER
    assert headers["x-road-service"] == to_wire(ECHO) == ECHO
    assert re.fullmatch(UUID7, headers["x-road-request-id"])
    assert headers["x-road-id"] == f"CN-{headers['x-road-request-id']}"
    assert "x-road-error" not in headers
    assert headers["datong-receipt"] == f"{mesh.url}/v1/exchanges/{headers['x-road-request-id']}/receipt"
    assert mesh.backend.last.values("x-road-id") == [headers["x-road-id"].encode()]
    assert (reply.record["outcome"], reply.query["purpose"], reply.query["message_id"]) == (
        "answered",
        "trial",
        headers["x-road-id"],
    )


async def test_a_post_is_echoed_with_its_length_and_content_type(mesh: Mesh) -> None:
    body = '{"姓名":"测试"}'.encode()
    reply = await mesh.ask("POST", "/echo", content=body, headers={"Content-Type": "application/json;charset=utf-8"})
    assert (reply.status, reply.response.content) == (200, body)
    assert reply.response.headers["content-type"] == "application/json;charset=utf-8"
    assert reply.response.headers["content-length"] == str(len(body))
    assert mesh.backend.last.values("content-length") == [str(len(body)).encode()]
    assert mesh.backend.last.body == body
    assert reply.query["request_size"] == reply.record["answer"]["body_size"] == len(body)


async def test_the_message_id_is_kept_both_ways(mesh: Mesh) -> None:
    reply = await mesh.ask(headers={"X-Road-Id": "EE-some:id/with.signs=1"})
    assert reply.response.headers.get_list("x-road-id") == ["EE-some:id/with.signs=1"]
    assert mesh.backend.last.values("x-road-id") == [b"EE-some:id/with.signs=1"]
    assert reply.query["message_id"] == "EE-some:id/with.signs=1"


async def test_an_empty_message_id_counts_as_none(mesh: Mesh) -> None:
    reply = await mesh.ask(headers={"X-Road-Id": ""})
    assert reply.response.headers.get_list("x-road-id") == [f"CN-{reply.record['id']}"]
    assert mesh.backend.last.values("x-road-id") == [f"CN-{reply.record['id']}".encode()]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/a/b", None), ("GET", "/q?a=1&b=%20", None), ("POST", "", b"body"), ("PUT", "/%E4%BA%AC", b"\x00\xff")],
)
async def test_the_request_hash_follows_the_formula_and_differs_between_two_calls(
    mesh: Mesh, method: str, path: str, body: bytes | None
) -> None:
    """Two calls with the same X-Road-Id differ, because the request id is part of what is hashed."""
    hashes = []
    for _ in range(2):
        more = {"X-Road-Id": "the-same", "X-Custom": "v", "Accept-Language": "zh"}
        reply = await mesh.ask(method, path, content=body, headers=more)
        hashes.append(reply.response.headers["x-road-request-hash"])
        received = mesh.backend.last
        assert received.values("x-road-request-id") == [reply.response.headers["x-road-request-id"].encode()]
        assert hashes[-1] == request_hash(target("echo", path), received)
    assert hashes[0] != hashes[1]


async def test_the_hash_is_over_the_path_as_the_caller_wrote_it(mesh: Mesh) -> None:
    """A caller must be able to compute it without knowing how the mesh spells a path."""
    reply = await mesh.ask("GET", "/%61%2d%e4%ba%ac")
    assert mesh.backend.last.target == "/a-%E4%BA%AC"
    assert reply.response.headers["x-road-request-hash"] == request_hash(
        target("echo", "/%61%2d%e4%ba%ac"), mesh.backend.last
    )


async def test_a_caller_cannot_set_request_id_and_hash(mesh: Mesh) -> None:
    forged = {"X-Road-Request-Id": "forged", "X-Road-Request-Hash": "forged"}
    reply = await mesh.ask(headers=forged)
    assert reply.response.headers.get_list("x-road-request-id") == [reply.record["id"]]
    assert mesh.backend.last.values("x-road-request-id") == [reply.record["id"].encode()]
    assert not mesh.backend.last.has("x-road-request-hash")
    assert reply.response.headers["x-road-request-hash"] == request_hash(target("echo"), mesh.backend.last)


async def test_exactly_one_date_is_delivered(mesh: Mesh) -> None:
    with_its_own = await mesh.ask("POST", "/date", content=b"x")
    assert with_its_own.response.headers.get_list("date") == ["Thu, 01 Jan 2026 00:00:00 GMT"]
    with mesh.answering("/dateless", answer(200, body=b"x")):
        without = await mesh.ask("GET", "/dateless")
    (date,) = without.response.headers.get_list("date")
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)


async def test_identifiers_may_be_percent_encoded(mesh: Mesh) -> None:
    encoded = "/".join("".join(f"%{byte:02x}" for byte in part.encode()) for part in CALLER.split("/"))
    provider = PROVIDER.replace("CN", "%43N").replace("trial", "tr%69al")
    reply = await mesh.ask("GET", "/x", to=f"{provider}/ech%6F", client=encoded)
    assert reply.status == 200
    assert reply.response.headers["x-road-client"] == encoded, "as the caller wrote it"
    assert reply.response.headers["x-road-service"] == ECHO
    assert (reply.query["client"], reply.query["service"]) == (CALLER, ECHO)


async def test_a_service_code_may_hold_every_character_of_the_alphabet(mesh: Mesh) -> None:
    section = f'[services."{ODD}"]'
    contract = mesh.trial.http_contract(mesh.backend.url).replace("[services.echo]", section)
    await mesh.trial.add_adapter("odd", contract)
    reply = await mesh.ask("GET", "/x", to=ServiceId(to_wire(service(ODD))))
    assert (reply.status, reply.query["service"]) == (200, service(ODD))
    assert reply.response.headers["x-road-service"] == to_wire(service(ODD))


@pytest.mark.parametrize(("path", "forwarded"), [("", "/"), ("/", "/"), ("?a=b", "/?a=b"), ("/?a=b", "/?a=b")])
async def test_the_path_may_be_empty(mesh: Mesh, path: str, forwarded: str) -> None:
    reply = await mesh.ask("GET", path)
    assert reply.status == 200
    assert mesh.backend.last.target == forwarded


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_thirteen_megabytes_of_binary_pass_both_ways(mesh: Mesh, chunked: bool) -> None:
    body = os.urandom(13 << 20)

    async def pieces() -> Any:
        for start in range(0, len(body), 1_000_000):
            yield body[start : start + 1_000_000]

    reply = await mesh.ask("POST", "/large", content=pieces() if chunked else body)
    assert reply.status == 200
    assert mesh.backend.last.body == body
    assert mesh.backend.last.values("content-length") == [str(len(body)).encode()]
    assert reply.response.content == body
    assert reply.query["request_size"] == reply.record["answer"]["body_size"] == len(body)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_passed_on_and_not_followed(mesh: Mesh, status: int) -> None:
    location = f"{mesh.backend.url}/elsewhere"
    with mesh.answering("/moved", answer(status, (b"Location", location.encode()), body=b"over there")):
        reply = await mesh.ask("GET", "/moved")
    assert (reply.status, reply.response.headers["location"]) == (status, location)
    assert reply.response.content == b"over there"
    assert "x-road-error" not in reply.response.headers
    assert not mesh.backend.seen("/elsewhere")


async def test_a_method_that_is_not_granted_is_refused(mesh: Mesh) -> None:
    granted = await mesh.ask("GET", "/records/7", to="records")
    assert granted.status == 200
    refused = await mesh.ask("PATCH", "/records/7", to="records", content=b"{}")
    problem = mesh.problem(refused, 403, "grant-method-path")
    assert "PATCH /records/7" in problem["detail"]
    assert refused.response.headers["x-road-error"] == "server.serverproxy.access_denied"
    assert mesh.backend.last.method == "GET", "the provider was not asked"


async def test_without_x_road_client_the_request_is_refused(mesh: Mesh) -> None:
    reply = await mesh.ask(client=None)
    mesh.problem(reply, 400, "client-header")
    assert reply.response.headers["x-road-error"] == "server.clientproxy.invalid_client_identifier"


@pytest.mark.parametrize("path", ["/r1/", "/r1/CN", "/r1/CN/GOV/1/sub", "/r1/a%/b/c/d/e", "/r1/CN/GOV/%00/sub/service"])
async def test_a_malformed_uri_is_refused(mesh: Mesh, path: str) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head("GET", path))
        response = await caller.answer()
    assert records[0]["rule"].startswith("path-")
    mesh.told(response, 400, records[0]["rule"], exchange_id=records[0]["id"])


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/problem+json"),
        ("application/xml", "application/xml;charset=utf-8"),
        ("text/xml", "text/xml;charset=utf-8"),
        ("text/*", "text/xml;charset=utf-8"),
        ("*/*", "application/problem+json"),
        ("application/json", "application/problem+json"),
        ("application/json;q=0.1, application/xml;q=0.9", "application/problem+json"),
        ("application/xml;q=0.1, application/json;q=0.9", "application/xml;charset=utf-8"),
        ("image/png, text/xml;q=0.5", "text/xml;charset=utf-8"),
    ],
)
async def test_an_error_has_the_form_that_accept_asks_for(mesh: Mesh, accept: str | None, content_type: str) -> None:
    lines = [f"Accept: {accept}"] if accept else []
    async with mesh.one_record() as records, mesh.connect("stranger") as caller:
        await caller.send(head("GET", target("echo"), *lines))
        response = await caller.answer()
    assert response.status_code == 403
    assert response.headers["content-type"] == content_type
    if "xml" in content_type:
        error = xml_error(response)
        assert error["type"] == response.headers["x-road-error"]
        assert error["detail"] == records[0]["id"]
        mesh.keeps_our_secrets(response)
    else:
        mesh.told(response, 403, records[0]["rule"], exchange_id=records[0]["id"])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 418, 429, 500, 502, 503])
async def test_the_providers_own_errors_pass_without_x_road_error(mesh: Mesh, status: int) -> None:
    """Its absence is how a client knows that the provider, not the mesh, said no."""
    own = answer(status, (b"Content-Type", b"text/plain"), (b"X-Road-Error", b"pretended"), body=b"no")
    with mesh.answering("/fails", own):
        reply = await mesh.ask("POST", "/fails", content=b"x")
    assert (reply.status, reply.response.content) == (status, b"no")
    assert reply.response.headers["content-type"] == "text/plain"
    assert "x-road-error" not in reply.response.headers
    assert (reply.record["outcome"], reply.record["rule"], reply.record["source"]) == ("answered", "", "")


async def test_the_providers_own_mesh_headers_are_dropped_and_its_others_kept(mesh: Mesh) -> None:
    pretended = [
        (name, b"pretended")
        for name in (
            b"X-Road-Id", b"X-Road-Client", b"X-Road-Service", b"X-Road-Request-Id", b"X-Road-Request-Hash",
            b"X-Road-Error", b"Datong-Receipt",
        )
    ]  # fmt: skip
    kept = [(b"X-Road-Custom", b"kept"), (b"X-Other", b"kept"), (b"ETag", b'"1"'), (b"WWW-Authenticate", b"Basic")]
    with mesh.answering("/pretends", answer(200, *pretended, *kept)):
        reply = await mesh.ask("GET", "/pretends", headers={"X-Road-Id": "mine"})
    headers = reply.response.headers
    assert "pretended" not in repr(headers)
    assert headers["x-road-id"] == "mine"
    for name, value in kept:
        assert headers[name.decode()] == value.decode()


async def test_the_callers_other_headers_are_forwarded_in_order(mesh: Mesh) -> None:
    sent = [
        ("X-Road-Issue", "2026-4711"),
        ("X-Road-UserId", "CN-990000"),
        ("X-Road-Represented-Party", "GOV/11990000000000000X"),
        ("X-Road-Security-Server", "CN/GOV/1/server"),
        ("X-Road-Custom", "one"),
        ("X-Custom", "two"),
        ("Authorization", "Bearer of-the-department"),
        ("Cookie", "a=b"),
        ("Datong-Purpose", "trial"),
        ("Idempotency-Key", "k"),
        ("X-Custom", "three"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    reply = await mesh.ask(headers=sent)
    names = {name.lower() for name, _ in sent}
    received = [
        (name.decode().lower(), value.decode())
        for name, value in mesh.backend.last.headers
        if name.decode().lower() in names
    ]
    assert received == [(name.lower(), value) for name, value in sent]
    query = reply.query
    assert (query["case"], query["user"], query["represented"]) == ("2026-4711", "CN-990000", "GOV/11990000000000000X")


HOP_BY_HOP = (
    "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer", "Upgrade", "User-Agent", "Server",
    "Client-Cert", "Client-Cert-Chain", "Datong-Subject",
)  # fmt: skip


async def test_headers_of_one_hop_are_not_forwarded(mesh: Mesh) -> None:
    lines = [f"{name}: of-one-hop" for name in HOP_BY_HOP]
    async with mesh.one_record() as (records), mesh.connect() as caller:
        await caller.send(head("GET", target("echo", "/hop"), *lines, "X-Last: kept"))
        response = await caller.answer()
    assert response.status_code == 200
    assert records[0]["outcome"] == "answered"
    assert b"of-one-hop" not in [value for _, value in mesh.backend.last.headers]
    assert mesh.backend.last.values("x-last") == [b"kept"]
    assert mesh.backend.last.values("host") == [f"127.0.0.1:{mesh.backend.port}".encode()]


async def test_headers_named_in_connection_are_not_forwarded(mesh: Mesh) -> None:
    more = [
        ("Connection", "keep-alive, X-Secret-Hop , x-another"),
        ("X-Secret-Hop", "s"),
        ("X-Another", "s"),
        ("X-Third", "t"),
    ]
    reply = await mesh.ask(headers=more)
    assert reply.status == 200
    received = mesh.backend.last
    assert not received.has("x-secret-hop")
    assert not received.has("x-another")
    assert received.values("x-third") == [b"t"]
    assert reply.response.headers["x-road-request-hash"] == request_hash(target("echo"), received)


async def test_connection_cannot_take_away_what_the_mesh_reads(mesh: Mesh) -> None:
    """A header that stands on the record is forwarded too, whatever Connection names."""
    reply = await mesh.ask(headers={"Connection": "x-road-client, X-Road-UserId", "X-Road-UserId": "u"})
    assert reply.query["user"] == "u"
    assert mesh.backend.last.values("x-road-userid") == [b"u"]
    assert mesh.backend.last.values("x-road-client") == [CALLER.encode()]


async def test_the_providers_headers_of_one_hop_stay_behind(mesh: Mesh) -> None:
    raw = (
        b"HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nTrailer: X\r\n"
        b"User-Agent: what\r\nTransfer-Encoding: chunked\r\nX-Kept: yes\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    with mesh.answering("/hop", raw):
        reply = await mesh.ask("GET", "/hop")
    headers = reply.response.headers
    assert (reply.response.content, headers["content-length"], headers["x-kept"]) == (b"abcde", "5", "yes")
    for name in ("server", "keep-alive", "proxy-authenticate", "trailer", "user-agent", "transfer-encoding"):
        assert name not in headers


@pytest.mark.parametrize("method", ["OPTIONS", "DELETE", "PUT", "PATCH", "TRACE"])
async def test_every_method_passes(mesh: Mesh, method: str) -> None:
    body = None if method in ("OPTIONS", "TRACE") else b"body"
    reply = await mesh.ask(method, "/m", to="choosy", content=body, headers={"Datong-Purpose": "audit"})
    assert reply.status == 200
    assert mesh.backend.last.method == reply.query["method"] == method
    assert reply.query["safe"] == (method in ("OPTIONS", "TRACE"))


async def test_head_is_answered_without_a_body_and_the_connection_goes_on(mesh: Mesh) -> None:
    async with mesh.one_record(3) as records, mesh.connect() as caller:
        await caller.send(head("HEAD", target("echo", "/h")))
        response = await caller.answer(head_only=True)
        assert (response.status_code, mesh.backend.last.method) == (200, "HEAD")
        assert response.headers["content-type"] == "application/octet-stream"
        await caller.send(head("HEAD", target("ungranted", "/h")))
        refused = await caller.answer(head_only=True)
        assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
        await caller.send(head("GET", target("echo", "/after")))
        assert (await caller.answer()).status_code == 200
    assert [record["status"] for record in records] == [200, 403, 200]


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_has_no_body_has_no_length(mesh: Mesh, status: int) -> None:
    async with mesh.one_record(2), mesh.connect() as caller:
        with mesh.answering("/none", answer(status, (b"ETag", b'"1"'))):
            await caller.send(head("GET", target("echo", "/none")))
            response = await caller.answer()
        assert (response.status_code, response.headers["etag"]) == (status, '"1"')
        assert "content-length" not in response.headers
        await caller.send(head("GET", target("echo", "/after")))
        assert (await caller.answer()).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_empty_body_stays_empty(mesh: Mesh, method: str) -> None:
    with mesh.answering("/empty", answer(200)):
        reply = await mesh.ask(method, "/empty", content=b"")
    assert (reply.status, reply.response.content) == (200, b"")
    assert reply.response.headers["content-length"] == "0"
    assert mesh.backend.last.body == b""
    assert reply.query["request_size"] == 0


async def test_expect_100_continue_is_answered_before_the_body_is_sent(mesh: Mesh) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head("POST", target("echo", "/expect"), "Expect: 100-continue", "Content-Length: 4"))
        assert (await caller.answer()).status_code == 100
        await caller.send(b"body")
        response = await caller.answer()
    assert (response.status_code, response.content) == (200, b"body")
    assert not mesh.backend.last.has("expect")
    assert records[0]["outcome"] == "answered"


async def test_a_refused_request_is_not_told_to_continue(mesh: Mesh) -> None:
    async with mesh.one_record() as records, mesh.connect("stranger") as caller:
        await caller.send(head("POST", target("echo"), "Expect: 100-continue", "Content-Length: 4"))
        response = await caller.answer()
    assert response.status_code == 403
    assert records[0]["outcome"] == "refused"


@pytest.mark.parametrize(
    "query",
    ["", "a=1&a=2", "a=%E4%BA%AC&b=%2F..%2F", "a=%2525", "x[]=1&y={z}|", "a==&&=", "/../?x", "a=b?c", "plus=a+b"],
)
async def test_the_query_string_is_forwarded_untouched(mesh: Mesh, query: str) -> None:
    async with mesh.one_record(), mesh.connect() as caller:
        await caller.send(head("GET", target("echo", f"/q?{query}")))
        response = await caller.answer()
    assert response.status_code == 200
    assert mesh.backend.last.target == (f"/q?{query}" if query else "/q")


async def test_compressed_bodies_pass_untouched_both_ways(mesh: Mesh) -> None:
    body = gzip.compress(b"a" * 1000)
    zipped = answer(200, (b"Content-Encoding", b"gzip"), body=body)
    async with mesh.one_record(), mesh.connect() as caller:
        with mesh.answering("/zip", zipped):
            lines = ("Content-Encoding: gzip", f"Content-Length: {len(body)}", "Accept-Encoding: gzip;q=1, br;q=0")
            await caller.send(head("POST", target("echo", "/zip"), *lines) + body)
            response = await caller.answer()
    assert (response.headers["content-encoding"], response._content) == ("gzip", body)
    received = mesh.backend.last
    assert (received.values("content-encoding"), received.body) == ([b"gzip"], body)
    assert received.values("accept-encoding") == [b"gzip;q=1, br;q=0"]


async def test_nothing_is_added_that_the_caller_did_not_ask_for(mesh: Mesh) -> None:
    """No Accept-Encoding and no Accept of ours: the provider answers what the caller can read."""
    async with mesh.one_record(), mesh.connect() as caller:
        await caller.send(head("GET", target("echo", "/bare")))
        assert (await caller.answer()).status_code == 200
    names = {name.decode().lower() for name, _ in mesh.backend.last.headers}
    assert names == {"host", "x-road-client", "x-road-id", "x-road-request-id"}


async def test_repeated_headers_are_kept_both_ways(mesh: Mesh) -> None:
    cookies = answer(200, (b"Set-Cookie", b"a=1"), (b"X-Between", b"-"), (b"Set-Cookie", b"b=2"))
    with mesh.answering("/cookies", cookies):
        reply = await mesh.ask("GET", "/cookies", headers=[("X-Twice", "1"), ("X-Twice", "2")])
    assert reply.response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert mesh.backend.last.values("x-twice") == [b"1", b"2"]


async def test_cookies_of_one_caller_are_not_kept_for_another(mesh: Mesh) -> None:
    with mesh.answering("/login", answer(200, (b"Set-Cookie", b"session=of-the-first; Path=/"))):
        await mesh.ask("GET", "/login")
    async with mesh.one_record(), mesh.connect() as caller:
        await caller.send(head("GET", target("echo", "/next")))
        await caller.answer()
    assert not mesh.backend.last.has("cookie")


async def test_of_a_repeated_x_road_header_the_last_counts_and_only_that_is_forwarded(mesh: Mesh) -> None:
    """Otherwise the department might read another client or official than the one that stands on the record."""
    more = [("X-Road-Client", CALLER), ("X-Road-UserId", "pretended"), ("X-Road-UserId", "real"), ("X-Road-Id", "1")]
    reply = await mesh.ask(client=PROVIDER, headers=[*more, ("X-Road-Id", "2")])
    assert (reply.status, reply.query["client"], reply.query["user"]) == (200, CALLER, "real")
    assert reply.response.headers.get_list("x-road-client") == [CALLER]
    assert reply.response.headers.get_list("x-road-id") == ["2"]
    received = mesh.backend.last
    for name, value in (("x-road-client", CALLER), ("x-road-userid", "real"), ("x-road-id", "2")):
        assert received.values(name) == [value.encode()]
    assert reply.response.headers["x-road-request-hash"] == request_hash(target("echo"), received)


async def test_a_header_that_some_systems_would_take_for_the_meshs_is_not_forwarded(mesh: Mesh) -> None:
    """WSGI, CGI and others read `_` as `-`."""
    names = ("X_Road_Client", "X-Road_UserId", "x_road-request_id", "Datong_Purpose", "Client_Cert", "X_Custom")
    reply = await mesh.ask(headers=[(name, "pretended") for name in names])
    assert reply.status == 200
    pretended = [name for name, value in mesh.backend.last.headers if value == b"pretended"]
    assert pretended == [b"x_custom"]


async def test_lists_may_come_in_several_lines(mesh: Mesh) -> None:
    lines = ("Connection: X-One", "Accept: image/png", "X-One: 1", "X-Two: 2", "Connection: X-Two", "Accept: text/xml")
    async with mesh.one_record(2), mesh.connect() as caller:
        await caller.send(head("GET", target("echo", "/lists"), *lines) + head("GET", target("ungranted"), *lines))
        assert (await caller.answer()).status_code == 200
        assert xml_error(await caller.answer())["type"] == "server.serverproxy.access_denied"
    received = mesh.backend.last
    assert (received.has("x-one"), received.has("x-two")) == (False, False)
    assert received.values("accept") == [b"image/png", b"text/xml"]


async def test_pipelined_requests_are_answered_in_order(mesh: Mesh) -> None:
    """The first takes longest; refusals, bodies and empty answers keep their places among the others."""
    gate = mesh.backend.hold("/first")
    async with mesh.one_record(5) as records, mesh.connect() as caller:
        await caller.send(
            head("GET", target("echo", "/first"), "X-Road-Id: 1")
            + head("POST", target("echo", "/second"), "X-Road-Id: 2", "Content-Length: 3")
            + b"two"
            + head("GET", target("ungranted"), "X-Road-Id: 3")
            + head("DELETE", target("echo", "/fourth"), "X-Road-Id: 4")
            + head("GET", target("echo", "/fifth"), "X-Road-Id: 5")
        )
        gate.set()
        responses = [await caller.answer() for _ in range(5)]
    assert [response.status_code for response in responses] == [200, 200, 403, 200, 200]
    assert [response.headers.get("x-road-id") for response in responses] == ["1", "2", None, "4", "5"]
    assert responses[1].content == b"two"
    assert [record["query"]["message_id"] for record in records] == ["1", "2", "3", "4", "5"]
    assert [record["id"] for record in records] == [response.headers["x-road-request-id"] for response in responses]


async def test_the_path_itself_is_not_on_the_record(mesh: Mesh) -> None:
    """A path may name a person; the record holds the declared template, and digests nobody can guess from."""
    person = "990100199001010017"
    path = f"/records/{person}?name=secret-name"
    reply = await mesh.ask("GET", path, to="records", headers={"Datong-Subject": f"x{person}"})
    assert reply.query["path_template"] == "/records/{number}"
    assert person not in repr(reply.record)
    assert "secret-name" not in repr(reply.record)
    assert re.fullmatch(r"[0-9a-f]{64}", reply.query["subject"])
    again = await mesh.ask("GET", "/records/1", to="records", headers=[(b"datong-subject", f"\uff38{person}".encode())])
    assert again.query["subject"] == reply.query["subject"], "the same person, however typed"
    assert not mesh.backend.last.has("datong-subject")
    assert reply.query["service"] == service("records")
