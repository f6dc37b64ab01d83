"""X-Road's metaservices on a running gateway: their shapes key by key, who is shown what, and the record each leaves."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
import pytest_asyncio

from deploy.trial_mesh import CALLER, FOR_EVER, PROVIDER, PROVIDER_CODE, STRANGER
from exchange import verify_receipt
from registry import Actor, Descriptions, Group, Operation, Service
from tests.gateway.conftest import GHOST, SIBLING, WHO
from tests.gateway.exchange_mesh import WAIT, Mesh, Reply, head, service, target, xml_error
from tests.registry.description_kit import OK, Tree, answering, of, tree

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATOR = Actor.operator("test")
DESCRIBED: Tree = tree(
    "3.1.1",
    servers=[
        {"url": "https://10.1.2.3:8443/v2"},
        {"url": "https://{host}.example/x", "variables": {"host": {"default": "a"}}},
    ],
    paths={
        "/people/{number}": {
            "parameters": [{"name": "number", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {"responses": answering({"type": "object", "properties": {"name": {"type": "string"}}})},
            "delete": {"responses": OK},
        },
        "/people/search": {"post": {"responses": OK, "x-datong-safe": True}},
    },
)
YAML = """\
openapi: 3.0.3   # 版本
info: {title: 名册, version: "1"}
servers:
- url: http://inner.example:8080/roster
paths: {/all: {get: {responses: {200: {description: ok}}}}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def furnished(running_mesh: Mesh) -> None:
    """Two described services, one of them hidden; grants of a part, by a group, to come and gone."""
    registry = running_mesh.trial.registry
    async with registry.change(**WHO) as change:
        for code, listed in (("people", True), ("roster", False), ("hidden", False)):
            anything = (Operation.of("GET", "/**"),)
            await change.add_service(Service(id=service(code), title_zh=code, operations=anything, listed=listed))
        await change.add_group(Group(id="callers", name="调用方", subsystem_code="caller"))
    descriptions = Descriptions(registry)
    await descriptions.register(service("people"), of(DESCRIBED), actor=OPERATOR, accept_breaking=True)
    await descriptions.register(service("roster"), YAML.encode(), actor=OPERATOR, accept_breaking=True)
    far: dict[str, Any] = {"valid_to": FOR_EVER, "purposes": ["trial"], **WHO}
    await registry.grant(client=CALLER, service=service("people"), method="GET", **far)
    await registry.grant(**{**far, "purposes": ["review"]}, client=CALLER, service=service("people"), path="/people/s*")
    await registry.grant(group="callers", service=service("roster"), **far)
    later = datetime.now(UTC) + timedelta(days=1)
    await registry.grant(client=SIBLING, service=service("roster"), valid_from=later, **far)
    # The last of it shows the rest: the gateway follows change by change. What the API is asked is no exchange.
    member, who = running_mesh.client("member"), {"X-Road-Client": SIBLING}
    await eventually(lambda: member.get(f"/v1/services/{service('roster')}", headers=who), lambda got: got.is_success)


async def eventually(ask: Callable[[], Awaitable[Any]], condition: Callable[[Any], bool]) -> None:
    """Ask until the answer is as it should be; raises TimeoutError."""
    async with asyncio.timeout(WAIT):
        while not condition(await ask()):
            await asyncio.sleep(0.02)


async def meta(mesh: Mesh, path: str, **more: Any) -> Reply:
    """Ask the provider."""
    return await mesh.ask("GET", path, to=PROVIDER, **more)


async def listed(mesh: Mesh, code: str, **more: Any) -> dict[str, dict[str, Any]]:
    """The services of a list by their codes."""
    reply = await meta(mesh, f"/{code}", **more)
    assert reply.status == 200, reply.response.text
    content = reply.response.json()
    assert content.keys() == {"service"}
    return {each["service_code"]: each for each in content["service"]}


def endpoints(found: dict[str, Any]) -> list[tuple[str, str]]:
    for each in found["endpoint_list"]:
        assert each.keys() == {"method", "path"}
    return [(each["method"], each["path"]) for each in found["endpoint_list"]]


def is_recorded(reply: Reply, code: str, client: str = CALLER) -> None:
    """Answered by the gateway itself: like any exchange, with nobody's seal."""
    record, query = reply.record, reply.query
    assert (record["outcome"], record["status"], record["source"]) == ("answered", 200, "gateway")
    assert (record["code"], record["rule"]) == ("", "")
    assert not {"answer", "answer_seal", "query_seal"} & record.keys()
    assert (query["client"], query["service"], query["method"]) == (client, f"{PROVIDER}/{code}", "GET")
    assert (query["grant"], query["purpose"], query["path_template"]) == ("", "", "")


def is_marked_as_xroads(reply: Reply, code: str) -> None:
    """The headers of an X-Road answer."""
    headers = reply.response.headers
    assert headers["x-road-client"] == CALLER
    assert headers["x-road-service"] == f"{PROVIDER}/{code}"
    assert headers["x-road-request-id"] == reply.record["id"]
    assert headers["x-road-id"] == reply.query["message_id"] == f"CN-{reply.record['id']}"
    assert len(base64.b64decode(headers["x-road-request-hash"])) == 64
    assert headers["datong-receipt"].endswith(f"/v1/exchanges/{reply.record['id']}/receipt")
    assert "x-road-error" not in headers
    assert len(headers.get_list("date")) == 1


# What is offered


async def test_a_service_is_listed_with_xroads_keys(mesh: Mesh) -> None:
    found = await listed(mesh, "listMethods")
    assert found["people"] == {
        "object_type": "SERVICE",
        "xroad_instance": "CN",
        "member_class": "GOV",
        "member_code": PROVIDER_CODE,
        "subsystem_code": "trial",
        "service_code": "people",
        "service_type": "OPENAPI",
        "endpoint_list": [
            {"method": "POST", "path": "/people/search"},
            {"method": "DELETE", "path": "/people/*"},
            {"method": "GET", "path": "/people/*"},
        ],
    }
    assert found["echo"]["service_type"] == "REST"
    assert found["echo"].keys() == found["people"].keys(), "there is no version, and nothing that is null"


async def test_an_answer_looks_like_xroads_and_is_on_record_once(mesh: Mesh) -> None:
    for code in ("listMethods", "allowedMethods"):
        reply = await meta(mesh, f"/{code}", headers={"X-Road-UserId": "CN123", "Datong-Purpose": "whatever"})
        assert reply.response.headers["content-type"] == "application/json"
        is_recorded(reply, code)
        is_marked_as_xroads(reply, code)
        assert reply.query["user"] == "CN123"


async def test_the_message_id_of_the_caller_is_kept(mesh: Mesh) -> None:
    reply = await meta(mesh, "/listMethods", headers={"X-Road-Id": "mine-1"})
    assert reply.response.headers["x-road-id"] == reply.query["message_id"] == "mine-1"


async def test_its_receipt_verifies(mesh: Mesh) -> None:
    reply = await meta(mesh, "/listMethods")
    path = reply.response.headers["datong-receipt"].removeprefix(mesh.url)
    receipt = await mesh.client().get(path, headers={"X-Road-Client": CALLER})
    assert receipt.status_code == 200
    keys = (await mesh.client(None).get("/v1/keys")).content
    checks = {check.name: check for check in verify_receipt(receipt.content, keys)}
    assert [name for name, check in checks.items() if not check.ok] == []
    assert "by itself" in checks["gateway"].en


async def test_a_hidden_service_is_there_for_those_who_hold_something_of_it(mesh: Mesh) -> None:
    mine = await listed(mesh, "listMethods")
    theirs = await listed(mesh, "listMethods", party="stranger", client=STRANGER)
    assert {"people", "echo"} <= mine.keys() & theirs.keys()
    assert "roster" in mine
    assert "roster" not in theirs
    assert "hidden" not in mine | theirs
    assert "roster" in await listed(mesh, "listMethods", party="member", client=SIBLING), "also what is still to come"


async def test_metaservices_are_not_listed_themselves(mesh: Mesh) -> None:
    found = await listed(mesh, "listMethods")
    assert not {"listMethods", "allowedMethods", "getOpenAPI"} & found.keys()


# What is allowed


async def test_only_what_is_granted_now_is_allowed(mesh: Mesh) -> None:
    offered, found = await listed(mesh, "listMethods"), await listed(mesh, "allowedMethods")
    whole, part = ("GET", "/people/*"), ("DELETE", "/people/s*")
    assert endpoints(found["people"]) == [("POST", "/people/search"), part, whole]
    assert endpoints(found["roster"]) == [("GET", "/all")], "by a group"
    assert found["echo"] == offered["echo"], "all of it is granted"
    assert not {"ungranted", "expired", "future", "hidden"} & found.keys()
    assert "closed" in found, "it is granted, and will open again"
    assert endpoints(found["records"]) == [("GET", "/open/*"), ("POST", "/records"), ("GET", "/records/*")]


async def test_who_was_granted_nothing_is_allowed_nothing(mesh: Mesh) -> None:
    reply = await meta(mesh, "/allowedMethods", party="stranger", client=STRANGER)
    assert reply.response.json() == {"service": []}
    is_recorded(reply, "allowedMethods", STRANGER)
    assert "roster" not in await listed(mesh, "allowedMethods", party="member", client=SIBLING), "not yet"


# How it is called


async def test_a_document_is_given_without_the_addresses_behind_it(mesh: Mesh) -> None:
    reply = await meta(mesh, "/getOpenAPI?serviceCode=people")
    assert reply.response.headers["content-type"] == "application/json"
    found = json.loads(reply.response.content)
    assert found == {**DESCRIBED, "servers": [{"url": "/v2"}, DESCRIBED["servers"][1]]}
    is_recorded(reply, "getOpenAPI")
    is_marked_as_xroads(reply, "getOpenAPI")


async def test_yaml_stays_yaml(mesh: Mesh) -> None:
    reply = await meta(mesh, "/getOpenAPI?other=1&servicecode=roster")
    assert reply.response.headers["content-type"] == "application/yaml"
    assert reply.response.text == YAML.replace("http://inner.example:8080/roster", '"/roster"')


@pytest.mark.parametrize("path", ["", "?", "?serviceCode", "?serviceCode=", "?servicecode=&x=1", "?service=people"])
async def test_without_a_service_code_there_is_nothing_to_answer(mesh: Mesh, path: str) -> None:
    reply = await meta(mesh, f"/getOpenAPI{path}")
    mesh.problem(reply, 400, "service-code")
    assert reply.response.headers["x-road-error"] == "server.clientproxy.invalid_request"


@pytest.mark.parametrize("code", ["nothing", "hidden", "People", "..", "a%2Fb", "%00", "x" * 100, "listMethods"])
async def test_a_service_that_is_not_there_has_no_document(mesh: Mesh, code: str) -> None:
    reply = await meta(mesh, f"/getOpenAPI?serviceCode={code}")
    problem = mesh.problem(reply, 404, "service-registered")
    assert "hidden" not in problem["detail"]
    assert reply.response.headers["x-road-error"] == "server.serverproxy.unknown_service"


async def test_what_is_hidden_from_one_is_hidden_as_if_it_were_not_there(mesh: Mesh) -> None:
    """The same words for a hidden service and for none; the caller holds something of it, the stranger nothing."""
    told = [
        mesh.problem(
            await meta(mesh, f"/getOpenAPI?serviceCode={code}", party="stranger", client=STRANGER),
            404,
            "service-registered",
        )["detail"]
        for code in ("roster", "nothing")
    ]
    assert told[0] == told[1]


async def test_a_service_without_a_document_says_so(mesh: Mesh) -> None:
    mesh.problem(await meta(mesh, "/getOpenAPI?serviceCode=echo"), 404, "service-document")


# What is refused


@pytest.mark.parametrize("code", ["listMethods", "allowedMethods", "getOpenAPI"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
async def test_only_get_is_taken(mesh: Mesh, code: str, method: str) -> None:
    if method == "HEAD":
        reply = await mesh.ask(method, f"/{code}", to=PROVIDER)
        assert (reply.status, reply.record["rule"], reply.response.content) == (405, "method", b"")
    else:
        mesh.problem(await mesh.ask(method, f"/{code}", to=PROVIDER, content=b"x" * 10), 405, "method")


async def test_who_asks_is_judged_as_for_any_exchange(mesh: Mesh) -> None:
    mesh.problem(await meta(mesh, "/listMethods", party=None), 401, "client-certificate")
    mesh.problem(await meta(mesh, "/listMethods", party="stranger"), 403, "client-of-certificate")
    mesh.problem(await meta(mesh, "/listMethods", party="ghost", client=GHOST), 403, "client-registered")
    mesh.problem(await meta(mesh, "/listMethods", client=None), 400, "client-header")


async def test_a_suspended_client_learns_nothing(mesh: Mesh) -> None:
    registry = mesh.trial.registry
    await registry.set_subsystem_state(SIBLING, active=False, **WHO)
    await mesh.wait_for(403, within=WAIT, path="/listMethods", to=PROVIDER, party="member", client=SIBLING)
    reply = await meta(mesh, "/listMethods", party="member", client=SIBLING)
    mesh.problem(reply, 403, "client-active")
    await registry.set_subsystem_state(SIBLING, active=True, **WHO)
    await mesh.wait_for(200, within=WAIT, path="/listMethods", to=PROVIDER, party="member", client=SIBLING)


async def test_a_provider_that_is_not_there_is_not_found(mesh: Mesh) -> None:
    reply = await mesh.ask(to=f"{PROVIDER}x", path="/listMethods")
    mesh.problem(reply, 404, "provider-registered")
    assert reply.response.headers["x-road-error"] == "server.clientproxy.unknown_member"


@pytest.mark.parametrize("path", ["/listMethods/x", "/getOpenAPI/people", "/allowedMethods/a/b"])
async def test_nothing_is_below_a_metaservice(mesh: Mesh, path: str) -> None:
    mesh.problem(await meta(mesh, path), 404, "metaservice-path")


async def test_a_slash_at_the_end_and_escapes_in_the_code_change_nothing(mesh: Mesh) -> None:
    for path in ("/listMethods/", "/list%4Dethods"):
        is_recorded(await meta(mesh, path), "listMethods")


async def test_a_body_that_nobody_wants_does_not_confuse_the_connection(mesh: Mesh) -> None:
    async with mesh.connect() as caller, mesh.one_record(2):
        request = head("GET", target("listMethods", ""), "Content-Length: 5")
        await caller.send(request + b"hello")
        assert (await caller.answer()).status_code == 200
        await caller.send(head("GET", target("echo")))
        assert (await caller.answer()).status_code == 200


async def test_the_codes_of_soap_and_monitoring_are_nobodys(mesh: Mesh) -> None:
    for code in ("getWsdl", "getSecurityServerMetrics", "listClients"):
        mesh.problem(await meta(mesh, f"/{code}"), 404, "service-registered")


# Who is here

NS = {"id": "http://x-road.eu/xsd/identifiers", "xrd": "http://x-road.eu/xsd/xroad.xsd"}


async def clients(mesh: Mesh, query: str = "", accept: str = "application/json") -> httpx.Response:
    return await mesh.client(None).get(f"/listClients{query}", headers={"accept": accept})


async def test_everybody_is_listed_with_xroads_keys_and_nobody_needs_a_certificate(mesh: Mesh) -> None:
    response = await clients(mesh)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    content = response.json()
    assert content.keys() == {"member"}
    member, system = (
        next(each for each in content["member"] if list(each["id"].values()) == identifier)
        for identifier in (["MEMBER", "CN", "GOV", PROVIDER_CODE], ["SUBSYSTEM", "CN", "GOV", PROVIDER_CODE, "trial"])
    )
    assert list(member) == ["id", "name"]
    assert list(member["id"]) == ["object_type", "xroad_instance", "member_class", "member_code"]
    assert list(system) == ["id", "name", "subsystem_name"]
    assert list(system["id"]) == ["object_type", "xroad_instance", "member_class", "member_code", "subsystem_code"]
    assert member["name"] == system["name"]
    assert content["member"].index(member) + 1 == content["member"].index(system), "a member, then its subsystems"
    snapshot = await mesh.trial.registry.snapshot()
    assert len(content["member"]) == len(snapshot.members()) + len(snapshot.subsystems())


@pytest.mark.parametrize("accept", ["", "*/*", "text/xml", "application/*", "application/xml, text/html"])
async def test_it_is_xml_unless_json_is_asked_for(mesh: Mesh, accept: str) -> None:
    response = await clients(mesh, accept=accept)
    assert response.headers["content-type"] == "text/xml; charset=utf-8"
    root = ElementTree.fromstring(response.content)
    assert root.tag == f"{{{NS['xrd']}}}clientList"
    kind = f"{{{NS['id']}}}objectType"
    system = next(
        each
        for each in root
        if each[0].get(kind) == "SUBSYSTEM" and each[0].findtext("id:memberCode", None, NS) == PROVIDER_CODE
    )
    assert [child.tag.rpartition("}")[2] for child in system] == ["id", "name", "subsystemName"]
    assert [(child.tag.rpartition("}")[2], child.text) for child in system[0]] == [
        ("xRoadInstance", "CN"),
        ("memberClass", "GOV"),
        ("memberCode", PROVIDER_CODE),
        ("subsystemCode", "trial"),
    ]
    as_json = (await clients(mesh)).json()["member"]
    assert [each.findtext("xrd:name", None, NS) for each in root] == [each["name"] for each in as_json]


@pytest.mark.parametrize(
    "accept", ["application/json", "text/xml;q=1.0, application/json;q=0.1", "text/html, APPLICATION/JSON ; x=y"]
)
async def test_json_counts_wherever_it_stands(mesh: Mesh, accept: str) -> None:
    assert (await clients(mesh, accept=accept)).headers["content-type"].startswith("application/json")


async def test_instances(mesh: Mesh) -> None:
    assert (await clients(mesh, "?xRoadInstance=CN")).content == (await clients(mesh)).content
    assert (await clients(mesh, "?xRoadInstance=")).content == (await clients(mesh)).content
    for wrong in ("XX", "C", "cn", "CN/GOV", "%00"):
        response = await clients(mesh, f"?xRoadInstance={wrong}")
        mesh.told(response, 404, "instance-registered")
    in_xml = xml_error(await clients(mesh, "?xRoadInstance=XX", accept="text/xml"))
    assert in_xml["type"] == "server.clientproxy.invalid_request"
    assert "XX" in in_xml["message"]


async def test_other_methods_and_parameters_are_refused(mesh: Mesh) -> None:
    mesh.told(await mesh.client(None).post("/listClients"), 405, "method")
    mesh.told(await clients(mesh, "?instance=CN"), 400, "query-parameter")
    mesh.told(await clients(mesh, "?xRoadInstance=CN&xRoadInstance=CN"), 400, "query-parameter")


async def test_the_list_leaves_no_record(mesh: Mesh) -> None:
    before = await mesh.log.counts()
    await clients(mesh)
    assert await mesh.log.counts() == before


async def test_a_name_may_hold_anything(mesh: Mesh) -> None:
    name = '<税务> & "局" ]]>'
    found = (await mesh.trial.registry.snapshot()).subsystem(SIBLING)
    assert found is not None
    await mesh.trial.registry.add_subsystem(replace(found, name=name), replace=True, **WHO)

    def shows(response: httpx.Response) -> bool:
        root = ElementTree.fromstring(response.content)
        return name in [each.findtext("xrd:subsystemName", None, NS) for each in root]

    await eventually(lambda: clients(mesh, accept="text/xml"), shows)


async def test_a_service_registered_now_is_described_at_once(mesh: Mesh) -> None:
    """What is remembered of who has a document goes with the registry's version."""
    assert (await listed(mesh, "listMethods"))["slow"]["service_type"] == "REST"
    found = of(tree(paths={"/": {"get": {"responses": OK}}, "/a": {"get": {"responses": OK}}}))
    await Descriptions(mesh.trial.registry).register(service("slow"), found, actor=OPERATOR, accept_breaking=True)

    await eventually(lambda: listed(mesh, "listMethods"), lambda all_: all_["slow"]["service_type"] == "OPENAPI")
