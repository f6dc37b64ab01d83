"""The management API as its own description has it: whatever is sent by it or against it, nothing breaks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from deploy.trial_mesh import CALLER, ECHO
from tests.gateway.management_desk import Desk

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

_ECHO = dict(zip(("instance", "member_class", "member", "subsystem", "service"), ECHO.split("/"), strict=True))
KNOWN = {**_ECHO, "group": "fuzzed", "grant": "fuzzed", "role_grant": "fuzzed"}
"""What is registered, for half of the addresses."""
NAMED = {
    "client": CALLER,
    "service": ECHO,
    "subsystem": CALLER,
    "method": "GET",
    "path": "/**",
    "id": "fuzzed",
    **dict.fromkeys(("name", "name_en", "title_zh", "title_en", "check_exception", "notice", "why"), "测试"),
}
"""And for half of the bodies."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
async def test_no_change_made_from_the_document_or_against_it_breaks_the_gateway(
    desk: Desk, mode: GenerationMode
) -> None:
    """As the operator, who may change everything; bounded, and the same every time."""
    described = (await desk.get(None, "/v1/openapi.json")).json()
    schema = schemathesis.openapi.from_dict(described)
    certificate, key = desk.trial.files("gateway")
    statuses: dict[str, set[int]] = {}

    def fuzz(session: requests.Session, path: str, method: str) -> None:
        @settings(
            # What is wrong by the document is refused by the same few rules, whatever it is.
            max_examples=20 if mode is GenerationMode.POSITIVE else 10,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=schema[path][method].as_strategy(generation_mode=mode), exists=st.booleans())
        def one(case: schemathesis.Case[Any], exists: bool) -> None:
            if exists:
                case.path_parameters.update({name: KNOWN[name] for name in case.path_parameters.keys() & KNOWN.keys()})
                if isinstance(case.body, dict):
                    case.body.update({name: NAMED[name] for name in case.body.keys() & NAMED.keys()})
            # Whom it names is tried elsewhere; here it must not keep every request from getting further.
            case.headers.pop("X-Road-Client", None)
            response = case.call(base_url=desk.trial.url, session=session, verify=session.verify, cert=session.cert)
            statuses.setdefault(f"{method} {path}", set()).add(response.status_code)
            case.validate_response(response, checks=CHECKS)

        one()

    with requests.Session() as session:
        session.cert = (str(certificate), str(key))
        session.verify = str(desk.trial.trust_anchors)
        session.trust_env = False
        for path, item in described["paths"].items():
            for method in [name for name, operation in item.items() if "requestBody" in operation]:
                await asyncio.to_thread(fuzz, session, path, method.upper())
    assert statuses
    if mode is GenerationMode.NEGATIVE:
        assert all(found & {400, 404, 415, 422} for found in statuses.values()), statuses
    else:
        reached = [call for call, found in statuses.items() if found & {200, 201}]
        assert len(reached) >= 8, "most calls must get to where something is changed"
