"""Requests held against the registered document of their service, before they leave the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
import sqlalchemy as sa
import structlog

from ca_auth import client_context
from deploy.trial_mesh import CALLER, ECHO, TrialMesh, trial_mesh
from exchange import ContractBreachError, Headers, LogReader, create_engine
from gateway.api.changing import RegistryUnavailableError
from gateway.contract_check import Asked, ContractChecks, Mode
from gateway.problems import render
from registry import Actor, Descriptions, Service, ServiceDocument
from tests.exchange.contract_kit import JSON, Tree, document, json_of, parameter
from tests.exchange.test_contract_bounds import DOUBLING

SECRET = "440106199001010017"
FINE: Tree = {"200": {"description": "ok"}}


def contract(schema: Any, **schemas: Any) -> Tree:
    """`POST /people` takes JSON of a schema, `GET /people/{n}` a number."""
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    get = {"parameters": [parameter("n", {"type": "integer"}, "path")], "responses": {"200": json_of({})}}
    paths: Tree = {"/people": {"post": {"requestBody": body, "responses": FINE}}, "/people/{n}": {"get": get}}
    return document(paths, schemas=schemas)


class Shelf:
    """Documents in memory, as `Descriptions` gives them."""

    def __init__(self, tree: Tree) -> None:
        self.text = json.dumps(tree)
        self.asked = 0
        self.failure: Exception | None = None

    @property
    def digest(self) -> str:
        return f"{hash(self.text):064x}"[-64:]

    async def document(self, service: str) -> ServiceDocument:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        text = self.text
        return ServiceDocument(
            service=ECHO,
            number=1,
            format="json",
            openapi="3.1.0",
            sha256=self.digest,
            size=len(text),
            registered_at=datetime.now(UTC),
            registered_by="test",
            text=text,
            shown=text,
        )

    def asking(self, body: bytes = b"{}", method: str = "POST", *segments: str, headers: Headers = JSON) -> Asked:
        service = Service(id=ECHO, title_zh="x", document=self.digest)
        return Asked("01", service, method, segments or ("people",), b"", headers if body else [], body)


class Checks:
    """`ContractChecks` over a shelf, and how a request fares there."""

    def __init__(self, shelf: Shelf, mode: Mode = "enforce", *, seconds: float = 2.0) -> None:
        self.shelf = shelf
        self.checks = ContractChecks(mode, cast("Descriptions", shelf), seconds=seconds)

    async def rules(self, body: bytes = b"{}", *more: str) -> list[str]:
        try:
            pending = self.checks.check(self.shelf.asking(body, *more))
            if pending is not None:
                await pending
        except ContractBreachError as breach:
            return [each.rule for each in breach.faults]
        return []

    async def __aenter__(self) -> Checks:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.checks.stop()


OBJECT: Tree = {"type": "object", "required": ["name"]}


async def test_a_document_is_read_once_however_many_wait_for_it() -> None:
    async with Checks(Shelf(contract(OBJECT))) as checks:
        assert await asyncio.gather(*(checks.rules() for _ in range(5))) == [["required"]] * 5
        assert await checks.rules(b'{"name": 1}') == []
        assert checks.checks.check(checks.shelf.asking(b'{"name": 1}')) is None, "known contracts are checked at once"
        assert checks.shelf.asked == 1


async def test_another_document_counts_as_soon_as_the_registry_names_it() -> None:
    async with Checks(Shelf(contract(OBJECT))) as checks:
        assert await checks.rules() == ["required"]
        checks.shelf.text = json.dumps(contract({"type": "array"}))
        assert await checks.rules() == ["type"]
        assert await checks.rules(b"[]") == []


async def test_what_the_document_does_not_describe_is_not_judged_and_where_there_is_none_nothing_is() -> None:
    async with Checks(Shelf(contract(OBJECT))) as checks:
        assert await checks.rules(b"{}", "PUT") == []
    async with Checks(Shelf(contract(OBJECT)), "off") as checks:
        assert await checks.rules() == []
        assert checks.shelf.asked == 0


async def test_reporting_tells_and_lets_pass() -> None:
    async with Checks(Shelf(contract({"properties": {"n": {"type": "integer"}}})), "report") as checks:
        with structlog.testing.capture_logs() as logs:
            assert await checks.rules(json.dumps({"n": SECRET}).encode()) == []
        (event,) = [each for each in logs if each["event"] == "exchange.contract_broken"]
        assert (event["rule"], event["faults"], event["exchange"]) == ("contract-body", ["body /n type"], "01")
        assert SECRET not in repr(logs)


async def test_what_may_take_long_is_checked_in_a_process_under_a_clock() -> None:
    async with Checks(Shelf(contract({"$ref": "#/components/schemas/A0"}, **DOUBLING)), seconds=0.5) as checks:
        assert await checks.rules(b'"x"') == ["limit"]
        assert await checks.rules(b"", "GET", "people", "x") == ["type"], "what is quick is checked here all the same"


async def test_a_document_that_cannot_be_compiled_checks_nothing_and_an_event_says_so() -> None:
    tree = contract({"$ref": "#/components/schemas/A"}, A={"allOf": [{"$ref": "#/components/schemas/A"}]})
    async with Checks(Shelf(tree)) as checks:
        with structlog.testing.capture_logs() as logs:
            assert await checks.rules() == []
            assert await checks.rules() == []
        assert [each["event"] for each in logs] == ["contract.not_checked"]


async def test_a_registry_that_cannot_be_asked_refuses_until_it_can() -> None:
    async with Checks(Shelf(contract(OBJECT))) as checks:
        checks.shelf.failure = sa.exc.OperationalError("select", {}, Exception("away"))
        for _ in range(2):
            with pytest.raises(RegistryUnavailableError):
                await checks.rules()
        checks.shelf.failure = None
        assert await checks.rules() == ["required"]
    async with Checks(Shelf(contract(OBJECT)), "report") as checks:
        checks.shelf.failure = sa.exc.OperationalError("select", {}, Exception("away"))
        assert await checks.rules() == [], "what only reports stands in nobody's way"


async def test_contracts_loaded_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.contract_check.MAX_NODES", 1)
    async with Checks(Shelf(contract(OBJECT))) as checks:
        first = checks.shelf.text
        assert await checks.rules() == ["required"]
        checks.shelf.text = json.dumps(contract({"type": "array"}))
        assert await checks.rules() == ["type"]
        checks.shelf.text = first
        assert await checks.rules() == ["required"]
        assert checks.shelf.asked == 3


def test_the_problem_lists_what_is_wrong_in_the_callers_language() -> None:
    from exchange.contracts.faults import Fault

    breach = ContractBreachError([Fault("body", "/a~1b/0", "type", "integer"), Fault("query", "/n", "missing")])
    _, english = render(breach, exchange_id="01")
    assert json.loads(english)["pointer"] == "/a~1b/0"
    assert json.loads(english)["errors"] == [
        {"in": "body", "pointer": "/a~1b/0", "rule": "type", "detail": "is not of type integer"},
        {"in": "query", "pointer": "/n", "rule": "missing", "detail": "is missing"},
    ]
    _, chinese = render(breach, exchange_id="01", accept_language=b"zh-CN")
    assert [each["detail"] for each in json.loads(chinese)["errors"]] == ["类型应为 integer", "缺失"]


# At a running gateway. Nothing serves the service: a request that leaves is known by that.


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrialMesh]:
    async with trial_mesh(tmp_path_factory.mktemp("contracts"), gateways=0) as trial:
        await describe(trial, contract({"type": "object", "properties": {"name": {"maxLength": 4}}}))
        await trial.add_gateway()
        yield trial


async def describe(trial: TrialMesh, tree: Tree) -> None:
    """Register a document of the mesh's one service."""
    descriptions = Descriptions(trial.registry)
    await descriptions.register(
        ECHO, json.dumps(tree).encode(), actor=Actor.operator("test"), why="test", accept_breaking=True
    )


async def ask(trial: TrialMesh, method: str, path: str, body: Any = None) -> httpx.Response:
    context = client_context(trial.trust_anchors, *trial.files("caller"))
    async with httpx.AsyncClient(verify=context, timeout=20, trust_env=False) as client:
        return await client.request(
            method,
            f"{trial.url}/r1/{ECHO}{path}",
            headers={"x-road-client": CALLER, "datong-purpose": "trial"},
            json=body,
        )


@pytest.mark.asyncio(loop_scope="module")
async def test_a_request_that_breaks_the_contract_is_refused_recorded_and_never_leaves(mesh: TrialMesh) -> None:
    engine = create_engine(f"sqlite:///{mesh.folder / 'log.db'}")
    try:
        refused = await ask(mesh, "POST", "/people", {"name": SECRET})
        problem = refused.json()
        assert (refused.status_code, problem["rule"], problem["pointer"]) == (422, "contract-body", "/name")
        assert problem["errors"] == [
            {"in": "body", "pointer": "/name", "rule": "maxLength", "detail": "is longer than 4 characters"}
        ]
        assert SECRET not in refused.text
        entry = await LogReader(engine).entry(refused.headers["x-road-request-id"])
        assert entry is not None
        record = json.loads(entry.leaf)
        assert (record["outcome"], record["rule"], record["status"]) == ("refused", "contract-body", 422)
        path = await ask(mesh, "GET", "/people/x")
        assert (path.status_code, path.json()["rule"]) == (422, "contract-path")
        left = await ask(mesh, "POST", "/people", {"name": "张三"})
        assert (left.status_code, left.json()["rule"]) == (
            503,
            "adapter-connected",
        )
    finally:
        await engine.dispose()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_new_document_is_enforced_without_a_restart(mesh: TrialMesh) -> None:
    assert (await ask(mesh, "POST", "/people", {"name": "张三"})).status_code == 503
    await describe(mesh, contract({"type": "object", "properties": {"name": {"maxLength": 1}}}))
    async with asyncio.timeout(20):
        while (await ask(mesh, "POST", "/people", {"name": "张三"})).status_code != 422:
            await asyncio.sleep(0.02)
