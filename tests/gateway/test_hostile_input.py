"""Callers and backends that mean harm: nothing they send is executed, trusted, carried elsewhere or left unrecorded."""

from __future__ import annotations

import asyncio

import pytest

from deploy.trial_mesh import CALLER, PROVIDER
from tests.gateway.echo_backend import answer
from tests.gateway.exchange_mesh import Mesh, head, target

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The path


DOTS = [
    "..",
    ".",
    "%2e%2e",
    "%2E.",
    ".%2E",
    "..%2f",
    "..%2F..%2f",
    "%2f",
    "..;",
    "..;x=1",
    ".%00",
    "..%5c",
    "%5c..%5c",
    "%0d%0a",
]
BROKEN = ["%c0%ae%c0%ae", "%c0%af", "%e0%80%ae", "%ff", "%", "%zz", "%u002e%u002e"]


@pytest.mark.parametrize("segment", DOTS + BROKEN)
async def test_a_path_that_could_mean_another_is_refused_and_goes_nowhere(mesh: Mesh, segment: str) -> None:
    """Also under a grant for everything: whether `**` covers it is not asked."""
    before = len(mesh.backend.received)
    for request_target in (target("echo", f"/{segment}"), target("records", f"/records/{segment}/../1")):
        async with mesh.one_record() as records, mesh.connect() as caller:
            await caller.send(head("GET", request_target))
            response = await caller.answer()
        (record,) = records
        assert record["rule"] in ("path-dot-segment", "path-character", "path-encoding")
        mesh.told(response, 400, record["rule"], exchange_id=record["id"])
        assert record["outcome"] == "refused"
    assert len(mesh.backend.received) == before


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [
        ("/%252e%252e/%252e", "/%252e%252e/%252e"),
        ("/a%252fb", "/a%252fb"),
        ("/%25c0%25ae", "/%25c0%25ae"),
        ("/...", "/..."),
    ],
)
async def test_what_is_encoded_twice_stays_literal(mesh: Mesh, path: str, forwarded: str) -> None:
    reply = await mesh.ask("GET", path)
    assert (reply.status, mesh.backend.last.target) == (200, forwarded)


@pytest.mark.parametrize(
    "request_target",
    [
        pytest.param("/r1/CN/GOV/*/trial/echo", id="star-as-member"),
        pytest.param(f"/r1/{PROVIDER}/*", id="star-as-service"),
        pytest.param(f"/r1/{PROVIDER}/%3E", id="greater-than-as-service"),
        pytest.param("/r1/%3E/%3E/%3E/%3E/%3E", id="greater-than-everywhere"),
        pytest.param(f"/r1/{PROVIDER}/$SYS", id="system-subject"),
        pytest.param(f"/r1/{PROVIDER}/echo%20x", id="space-in-service"),
        pytest.param(f"/r1/{PROVIDER}/echo%0D%0APUB%20dt.q.x%200", id="nats-protocol-in-service"),
        pytest.param(f"/r1/{PROVIDER}/{'e' * 5000}", id="five-kilobytes-as-service"),
        pytest.param(f"/r1/CN/GOV/{'9' * 5000}/trial/echo", id="five-kilobytes-as-member"),
        pytest.param(f"/r1/CN/GOV/{'%41' * 1700}/trial/echo", id="five-kilobytes-encoded"),
    ],
)
async def test_what_would_be_a_wildcard_on_the_bus_is_no_identifier(mesh: Mesh, request_target: str) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head("GET", request_target))
        response = await caller.answer()
    mesh.told(response, 400, "path-identifier", exchange_id=records[0]["id"])
    assert records[0]["query"]["service"] == ""
    assert (await mesh.ask()).status == 200, "the bus is still there"


@pytest.mark.parametrize(
    ("path", "seen"), [("/*/%3E", "/*/%3E"), (f"/{'x' * 5000}", f"/{'x' * 5000}"), ("/dt.q.%3E", "/dt.q.%3E")]
)
async def test_in_the_rest_of_the_path_wildcards_and_length_mean_nothing(mesh: Mesh, path: str, seen: str) -> None:
    reply = await mesh.ask("GET", path)
    assert (reply.status, mesh.backend.last.target) == (200, seen)


@pytest.mark.parametrize(
    "client",
    [
        "", "*", ">", "CN", "CN/GOV/1", f"{CALLER}/more", f"{CALLER}/", f"/{CALLER}", CALLER.replace("/", "%2F"),
        "CN/GOV/*/>", "CN/GOV/../caller", "CN/GOV/%2e%2e/caller", f"{CALLER}%", f"{CALLER}%00",
        f"{CALLER}%0d%0aX-Evil:%201", f"CN/GOV/{'9' * 5000}/caller", "CN/GOV/税务/caller", "CN/GOV/%E7%A8%8E/caller",
        f"{CALLER},{CALLER}", f"{CALLER} x",
    ],
    ids=range(20),
)  # fmt: skip
async def test_x_road_client_must_be_an_identifier(mesh: Mesh, client: str) -> None:
    reply = await mesh.ask(client=None, headers=[(b"x-road-client", client.encode())])
    mesh.problem(reply, 400, "client-header")
    assert reply.query["client"] == ""
    assert reply.response.headers["x-road-error"] == "server.clientproxy.invalid_client_identifier"
    assert "evil" not in repr(reply.response.headers).lower()


async def test_a_query_string_with_raw_bytes_is_refused(mesh: Mesh) -> None:
    for query in ('a="b"', "a=<b>"):
        async with mesh.one_record() as records, mesh.connect() as caller:
            await caller.send(head("GET", target("echo", f"/q?{query}")))
            response = await caller.answer()
        mesh.told(response, 400, "query-form", exchange_id=records[0]["id"])


@pytest.mark.parametrize("method", ["PROPFIND", "MKCOL", "PURGE", "QUERY", "SEARCH"])
async def test_a_method_the_mesh_does_not_know_is_refused(mesh: Mesh, method: str) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head(method, target("echo")))
        response = await caller.answer()
    assert response.status_code == 400
    mesh.told(
        response, 400, records[0]["rule"], exchange_id="" if records[0]["rule"] == "http-syntax" else records[0]["id"]
    )


# Headers


@pytest.mark.parametrize(
    "name", ["X-Road-Id", "X-Road-UserId", "X-Road-Issue", "X-Road-Represented-Party", "Datong-Purpose"]
)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"x" * 256, id="too-long"),
        pytest.param("税".encode() * 256, id="too-long-chinese"),
        pytest.param(b"a\tb", id="tab"),
        pytest.param(b"a\xc2\x85b", id="next-line"),
        pytest.param("a\u202eb".encode(), id="right-to-left-override"),
        pytest.param("a\u2028b".encode(), id="line-separator"),
        pytest.param("a\u200bb".encode(), id="zero-width-space"),
    ],
)
async def test_what_goes_on_the_record_is_printable_and_short(mesh: Mesh, name: str, value: bytes) -> None:
    reply = await mesh.ask(headers=[(name.encode(), value)])
    mesh.problem(reply, 400, "header-value")
    assert name.lower() in reply.response.json()["detail"]


async def test_a_control_character_in_a_header_ends_the_connection_with_a_400(mesh: Mesh) -> None:
    for value in (b"a\x00b", b"a\x01b", b"a\x7fb", b"a\rb"):
        async with mesh.one_record() as records, mesh.connect() as caller:
            await caller.send(head("GET", target("echo"), b"X-Road-UserId: " + value))
            response = await caller.answer()
            assert await caller.is_closed()
        mesh.told(response, 400, "http-syntax")
        assert (records[0]["rule"], records[0]["status"], records[0]["outcome"]) == ("http-syntax", 400, "refused")


async def test_255_characters_are_not_too_long_and_chinese_is_kept(mesh: Mesh) -> None:
    user, case = "张三（税务局）", "案" * 255
    chosen = [(b"x-road-userid", user.encode()), (b"x-road-id", b"i" * 255), (b"x-road-issue", case.encode())]
    reply = await mesh.ask(headers=chosen)
    assert reply.status == 200
    assert (reply.query["user"], reply.query["message_id"], reply.query["case"]) == (user, "i" * 255, case)
    assert mesh.backend.last.values("x-road-userid") == [user.encode()]


async def test_a_message_id_comes_back_byte_for_byte(mesh: Mesh) -> None:
    """What is not UTF-8 is taken for Latin-1, as HTTP once said."""
    for sent, text in (("编号-1".encode(), "编号-1"), (b"caf\xe9", "café")):
        reply = await mesh.ask(headers=[(b"x-road-id", sent)])
        assert [value for name, value in reply.response.headers.raw if name == b"x-road-id"] == [sent]
        assert reply.query["message_id"] == text


async def test_other_headers_reach_the_department_byte_for_byte(mesh: Mesh) -> None:
    """Also those that are not UTF-8: Latin-1 was once the rule."""
    for value in ("税务".encode(), b"caf\xe9", b"\xff\xfe"):
        reply = await mesh.ask(headers=[(b"x-any", value)])
        assert reply.status == 200
        assert mesh.backend.last.values("x-any") == [value]


@pytest.mark.parametrize("channel", ["shop", "HALL", "hall,web", "大厅"])
async def test_the_channel_is_one_of_the_known(mesh: Mesh, channel: str) -> None:
    reply = await mesh.ask(headers=[(b"datong-channel", channel.encode())])
    mesh.problem(reply, 400, "channel")
    assert reply.query["channel"] == ""


async def test_a_head_over_the_limit_is_431_and_recorded(mesh: Mesh) -> None:
    for lines, rule in (
        ([f"X-Filler: {'x' * (16 << 10)}"], "head-size"),
        ([f"X-{n}: 1" for n in range(64)], "header-lines"),
    ):
        async with mesh.one_record() as records, mesh.connect() as caller:
            await caller.send(head("GET", target("echo"), *lines))
            response = await caller.answer()
            assert await caller.is_closed()
        mesh.told(response, 431, rule)
        assert (records[0]["rule"], records[0]["status"], records[0]["code"]) == (rule, 431, "headers-too-large")
        assert records[0]["query"]["certificate"], "who it was is on the record"


MALFORMED = {
    "nonsense": b"\x16\x03\x01 nonsense\r\n\r\n",
    "http-1.0": b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n",
    "no-host": f"GET {target('echo')} HTTP/1.1\r\nX-Road-Client: {CALLER}\r\n\r\n".encode(),
    "negative-length": head("POST", target("echo"), "Content-Length: -1"),
    "length-that-is-no-number": head("POST", target("echo"), "Content-Length: 1e3"),
    "length-beyond-64-bits": head("POST", target("echo"), f"Content-Length: {1 << 64}"),
    "two-lengths": head("POST", target("echo"), "Content-Length: 1", "Content-Length: 2") + b"xx",
    "length-and-chunked": head("POST", target("echo"), "Content-Length: 3", "Transfer-Encoding: chunked")
    + b"0\r\n\r\n",
    "unknown-coding": head("POST", target("echo"), "Transfer-Encoding: gzip"),
    "folded-line": head("GET", target("echo"), "X-A: b", " c"),
    "space-before-the-colon": head("GET", target("echo"), "X-Road-Id : x"),
    "raw-utf-8-in-the-path": head("GET", target("echo", "/税")),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_not_http_is_400_recorded_and_never_executed(mesh: Mesh, name: str) -> None:
    before = len(mesh.backend.received)
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(MALFORMED[name])
        response = await caller.answer()
        assert await caller.is_closed()
    mesh.told(response, 400, records[0]["rule"])
    assert (records[0]["status"], records[0]["outcome"], records[0]["code"]) == (400, "refused", "invalid-request")
    assert len(mesh.backend.received) == before


async def test_a_length_larger_than_anything_is_413(mesh: Mesh) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head("POST", target("echo"), f"Content-Length: {(1 << 63) - 1}"))
        response = await caller.answer()
    mesh.told(response, 413, "body-limit", exchange_id=records[0]["id"])


async def test_broken_chunks_end_the_request_once_and_nothing_is_carried(mesh: Mesh) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head("POST", target("echo", "/chunks"), "Transfer-Encoding: chunked") + b"3\r\nabc\r\nzz\r\n")
        response = await caller.answer()
        assert await caller.is_closed()
    mesh.told(response, 400, "http-syntax")
    assert (records[0]["rule"], records[0]["status"]) == ("http-syntax", 400)
    assert not mesh.backend.seen("/chunks")


async def test_a_request_smuggled_in_a_refused_body_is_not_executed(mesh: Mesh) -> None:
    smuggled = head("GET", target("echo", "/smuggled"))
    async with mesh.one_record() as records, mesh.connect() as caller:
        lines = ("Content-Length: 5", "Transfer-Encoding: chunked")
        await caller.send(head("POST", target("echo"), *lines) + b"0\r\n\r\n" + smuggled)
        assert (await caller.answer()).status_code == 400
        assert await caller.is_closed()
    assert len(records) == 1
    assert not mesh.backend.seen("/smuggled")


# The department's own system, and what it may do to the caller


async def test_a_providers_answer_cannot_split_the_response(mesh: Mesh) -> None:
    for value in (b"b\rX-Evil: 1", b"b\nX-Evil: 1", b"b\x00"):
        with mesh.answering("/split", b"HTTP/1.1 200 OK\r\nX-A: " + value + b"\r\nContent-Length: 0\r\n\r\n"):
            reply = await mesh.ask("GET", "/split")
        assert "\r" not in reply.response.headers.get("x-a", "")
        if reply.status == 200:
            # A bare line feed ends a line for some parsers: then it was a header of its own before it came to us.
            assert reply.record["outcome"] == "answered"
        else:
            mesh.problem(reply, 502, "backend-answers", source="backend")


async def test_an_answer_cannot_pretend_to_be_the_gateways_own_error(mesh: Mesh) -> None:
    with mesh.answering("/pretend", answer(503, (b"X-Road-Error", b"server.clientproxy.network_error"), body=b"{}")):
        reply = await mesh.ask("GET", "/pretend")
    assert (reply.status, reply.record["outcome"]) == (503, "answered")
    assert "x-road-error" not in reply.response.headers


async def test_nothing_a_hostile_crowd_sends_at_once_disturbs_an_honest_caller(mesh: Mesh) -> None:
    gate = asyncio.Event()

    async def hostile(data: bytes) -> None:
        async with mesh.connect() as caller:
            await gate.wait()
            await caller.send(data)
            assert (await caller.answer()).status_code == 400

    crowd = [asyncio.create_task(hostile(data)) for data in MALFORMED.values()]
    async with mesh.one_record(len(crowd)):
        gate.set()
        honest = [await mesh.ask("POST", f"/honest-{n}", content=b"%d" % n) for n in range(5)]
        await asyncio.gather(*crowd)
    assert [reply.response.content for reply in honest] == [b"0", b"1", b"2", b"3", b"4"]
