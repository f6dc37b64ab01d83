"""`/v1/services/{…}/openapi`: documents registered, shown and compared through the API."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from deploy.trial_mesh import CALLER, FOR_EVER, PROVIDER
from registry.descriptions.syntax import MAX_BYTES
from tests.gateway.management_desk import CLERK, SECRET, WHO, Desk, told
from tests.registry.description_kit import OK, Tree, answering, changed, of, tree

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROSTER = f"{PROVIDER}/roster"
AT = f"/v1/services/{ROSTER}/openapi"
PERSON: Tree = {"type": "object", "properties": {"name": {"type": "string"}, "phone": {"type": "string"}}}
DOCUMENT: Tree = tree(
    "3.1.1",
    servers=[{"url": "https://10.1.2.3/v1"}],
    paths={"/people": {"get": {"responses": answering({"type": "array", "items": PERSON})}}},
)
SCHEMA = "/paths/~1people/get/responses/200/content/application~1json/schema/items/properties"
YAML = {"content_type": "application/yaml"}


def without_phone(found: Tree) -> None:
    schema = found["paths"]["/people"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    del schema["items"]["properties"]["phone"]


def with_age(found: Tree) -> None:
    schema = found["paths"]["/people"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    schema["items"]["properties"]["age"] = {"type": "integer"}
    found["paths"]["/count"] = {"get": {"responses": OK}}


def referring(reference: str) -> Tree:
    return tree(components={"schemas": {"A": {"$ref": reference}}})


async def put(desk: Desk, found: Tree | bytes, query: str = "", *, party: str = "owner", **more: Any) -> httpx.Response:
    body = found if isinstance(found, bytes) else of(found)
    return await desk.call(party, "PUT", AT + query, body, **more)


async def operations(desk: Desk) -> list[tuple[str, str]]:
    found = (await desk.get("owner", f"/v1/services/{ROSTER}")).json()
    return [(each["method"], each["path"]) for each in found["operations"]]


async def test_a_document_is_registered_with_the_services_operations(desk: Desk) -> None:
    content = {
        "id": ROSTER,
        "title_zh": "名册",
        "operations": [{"method": "GET", "path": "/old"}],
        "why": "目录",
    }
    assert (await desk.post("owner", "/v1/services", content)).status_code == 201
    grant = {"service": ROSTER, "purposes": ["trial"], "valid_to": FOR_EVER, **WHO}
    await desk.trial.registry.grant(client=CALLER, path="/people", items=["phone"], **grant)

    response = await put(desk, DOCUMENT, datong_why=quote("目录〔2026〕12号"))
    assert response.status_code == 201, response.text
    answer = response.json()
    assert answer.keys() == {
        *("service", "number", "dry_run", "added", "changed", "breaking", "complete", "change", "recorded"),
    }
    assert (answer["service"], answer["number"], answer["dry_run"], answer["complete"]) == (ROSTER, 1, False, True)
    assert (answer["changed"], answer["breaking"]) == ([], [])
    (added,) = answer["added"]
    assert added == {
        "rule": "operation-added",
        "part": "operation",
        "method": "GET",
        "path": "/people",
        "pointer": "/paths/~1people/get",
        "item": "",
        "parameter": "",
        "en": "The operation GET /people is new.",
        "zh": "新增操作 GET /people。",
    }
    assert response.headers["datong-change"] == str(answer["change"])
    assert answer["recorded"].endswith(f"/v1/changes/{answer['change']}")
    assert await operations(desk) == [("GET", "/people")]
    (change,) = await desk.trial.registry.changes(target=f"{ROSTER}/openapi/1")
    assert (change.version, change.by, change.why) == (answer["change"], f"{PROVIDER} ({CLERK})", "目录〔2026〕12号")


async def test_the_same_bytes_again_are_found_registered(desk: Desk) -> None:
    before = await desk.version()
    response = await put(desk, DOCUMENT)
    assert response.status_code == 200
    answer = response.json()
    assert (answer["number"], answer["added"]) == (1, [])
    assert answer["change"] == before - 1, "the change that registered it; its operations were the next"
    assert await desk.version() == before


async def test_a_dry_run_shows_everything_and_changes_nothing(desk: Desk) -> None:
    before = await desk.version()
    response = await put(desk, changed(changed(DOCUMENT, without_phone), with_age), "?dry_run=true", party="integrator")
    assert response.status_code == 200
    answer = response.json()
    assert (answer["number"], answer["dry_run"], answer["change"], answer["recorded"]) == (2, True, None, None)
    assert [each["rule"] for each in answer["added"]] == ["answer-property-added", "operation-added"]
    (broken,) = answer["breaking"]
    assert (broken["rule"], broken["item"], broken["affects"]) == ("answer-property-removed", "phone", [CALLER])
    assert broken["pointer"] == f"{SCHEMA}/phone"
    assert await desk.version() == before


async def test_what_breaks_callers_is_a_conflict_until_it_is_meant(desk: Desk) -> None:
    before = await desk.version()
    problem = told(await put(desk, changed(DOCUMENT, without_phone)), 409, "breaking-change", f"{SCHEMA}/phone")
    assert "1 subsystem is concerned" in problem["detail"]
    assert "accept_breaking" in problem["next"]
    in_chinese = (await put(desk, changed(DOCUMENT, without_phone), lang="zh")).json()
    assert "涉及 1 个子系统" in in_chinese["detail"]
    assert await desk.version() == before
    response = await put(desk, changed(DOCUMENT, without_phone), "?accept_breaking=true")
    assert (response.status_code, response.json()["number"]) == (201, 2)


async def test_yaml_is_registered_and_given_back_as_it_was(desk: Desk) -> None:
    text = (
        "openapi: 3.0.3 # 注释\ninfo: {title: 名册, version: '1'}\nservers: [{url: 'https://10.9.9.9/v2'}]\n"
        "paths: {/people: {get: {responses: {200: {description: ok}}}}}\n"
    )
    response = await put(desk, text.encode(), "?accept_breaking=true", **YAML)
    assert (response.status_code, response.json()["number"]) == (201, 3)
    (change,) = await desk.trial.registry.changes(target=f"{ROSTER}/openapi/3")
    assert change.why == "OpenAPI 3.0.3"
    for party in ("owner", "integrator", "operator", "auditor"):
        shown = await desk.get(party, AT)
        assert (shown.text, shown.headers["content-type"]) == (text, "application/yaml")
        assert shown.headers["datong-document"] == "3"
    for party in ("caller", "stranger", "other"):
        shown = await desk.get(party, AT)
        assert shown.text == text.replace("'https://10.9.9.9/v2'", '"/v2"'), "not the addresses behind it"
    first = await desk.get("owner", f"{AT}?number=1")
    assert json.loads(first.content) == DOCUMENT
    assert first.headers["content-type"] == "application/json"
    assert json.loads((await desk.get("caller", f"{AT}?number=1")).content)["servers"] == [{"url": "/v1"}]
    told(await desk.get("owner", f"{AT}?number=9"), 404, "service-document")


async def test_all_versions_are_listed(desk: Desk) -> None:
    found = (await desk.get("owner", f"{AT}/versions")).json()["versions"]
    assert [(each["number"], each["format"], each["openapi"]) for each in found] == [
        (3, "yaml", "3.0.3"),
        (2, "json", "3.1.1"),
        (1, "json", "3.1.1"),
    ]
    assert found[2].keys() == {"number", "format", "openapi", "sha256", "size", "registered_at", "registered_by"}
    assert (found[2]["size"], found[2]["registered_by"]) == (len(of(DOCUMENT)), f"{PROVIDER} ({CLERK})")
    theirs = (await desk.get("stranger", f"{AT}/versions")).json()["versions"]
    assert {each["registered_by"] for each in theirs} == {""}, "no business of theirs"


async def test_two_documents_are_compared(desk: Desk) -> None:
    found = (await desk.get("owner", f"{AT}/difference?from=1&to=2")).json()
    assert found.keys() == {"added", "changed", "breaking", "complete"}
    assert [(each["item"], each["affects"]) for each in found["breaking"]] == [("phone", [CALLER])]
    newest = (await desk.get("owner", f"{AT}/difference?from=1")).json()
    assert [each["rule"] for each in newest["breaking"]] == ["answer-media-type-removed"]
    back = (await desk.get("owner", f"{AT}/difference?from=2&to=1")).json()
    assert [each["rule"] for each in back["added"]] == ["answer-property-added"]


@pytest.mark.parametrize(("party", "shown"), [("caller", [CALLER]), ("stranger", []), ("auditor", [CALLER])])
async def test_others_learn_only_whether_it_concerns_them(desk: Desk, party: str, shown: list[str]) -> None:
    found = (await desk.get(party, f"{AT}/difference?from=1&to=2")).json()
    assert [each["affects"] for each in found["breaking"]] == [shown]


@pytest.mark.parametrize("party", ["caller", "stranger", "auditor", "other"])
async def test_who_does_not_describe_the_service_registers_nothing(desk: Desk, party: str) -> None:
    before = await desk.version()
    told(await put(desk, DOCUMENT, "?dry_run=true", party=party), 403, "role")
    told(await put(desk, b"", party=party), 403, "role")
    assert await desk.version() == before
    response = await desk.call(None, "PUT", AT, of(DOCUMENT))
    told(response, 401, "client-certificate")


async def test_a_hidden_service_is_not_there_for_others(desk: Desk) -> None:
    at = f"/v1/services/{SECRET}/openapi"
    operation = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {}}], "responses": OK}
    found = of(tree("3.1.1", paths={"/items/{id}": {"get": operation}}))
    assert (await desk.call("owner", "PUT", at, found)).status_code == 201
    for party in ("stranger", "other"):
        for path in ("", "/versions", "/difference?from=1"):
            told(await desk.get(party, at + path), 404, "exists")
            told(await desk.get(party, f"/v1/services/{PROVIDER}/nothing/openapi{path}"), 404, "exists")
    assert (await desk.get("auditor", at)).content == found


@pytest.mark.parametrize(
    ("body", "status", "rule", "pointer"),
    [
        (b"{", 422, "description-syntax", ""),
        (b'{"openapi": "3.1.0", "a": {"b": 1, "b": 2}}', 422, "description-syntax", "/a/b"),
        (of({**tree(), "openapi": "3.2.0"}), 422, "description-version", "/openapi"),
        (of(referring("#/components/schemas/A")), 422, "description-reference", "/components/schemas/A/$ref"),
        (of(referring("http://127.0.0.1/x")), 422, "description-reference", "/components/schemas/A/$ref"),
        (of(tree(info={"title": "x"})), 422, "description-openapi", "/info"),
        (of(tree(paths={"/a?": {}})), 422, "description-operation", "/paths/~1a?"),
        (b" " * (MAX_BYTES + 1), 413, "body-limit", ""),
    ],
)
async def test_a_wrong_document_changes_nothing(desk: Desk, body: bytes, status: int, rule: str, pointer: str) -> None:
    before = await desk.version()
    told(await put(desk, body), status, rule, pointer)
    in_chinese = (await put(desk, body, lang="zh")).json()
    assert any("\u4e00" <= each <= "\u9fff" for each in in_chinese["detail"])
    assert await desk.version() == before


async def test_what_is_said_beside_the_document_is_read_strictly(desk: Desk) -> None:
    told(await put(desk, DOCUMENT, "?dryrun=true"), 400, "query-parameter")
    told(await put(desk, DOCUMENT, "?dry_run=perhaps"), 400, "query-parameter")
    told(await put(desk, DOCUMENT, "?dry_run=true&dry_run=true"), 400, "query-parameter")
    told(await put(desk, DOCUMENT, content_type="text/plain"), 415, "content-type")
    told(await put(desk, DOCUMENT, content_encoding="gzip"), 415, "content-coding")
    told(await put(desk, DOCUMENT, datong_why="%0A"), 422, "why", "/why")
    told(await desk.get("owner", f"{AT}/difference"), 400, "query-parameter")
    told(await desk.get("owner", f"{AT}/difference?from=0"), 400, "query-parameter")
    told(await desk.get("owner", f"{AT}/difference?from=1&to=77"), 404, "service-document")
    told(await desk.call("owner", "DELETE", AT), 405, "method")


async def test_a_gateway_answers_while_a_document_is_examined(desk: Desk) -> None:
    """Examining goes on in a process of its own; the gateway has other things to do."""
    schemas = {
        f"A{n}": {"type": "object", "properties": {"a": {"type": "string", "example": "x" * 300}}} for n in range(1000)
    }
    slow = asyncio.create_task(put(desk, tree("3.1.1", components={"schemas": schemas}), "?dry_run=true"))
    longest = 0.0
    while not slow.done():
        started = time.perf_counter()
        assert (await desk.client(None).get("/healthz")).status_code == 200
        longest = max(longest, time.perf_counter() - started)
        await asyncio.sleep(0.01)
    assert (await slow).status_code == 200
    assert longest < 1.0
