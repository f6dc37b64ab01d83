"""Bad input to the management API: what is wrong is named by JSON pointer, in both languages, and nothing is changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from deploy.trial_mesh import CALLER, ECHO, PROVIDER, STRANGER
from exchange import compose_uscc, member_of
from tests.gateway.management_desk import Desk, made, told

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHY = {"why": "测试"}
UNTIL = {"valid_to": "2099-12-31"}
MEMBER = f"CN/GOV/{compose_uscc('11', '990000', '00009999')}"
FOREIGN = f"SE/GOV/{compose_uscc('11', '990000', '00009999')}/x"
GET = {"method": "GET", "path": "/a"}
GRANT = {"client": CALLER, "service": ECHO, "purposes": ["new"], **UNTIL, **WHY}
NAME = {"name": "测试", **WHY}
SERVICE = {"id": f"{PROVIDER}/new", "title_zh": "测试", "operations": [GET], **WHY}
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def less(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in body.items() if each != name}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _group(desk: Desk) -> None:
    group = {"id": "closed", "members": [CALLER], **NAME}
    made(await desk.post("operator", "/v1/groups", group), 201, "group")
    made(await desk.post("operator", "/v1/groups/closed/close", WHY), 200, "group")
    made(await desk.post("operator", "/v1/grants", {"id": "taken", **GRANT, "purposes": ["taken"]}), 201, "grant")


CASES: list[tuple[str, dict[str, Any], int, str, str]] = [
    # Members and subsystems
    ("/v1/members", {"id": MEMBER, **WHY}, 422, "body", "/name"),
    ("/v1/members", {"id": "CN/GOV", **NAME}, 422, "body", "/id"),
    ("/v1/members", {"id": f"CN/GOV/{'测' * 9}", **NAME}, 422, "body", "/id"),
    ("/v1/members", {"id": MEMBER[:-1], **NAME}, 422, "uscc-length", "/id"),
    ("/v1/members", {"id": MEMBER, "level": "moon", **NAME}, 422, "body", "/level"),
    ("/v1/members", {"id": MEMBER, "division": "45", **NAME}, 422, "body", "/division"),
    ("/v1/members", {"id": MEMBER, "division": "٤٥٠١٠٠", **NAME}, 422, "body", "/division"),
    ("/v1/members", {"id": MEMBER, "name": "x" * 501, **WHY}, 422, "body", "/name"),
    ("/v1/members", {"id": MEMBER, "name": "a\u202eb", **WHY}, 422, "body", "/name"),
    ("/v1/members", {"id": MEMBER, "name": "测试", "why": "  "}, 422, "body", "/why"),
    ("/v1/subsystems", {"id": f"{MEMBER}/x", **NAME}, 422, "registered", "/id"),
    ("/v1/subsystems", {"id": FOREIGN, **NAME}, 422, "registered", "/id"),
    ("/v1/subsystems", {"id": MEMBER, **NAME}, 422, "body", "/id"),
    ("/v1/subsystems", {"id": f"{PROVIDER}2", "roles": ["owner", "king"], **NAME}, 422, "body", "/roles/1"),
    # Services
    ("/v1/services", {**SERVICE, "id": f"{PROVIDER}x/new"}, 422, "registered", "/id"),
    ("/v1/services", {**SERVICE, "id": PROVIDER}, 422, "body", "/id"),
    ("/v1/services", {**SERVICE, "operations": []}, 422, "body", "/operations"),
    (
        "/v1/services",
        {**SERVICE, "operations": [GET, {"method": "get", "path": "/a"}]},
        422,
        "method",
        "/operations/1/method",
    ),
    (
        "/v1/services",
        {**SERVICE, "operations": [GET, {"method": "GET", "path": "a"}]},
        422,
        "path",
        "/operations/1/path",
    ),
    ("/v1/services", {**SERVICE, "operations": [GET, {"method": "GET"}]}, 422, "body", "/operations/1/path"),
    ("/v1/services", {**SERVICE, "operations": [GET, GET]}, 422, "operations", "/operations/1"),
    ("/v1/services", {**SERVICE, "operations": [{**GET, "save": True}]}, 422, "body", "/operations/0/save"),
    ("/v1/services", {**SERVICE, "timeout": 0}, 422, "body", "/timeout"),
    ("/v1/services", {**SERVICE, "timeout": 121}, 422, "body", "/timeout"),
    ("/v1/services", {**SERVICE, "timeout": "5"}, 422, "body", "/timeout"),
    ("/v1/services", {**SERVICE, "max_answer_bytes": 1 << 41}, 422, "body", "/max_answer_bytes"),
    (f"/v1/services/{ECHO}/close", {"notice": "", **WHY}, 422, "body", "/notice"),
    (f"/v1/services/{ECHO}/close", WHY, 422, "body", "/notice"),
    # Certificates
    ("/v1/certificates", {"subsystem": PROVIDER, "certificate": "x", **WHY}, 422, "certificate", "/certificate"),
    ("/v1/certificates", {"subsystem": PROVIDER, "certificate": "x", "use": "spy", **WHY}, 422, "body", "/use"),
    # Groups and roles
    ("/v1/groups", {"id": "Group", "members": [CALLER], **NAME}, 422, "group-id", "/id"),
    ("/v1/groups", {"id": "g7", "members": [CALLER], **NAME}, 422, "group-id", "/id"),
    ("/v1/groups", {"id": "empty", **NAME}, 422, "members", "/members"),
    ("/v1/groups", {"id": "new", "members": [CALLER, f"{CALLER}x"], **NAME}, 422, "registered", "/members/1"),
    ("/v1/groups", {"id": "new", "members": [CALLER, member_of(CALLER)], **NAME}, 422, "body", "/members/1"),
    ("/v1/groups", {"id": "new", "division": "4500000", **NAME}, 422, "body", "/division"),
    ("/v1/groups", {"id": "new", "subsystem_code": "a/b", **NAME}, 422, "subsystem_code", "/subsystem_code"),
    ("/v1/groups", {"id": "closed", "members": [CALLER], **NAME}, 409, "registered-state", "/id"),
    ("/v1/roles", {"subsystem": f"{CALLER}x", "role": "owner", **UNTIL, **WHY}, 422, "registered", "/subsystem"),
    ("/v1/roles", {"subsystem": CALLER, "role": "king", **UNTIL, **WHY}, 422, "body", "/role"),
    ("/v1/roles", {"subsystem": CALLER, "role": "owner", **WHY}, 422, "body", "/valid_to"),
    (
        "/v1/roles",
        {"subsystem": CALLER, "role": "owner", "valid_to": "2020-01-01", **WHY},
        422,
        "validity",
        "/valid_to",
    ),
    (
        "/v1/roles",
        {"subsystem": CALLER, "role": "owner", "valid_from": YESTERDAY, **UNTIL, **WHY},
        422,
        "grant-backdated",
        "/valid_from",
    ),
    # Grants
    ("/v1/grants", less(GRANT, "why"), 422, "body", "/why"),
    ("/v1/grants", less(GRANT, "client"), 422, "client", "/client"),
    ("/v1/grants", less(GRANT, "service"), 422, "service", "/service"),
    ("/v1/grants", less(GRANT, "purposes"), 422, "body", "/purposes"),
    ("/v1/grants", less(GRANT, "valid_to"), 422, "body", "/valid_to"),
    ("/v1/grants", {**GRANT, "group": "callers"}, 422, "client", "/client"),
    ("/v1/grants", {**GRANT, "resource": "R1"}, 422, "service", "/service"),
    ("/v1/grants", {**GRANT, "client": f"{CALLER}x"}, 422, "registered", "/client"),
    ("/v1/grants", {**GRANT, "client": FOREIGN}, 422, "registered", "/client"),
    ("/v1/grants", {**GRANT, "client": "*"}, 422, "body", "/client"),
    ("/v1/grants", {**GRANT, "service": f"{ECHO}x"}, 422, "registered", "/service"),
    ("/v1/grants", {**less(GRANT, "client"), "group": "none"}, 422, "registered", "/group"),
    ("/v1/grants", {**less(GRANT, "client"), "group": "closed"}, 409, "registered-state", "/group"),
    ("/v1/grants", {**less(GRANT, "service"), "resource": "none"}, 422, "registered", "/resource"),
    ("/v1/grants", {**GRANT, "purposes": []}, 422, "body", "/purposes"),
    ("/v1/grants", {**GRANT, "purposes": ["new", "a b"]}, 422, "body", "/purposes/1"),
    ("/v1/grants", {**GRANT, "purposes": ["new", ""]}, 422, "body", "/purposes/1"),
    ("/v1/grants", {**GRANT, "purposes": "new"}, 422, "body", "/purposes"),
    ("/v1/grants", {**GRANT, "method": "get"}, 422, "method", "/method"),
    ("/v1/grants", {**GRANT, "path": "a"}, 422, "path", "/path"),
    ("/v1/grants", {**GRANT, "path": "/" + "x" * 500}, 422, "body", "/path"),
    ("/v1/grants", {**GRANT, "items": ["a", "a..b"]}, 422, "items", "/items/1"),
    ("/v1/grants", {**GRANT, "masks": {"a": "none"}}, 422, "masks", "/masks/a"),
    ("/v1/grants", {**GRANT, "masks": {"a/b~": "none"}}, 422, "masks", "/masks/a~1b~0"),
    ("/v1/grants", {**GRANT, "items": ["a"], "masks": {"b": "name"}}, 422, "masks", "/masks/b"),
    ("/v1/grants", {**GRANT, "masks": {"a": 1}}, 422, "body", "/masks/a"),
    ("/v1/grants", {**GRANT, "quota_per_day": -1}, 422, "body", "/quota_per_day"),
    ("/v1/grants", {**GRANT, "quota_per_day": 10**15}, 422, "quota_per_day", "/quota_per_day"),
    ("/v1/grants", {**GRANT, "quota_per_second": 10**30}, 422, "quota_per_second", "/quota_per_second"),
    ("/v1/grants", {**GRANT, "quota_per_second": 1.5}, 422, "body", "/quota_per_second"),
    ("/v1/grants", {**GRANT, "quota_per_second": True}, 422, "body", "/quota_per_second"),
    ("/v1/grants", {**GRANT, "case_pattern": " A"}, 422, "case_pattern", "/case_pattern"),
    ("/v1/grants", {**GRANT, "signed_requests": "yes"}, 422, "body", "/signed_requests"),
    ("/v1/grants", {**GRANT, "valid_from": YESTERDAY}, 422, "grant-backdated", "/valid_from"),
    ("/v1/grants", {**GRANT, "valid_from": "2099-12-31", "valid_to": "2099-12-30"}, 422, "validity", "/valid_to"),
    ("/v1/grants", {**GRANT, "valid_to": "2099-02-30"}, 422, "body", "/valid_to"),
    ("/v1/grants", {**GRANT, "valid_to": "2099-12-31T00:00:00"}, 422, "body", "/valid_to"),
    ("/v1/grants", {**GRANT, "valid_to": "9999-12-31T23:59:59-08:00"}, 422, "body", "/valid_to"),
    ("/v1/grants", {**GRANT, "id": "G 1"}, 422, "grant-id", "/id"),
    ("/v1/grants", {**GRANT, "id": "g999"}, 422, "grant-id", "/id"),
    ("/v1/grants", {**GRANT, "id": "taken"}, 409, "registered-state", "/id"),
    ("/v1/grants", {**GRANT, "purposes": ["new", "taken"]}, 409, "grant-overlap", "/purposes/1"),
    ("/v1/grants", {**GRANT, "decided_by": "市长"}, 422, "body", "/decided_by"),
    ("/v1/grants/taken/revoke", {}, 422, "body", "/why"),
    ("/v1/grants/taken/revoke", {"why": 7}, 422, "body", "/why"),
    # Decisions
    ("/v1/decisions", {"method": "GET"}, 422, "body", "/service"),
    ("/v1/decisions", {"service": ECHO, "method": "get"}, 422, "body", "/method"),
    ("/v1/decisions", {"service": "x", "method": "GET"}, 422, "body", "/service"),
    ("/v1/decisions", {"service": ECHO, "method": "GET", "client": STRANGER[:-1] + "/"}, 422, "body", "/client"),
    ("/v1/decisions", {"service": ECHO, "method": "GET", "at": "now"}, 422, "body", "/at"),
    ("/v1/decisions", {"service": ECHO, "method": "GET", "signed": "no"}, 422, "body", "/signed"),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "rule", "pointer"), CASES, ids=[f"{case[0]}-{case[3]}{case[4]}" for case in CASES]
)
async def test_what_is_wrong_is_named_and_nothing_changed(
    desk: Desk, path: str, body: dict[str, Any], status: int, rule: str, pointer: str
) -> None:
    version = await desk.version()
    english = told(await desk.post("operator", path, body), status, rule, pointer)
    chinese = told(await desk.post("operator", path, body, lang="zh"), status, rule, pointer)
    assert english["detail"] != chinese["detail"]
    assert any("\u4e00" <= character <= "\u9fff" for character in chinese["detail"])
    assert await desk.version() == version


CHANGES = [
    ("POST", "/v1/members"),
    ("PUT", f"/v1/members/{member_of(CALLER)}"),
    ("POST", "/v1/subsystems"),
    ("PUT", f"/v1/subsystems/{CALLER}"),
    ("POST", f"/v1/subsystems/{CALLER}/suspend"),
    ("POST", "/v1/services"),
    ("PUT", f"/v1/services/{ECHO}"),
    ("POST", f"/v1/services/{ECHO}/close"),
    ("POST", f"/v1/services/{ECHO}/open"),
    ("POST", "/v1/certificates"),
    ("POST", f"/v1/certificates/{'0f' * 32}/revoke"),
    ("POST", "/v1/groups"),
    ("PUT", "/v1/groups/closed"),
    ("POST", "/v1/groups/closed/close"),
    ("POST", "/v1/roles"),
    ("POST", "/v1/roles/r1/revoke"),
    ("POST", "/v1/grants"),
    ("POST", "/v1/grants/taken/revoke"),
    ("POST", "/v1/decisions"),
]
BODIES: list[tuple[str, bytes, dict[str, str], int, str, str]] = [
    ("nothing", b"", {}, 400, "json", ""),
    ("half", b'{"why": "x",\n', {}, 400, "json", ""),
    ("no-object", b"[]", {}, 422, "body", ""),
    ("text", b"why=x", {"content_type": "text/plain"}, 415, "content-type", ""),
    ("form", b"why=x", {"content_type": "application/x-www-form-urlencoded"}, 415, "content-type", ""),
    ("zipped", b"{}", {"content_encoding": "gzip"}, 415, "content-coding", ""),
    ("latin-1", '{"why":"é"}'.encode("latin-1"), {}, 400, "json", ""),
    ("not-a-number", b'{"why": NaN}', {}, 400, "json", ""),
    ("twice", b'{"why": "x", "why": "y"}', {}, 422, "json-names", "/why"),
    ("half-a-character", b'{"why": "\\ud800"}', {}, 422, "json-text", "/why"),
    ("nul", b'{"why": "a\\u0000"}', {}, 422, "json-text", "/why"),
    ("deep", b'{"why": ' + b"[" * 100 + b"]" * 100 + b"}", {}, 422, "json-depth", "/why" + "/0" * 32),
    ("large", b'{"why": "' + b"x" * (1 << 20) + b'"}', {}, 413, "body-limit", ""),
]


@pytest.mark.parametrize(
    ("name", "body", "headers", "status", "rule", "pointer"), BODIES, ids=[each[0] for each in BODIES]
)
async def test_no_call_takes_a_body_that_is_none(
    desk: Desk, name: str, body: bytes, headers: dict[str, str], status: int, rule: str, pointer: str
) -> None:
    version = await desk.version()
    for method, path in CHANGES:
        told(await desk.call("operator", method, path, body, **headers), status, rule, pointer)
    assert await desk.version() == version


async def test_no_call_takes_members_and_parameters_it_does_not_know(desk: Desk) -> None:
    version = await desk.version()
    for method, path in CHANGES:
        told(await desk.call("operator", method, f"{path}?force=1", {}), 400, "query-parameter")
        problem = (await desk.call("operator", method, path, {"why": "x", "force": True})).json()
        assert (problem["status"], problem["rule"]) == (422, "body"), (method, path)
        told(await desk.call(None, method, path, b"{"), 401, "client-certificate")
    assert await desk.version() == version
