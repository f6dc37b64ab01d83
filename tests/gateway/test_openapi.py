"""`/v1/openapi.json`: a valid document that tells the whole truth, tried against the running gateway."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from deploy.trial_mesh import CALLER, STRANGER
from gateway.api.exchange_filters import ExchangeSearch
from gateway.api.paging import MAX_PAGE
from tests.gateway.exchange_mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC = {
    "/v1/keys",
    "/v1/log/checkpoint",
    "/log/checkpoint",
    "/log/tile/{level}/{index}",
    "/listClients",
    "/v1/misses",
    "/v1/misses/summary",
    "/healthz",
    "/readyz",
    "/problems",
    "/problems/{code}",
}
"""What is answered to anybody; everything else needs a certificate."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


async def document(mesh: Mesh) -> dict[str, Any]:
    response = await mesh.client(None).get("/v1/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def operations(found: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, operation) for path, item in found["paths"].items() for method, operation in item.items()]


async def test_the_document_is_valid_openapi_3_1(mesh: Mesh) -> None:
    found = await document(mesh)
    assert found["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(found).iter_errors()] == []
    # `exception` is a word of ours here, and of nobody's traceback.
    said = re.sub("(?i)(check|base)[_ ]exception", "", json.dumps(found)).casefold()
    assert [secret for secret in mesh.secrets() if secret.casefold() in said] == []


async def test_it_says_who_needs_a_certificate(mesh: Mesh) -> None:
    found = await document(mesh)
    assert found["components"]["securitySchemes"]["clientCertificate"]["type"] == "mutualTLS"
    for path, method, operation in operations(found):
        address = path.replace("{code}", "conflict").replace("{fingerprint}", "0f" * 32).replace("{version}", "1")
        address = address.replace("{level}", "0").replace("{index}", "000.p/1")
        answered = await mesh.client(None).request(method, re.sub(r"\{\w+\}", "x", address))
        assert answered.status_code == (200 if path in PUBLIC else 401), (method, path)
        assert bool(operation.get("security")) == (path not in PUBLIC)
        if path not in PUBLIC:
            headers = {each["name"]: each["required"] for each in operation["parameters"] if each["in"] == "header"}
            assert headers["X-Road-Client"] is False


async def test_every_operation_describes_its_errors_as_problems_with_examples(mesh: Mesh) -> None:
    found = await document(mesh)
    problem = found["components"]["schemas"]["Problem"]
    assert set(problem["required"]) == {"type", "title", "status", "detail", "rule", "next", "source"}
    for path, method, operation in operations(found):
        assert operation["summary"], path
        errors = {status: each for status, each in operation["responses"].items() if status[0] not in "23"}
        if path not in PUBLIC:
            assert {"400", "401", "403", "503", "default"} <= errors.keys(), (method, path)
        if "requestBody" in operation:
            assert {"413", "415", "422"} <= errors.keys(), (method, path)
        if path == "/readyz":
            continue  # not a problem: the same answer, with what is missing
        for status, reference in errors.items():
            each = found["components"]["responses"][reference["$ref"].rpartition("/")[2]]
            content = each["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for name, example in content["examples"].items():
                value = example["value"]
                assert set(problem["required"]) <= value.keys() <= set(problem["properties"])
                assert status in ("default", str(value["status"]))
                assert name == f"{value['rule']}-{'zh' if name.endswith('-zh') else 'en'}"
    # What the framework announces by itself, and nothing here answers.
    assert "HTTPValidationError" not in found["components"]["schemas"]


async def test_every_body_is_described_strictly(mesh: Mesh) -> None:
    """Calls take nothing that they do not name; and what changes the registry by itself asks for the reason."""
    found = await document(mesh)
    nouns = {"members", "subsystems", "services", "certificates", "groups", "roles", "grants"}
    for path, method, operation in operations(found):
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        if "$ref" in schema:
            schema = found["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            assert schema["additionalProperties"] is False, (method, path)
            assert "why" in schema.get("required", ()) or not nouns & set(operation["tags"]), (method, path)


async def test_the_filters_are_described_with_examples_that_work(mesh: Mesh) -> None:
    found = await document(mesh)
    parameters = {
        each["name"]: each for each in found["paths"]["/v1/exchanges"]["get"]["parameters"] if each["in"] == "query"
    }
    assert parameters.keys() == ExchangeSearch.model_fields.keys()
    assert all(not each["required"] for each in parameters.values())
    assert parameters["limit"]["schema"]["maximum"] == MAX_PAGE
    # In their own schema or, for older tools, beside it.
    examples = {
        name: (each["schema"].get("examples") or each.get("examples") or [None])[0] for name, each in parameters.items()
    }
    del examples["limit"]
    assert all(examples.values())
    assert (await mesh.client("auditor").get("/v1/exchanges", params=examples)).status_code == 200


@contextmanager
def caller(mesh: Mesh, party: str) -> Iterator[requests.Session]:
    """The HTTP client that the generator of requests works with."""
    certificate, key = mesh.trial.files(party)
    with requests.Session() as session:
        session.cert = (str(certificate), str(key))
        session.verify = str(mesh.trial.trust_anchors)
        session.trust_env = False
        yield session


async def test_no_request_made_from_the_document_or_against_it_breaks_the_gateway(mesh: Mesh) -> None:
    """Bounded, and the same every time: no 5xx, and every answer is one that the document announces."""
    known = (await mesh.ask()).record["id"]
    await mesh.ask(party="stranger", client=STRANGER)
    described = await document(mesh)
    schema = schemathesis.openapi.from_dict(described)
    statuses: dict[str, set[int]] = {path: set() for path in described["paths"]}
    with caller(mesh, "auditor") as session:

        def fuzz(path: str, mode: GenerationMode) -> None:
            @settings(
                max_examples=20,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=schema[path]["GET"].as_strategy(generation_mode=mode), exists=st.booleans())
            def one(case: schemathesis.Case[Any], exists: bool) -> None:
                if exists and "exchange_id" in case.path_parameters:
                    case.path_parameters["exchange_id"] = known
                # Whom it names is tried elsewhere; here it must not keep every request from getting further.
                case.headers.pop("X-Road-Client", None)
                response = case.call(base_url=mesh.url, session=session, verify=session.verify, cert=session.cert)
                statuses[path].add(response.status_code)
                case.validate_response(response, checks=CHECKS)

            one()

        for path in [path for path, item in described["paths"].items() if "get" in item]:
            await asyncio.to_thread(fuzz, path, GenerationMode.POSITIVE)
        # The one operation whose parameters can be wrong by the document.
        await asyncio.to_thread(fuzz, "/v1/exchanges", GenerationMode.NEGATIVE)
    assert statuses["/v1/exchanges"] == {200, 400}
    assert {200, 404} <= statuses["/v1/exchanges/{exchange_id}"] <= {200, 400, 404}
    assert {200, 404} <= statuses["/v1/exchanges/{exchange_id}/receipt"] <= {200, 400, 404}


async def test_no_query_string_can_be_made_into_a_failure(mesh: Mesh) -> None:
    """Names that exist with any value, values that are right under any name, and bytes that are neither."""
    await mesh.ask()
    names = st.sampled_from(["client", "since", "until", "cursor", "limit", "rule", "outcome", "service", ""])
    values = st.one_of(st.text(max_size=30), st.sampled_from([CALLER, "1", "9" * 18, "2026-11-23T08:00:00Z"]))
    pairs = st.lists(st.tuples(names | st.text(max_size=8), values), max_size=3)
    with caller(mesh, "auditor") as session:

        @settings(
            max_examples=150,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(
            query=pairs.map(lambda each: urlencode(each, errors="surrogatepass")) | st.binary(max_size=40).map(quote)
        )
        def one(query: str) -> None:
            response = session.get(f"{mesh.url}/v1/exchanges?{query}")
            assert response.status_code in (200, 400), query
            assert response.json().get("rule", "query-parameter") == "query-parameter"

        await asyncio.to_thread(one)
