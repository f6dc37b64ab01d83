"""`/v1/resources`: the catalogue over mTLS, as each role meets it."""

from __future__ import annotations

import copy
import json
from typing import Any
from urllib.parse import quote

import pytest

from deploy.trial_mesh import ECHO, PROVIDER, STRANGER
from registry import candidates_in_workbook
from tests.gateway.management_desk import CLERK, INTEGRATOR, Desk, made, told

pytestmark = pytest.mark.asyncio(loop_scope="module")

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
WHY = "目录更新〔2026〕3号"
REASON = {"datong_why": quote(WHY)}
RESOURCE: dict[str, Any] = {
    "code": "306001/000001",
    "classification": {
        "category": {"code": "3", "name": "部门信息资源"},
        "subcategory": {"code": "06", "name": "税务"},
        "entry": {"code": "001", "name": "登记"},
    },
    "provider": PROVIDER,
    "name": "纳税人登记信息",
    "name_en": "Taxpayer registration",
    "abstract": "登记名称与状态。",
    "format": "database",
    "items": [
        {"path": "uscc", "name": "统一社会信用代码", "sensitivity": "public"},
        {"path": "owner.name", "name": "法定代表人姓名", "sensitivity": "personal", "mask": "name"},
    ],
    "sharing_class": "conditional",
    "conditions": "用于资格核查",
    "mode": "query-interface",
    "update_cycle": "daily",
    "themes": ["税务"],
    "accesses": [{"service": ECHO, "method": "GET", "path": "/**"}],
    "why": WHY,
}


def body(code: str, **changes: Any) -> dict[str, Any]:
    """A resource of its own for each test: the desk is shared."""
    return {**copy.deepcopy(RESOURCE), "code": code, **changes}


async def published(desk: Desk, code: str, **changes: Any) -> dict[str, Any]:
    made(await desk.post("integrator", "/v1/resources", body(code, **changes)), 201, "resource")
    return made(await desk.post("owner", f"/v1/resources/{code}/publish", {"why": WHY}), 200, "resource")


async def found(desk: Desk, party: str = "caller", **query: Any) -> list[str]:
    answered = await desk.get(
        party, "/v1/resources?" + "&".join(f"{key}={quote(str(value))}" for key, value in query.items())
    )
    assert answered.status_code == 200, answered.text
    return [each["code"] for each in answered.json()["resources"]]


async def test_a_resource_is_drafted_published_found_and_withdrawn(desk: Desk) -> None:
    code = "306001/000101"
    draft = made(await desk.post("integrator", "/v1/resources", body(code)), 201, "resource")
    assert (draft["state"], draft["version"], draft["resource"]) == ("draft", 0, None)
    assert draft["draft"]["items"][1]["mask"] == "name"
    again = await desk.post("integrator", "/v1/resources", body(code))
    assert made(again, 200, "resource") == draft
    told(await desk.get("caller", f"/v1/resources/{code}"), 404, "exists")
    shown = made(await desk.post("owner", f"/v1/resources/{code}/publish", {"why": WHY}), 200, "resource")
    assert (shown["state"], shown["version"], shown["draft"]) == ("published", 1, None)
    for address in (code, quote(code, safe="")):
        seen = await desk.get("stranger", f"/v1/resources/{address}")
        assert seen.json() == shown, "the slash of a code may be written either way"
    assert shown["department"]["uscc"] == PROVIDER.split("/")[2]
    assert await found(desk, q="纳税人 法定代表人") == [code]
    withdrawn = made(await desk.post("owner", f"/v1/resources/{code}/withdraw", {"why": "职责调整"}), 200, "resource")
    assert withdrawn["state"] == "withdrawn"
    assert code not in await found(desk, q="纳税人")
    assert code in await found(desk, state="withdrawn")


async def test_the_snapshot_that_decides_calls_knows_at_once(desk: Desk) -> None:
    code = "306001/000102"
    await published(desk, code)
    (entry,) = [each for each in (await desk.trial.registry.rows_since(0)).resources if each.code == code]
    assert (entry.active, entry.accesses[0].service) == (True, ECHO)


async def test_versions_say_what_changed_by_whom_and_why(desk: Desk) -> None:
    code = "306001/000103"
    await published(desk, code)
    changed = body(code, conditions="用于资格核查与信用评价", why="扩大用途")
    put = made(await desk.call("integrator", "PUT", f"/v1/resources/{code}", changed), 200, "resource")
    assert (put["resource"]["conditions"], put["draft"]["conditions"]) == ("用于资格核查", "用于资格核查与信用评价")
    assert (await desk.get("caller", f"/v1/resources/{code}")).json()["draft"] is None
    await desk.post("owner", f"/v1/resources/{code}/publish", {"why": "发布第二版"})
    newest, first = (await desk.get("caller", f"/v1/resources/{code}/versions")).json()["versions"]
    assert (newest["version"], newest["by"], newest["why"]) == (2, f"{PROVIDER} ({CLERK})", "发布第二版")
    (difference,) = newest["differences"]
    assert difference == {
        "pointer": "/conditions",
        "kind": "changed",
        "before": "用于资格核查",
        "after": "用于资格核查与信用评价",
    }
    assert first == (await desk.get("stranger", f"/v1/resources/{code}/versions/1")).json()
    assert first["resource"]["conditions"] == "用于资格核查"
    for number in ("0", "3", "x", "1e0"):
        told(await desk.get("caller", f"/v1/resources/{code}/versions/{number}"), 404, "exists")


async def test_who_and_why_are_on_record_with_the_certificate(desk: Desk) -> None:
    code = "306001/000104"
    version = await desk.version()
    await published(desk, code)
    added, put = await desk.trial.registry.changes(after=version)
    assert (added.action, added.by, added.why) == ("resource.add", f"{INTEGRATOR} ({CLERK})", WHY)
    assert (put.action, put.by) == ("resource.publish", f"{PROVIDER} ({CLERK})")
    assert len(added.certificate) == 64
    assert added.certificate != put.certificate


async def test_who_may_do_what(desk: Desk) -> None:
    code = "306001/000105"
    for party in ("other", "caller", "stranger", "auditor"):
        told(await desk.post(party, "/v1/resources", body(code)), 403, "role")
    told(await desk.post(None, "/v1/resources", body(code)), 401, "client-certificate")
    told(await desk.get(None, "/v1/resources"), 401, "client-certificate")
    await desk.post("integrator", "/v1/resources", body(code))
    for party in ("other", "caller", "stranger"):
        for verb in ("publish", "withdraw"):
            told(await desk.post(party, f"/v1/resources/{code}/{verb}", {"why": WHY}), 404, "exists")
        told(await desk.get(party, f"/v1/resources/{code}/versions"), 404, "exists")
        assert code not in await found(desk, party, state="draft")
    for party in ("integrator", "auditor"):
        told(await desk.post(party, f"/v1/resources/{code}/publish", {"why": WHY}), 403, "role")
        assert (await desk.get(party, f"/v1/resources/{code}")).json()["draft"] is not None
        assert code in await found(desk, party, state="draft")
    assert (await desk.post("operator", f"/v1/resources/{code}/publish", {"why": WHY})).status_code == 200
    assert code in await found(desk, "stranger", q="纳税人")


@pytest.mark.parametrize(
    ("changes", "status", "rule", "pointer"),
    [
        ({"why": ""}, 422, "body", "/why"),
        ({"name": ""}, 422, "text", "/name"),
        ({"name": 7}, 422, "body", "/name"),
        ({"colour": "red"}, 422, "body", "/colour"),
        ({"items": [{"path": "a", "name": "a"}, {"path": "a..b", "name": "b"}]}, 422, "item-path", "/items/1/path"),
        ({"items": [{"path": "a", "name": "a", "length": "1"}]}, 422, "body", "/items/0/length"),
        ({"sharing_class": "free"}, 422, "choice", "/sharing_class"),
        ({"conditions": ""}, 422, "conditions", "/conditions"),
        ({"sharing_class": "not-shared", "conditions": ""}, 422, "legal-basis", "/legal_basis"),
        ({"code": "2020/5118551960"}, 422, "resource-code", "/code"),
        ({"linked": ["x"]}, 422, "resource-code", "/linked/0"),
        ({"publication_date": "2026-02-30"}, 422, "body", "/publication_date"),
        ({"accesses": [{"service": f"{PROVIDER}/nothing"}]}, 422, "registered", "/accesses/0/service"),
        ({"accesses": [{"service": f"{STRANGER}/x"}]}, 422, "access", "/accesses/0/service"),
        ({"department": {"uscc": "91450100MA5K000000"}}, 422, "department", "/department/uscc"),
        ({"division": "４５0100"}, 422, "division", "/division"),
    ],
)
async def test_bad_input_names_its_member_and_changes_nothing(
    desk: Desk, changes: dict[str, Any], status: int, rule: str, pointer: str
) -> None:
    version = await desk.version()
    sent = {**body("306001/000106"), **changes}
    problem = told(await desk.post("operator", "/v1/resources", sent), status, rule, pointer)
    chinese = told(await desk.post("operator", "/v1/resources", sent, lang="zh"), status, rule, pointer)
    assert problem["detail"] != chinese["detail"]
    assert await desk.version() == version


async def test_an_unknown_provider_is_named_to_the_operator(desk: Desk) -> None:
    sent = body("306001/000107", provider=f"{PROVIDER}x", accesses=[])
    told(await desk.post("operator", "/v1/resources", sent), 422, "registered", "/provider")


async def test_conflicts_and_addresses(desk: Desk) -> None:
    code = "306001/000108"
    await desk.post("integrator", "/v1/resources", body(code))
    told(await desk.post("integrator", "/v1/resources", body(code, name="另一名称")), 409, "registered-state", "/code")
    told(await desk.call("integrator", "PUT", "/v1/resources/306001/1", body(code)), 422, "resource-code", "/code")
    for path in ("x/publish", "306001/999999/withdraw"):
        told(await desk.post("operator", f"/v1/resources/{path}", {"why": WHY}), 404, "exists")
    told(await desk.post("owner", f"/v1/resources/{code}/publish", {"why": " "}), 422, "body", "/why")
    told(await desk.post("owner", f"/v1/resources/{code}/publish", b"{", lang="en"), 400, "json")
    told(await desk.get("caller", "/v1/resources/%00"), 404, "exists")
    told(await desk.get("caller", "/v1/resources/" + "x" * 500), 404, "exists")


async def test_a_search_has_filters_pages_and_near_matches(desk: Desk) -> None:
    codes = [f"306001/00011{number}" for number in range(3)]
    for number, code in enumerate(codes):
        await published(
            desk, code, name=f"水库水位监测{number}", themes=["水利"], division="450103", mode="file", accesses=[]
        )
    assert await found(desk, q="水库") == codes
    assert await found(desk, theme="水利", division="450100", mode="file", sharing_class="conditional") == codes
    assert await found(desk, department=PROVIDER, item="法定代表人", q="水位 2") == codes[2:]
    page = (await desk.get("caller", "/v1/resources?q=%E6%B0%B4%E5%BA%93&limit=2")).json()
    assert ([each["code"] for each in page["resources"]], page["match"]) == (codes[:2], "exact")
    rest = await found(desk, q="水库", limit=2, cursor=page["next_cursor"])
    assert rest == codes[2:]
    near = (await desk.get("caller", f"/v1/resources?q={quote('水库水质')}")).json()
    assert (near["match"], len(near["resources"])) == ("close-name", 3)
    for query in (
        "colour=red",
        "q=",
        "limit=0",
        "limit=501",
        "mode=x",
        "division=45",
        "q=a&q=b",
        "cursor=!",
        "cursor=WzFd",
    ):
        told(await desk.get("caller", f"/v1/resources?{query}"), 400, "query-parameter")
    told(await desk.get("caller", f"/v1/resources?q={'%20'.join('abcdefghijk')}"), 400, "search-words")


async def test_an_import_is_all_or_nothing_and_can_be_tried(desk: Desk) -> None:
    def catalogue(*resources: dict[str, Any]) -> dict[str, Any]:
        return {
            "format": "datong-catalogue/1",
            "resources": [{k: v for k, v in each.items() if k != "why"} for each in resources],
        }

    one, two = body("306001/000121"), body("306001/000122")
    version = await desk.version()
    bad = catalogue(one, {**two, "name": ""}, {**two, "code": "x"})
    tried = await desk.post("integrator", "/v1/resources/import?dry_run=true", bad, **REASON, lang="zh")
    report = tried.json()
    assert (tried.status_code, report["applied"], report["added"]) == (200, False, ["306001/000121"])
    assert [each["pointer"] for each in report["faults"]] == ["/resources/1/name", "/resources/2/code"]
    assert "单行文本" in report["faults"][0]["detail"]
    refused = await desk.post("integrator", "/v1/resources/import", bad, **REASON)
    assert "1 more" in told(refused, 422, "text", "/resources/1/name")["detail"]
    told(await desk.post("integrator", "/v1/resources/import", bad), 422, "why", "/why")
    told(await desk.post("caller", "/v1/resources/import", catalogue(one), **REASON), 403, "role")
    told(await desk.post("integrator", "/v1/resources/import?publish=true", catalogue(one), **REASON), 403, "role")
    told(
        await desk.post("integrator", "/v1/resources/import", {"resources": []}, **REASON),
        422,
        "catalogue-format",
        "/format",
    )
    assert await desk.version() == version
    done = await desk.post("owner", "/v1/resources/import?publish=true", catalogue(one, two), **REASON)
    assert done.json() == {
        "applied": True,
        "added": ["306001/000121", "306001/000122"],
        "changed": [],
        "unchanged": [],
        "faults": [],
    }
    assert (await desk.get("stranger", "/v1/resources/306001/000122")).json()["state"] == "published"
    again = await desk.post("owner", "/v1/resources/import", catalogue(one, two), **REASON)
    assert len(again.json()["unchanged"]) == 2


async def test_a_workbook_goes_out_and_comes_back(desk: Desk) -> None:
    code = "306001/000131"
    await published(desk, code, name="=1+1")
    answered = await desk.get("caller", "/v1/resources/export?format=xlsx&code=" + quote(code, safe=""))
    assert (answered.status_code, answered.headers["content-type"]) == (200, XLSX)
    assert "catalogue.xlsx" in answered.headers["content-disposition"]
    assert len(candidates_in_workbook(answered.content)) == 1
    sent = await desk.call("owner", "POST", "/v1/resources/import", answered.content, content_type=XLSX, **REASON)
    assert sent.json()["unchanged"] == [code]
    told(await desk.call("owner", "POST", "/v1/resources/import", b"PK", content_type=XLSX, **REASON), 422, "workbook")
    told(
        await desk.call("owner", "POST", "/v1/resources/import", b"a,b", content_type="text/csv", **REASON),
        415,
        "content-type",
    )
    too_large = b"PK" + bytes(9 << 20)
    told(
        await desk.call("owner", "POST", "/v1/resources/import", too_large, content_type=XLSX, **REASON),
        413,
        "body-limit",
    )


async def test_the_catalogue_is_exported_in_each_form(desk: Desk) -> None:
    code = "306001/000141"
    await published(desk, code)
    plain = await desk.get("stranger", "/v1/resources/export")
    assert plain.headers["content-type"] == "application/json"
    assert code in [each["code"] for each in plain.json()["resources"]]
    nobody = await desk.get("stranger", f"/v1/resources/export?department={quote(STRANGER, safe='')}")
    assert nobody.json()["resources"] == []
    graph = await desk.get("stranger", "/v1/resources/export?format=dcat")
    assert graph.headers["content-type"] == "application/ld+json"
    nodes = {node["@id"]: node for node in json.loads(graph.content)["@graph"]}
    assert f"{desk.trial.url}/v1/resources/{code}" in nodes
    assert any("dcat:Catalog" in node["@type"] for node in nodes.values())
    one = await desk.get("stranger", f"/v1/resources/export?format=dcat&code={quote(code)}")
    assert not any("dcat:Catalog" in node["@type"] for node in one.json()["@graph"])
    told(await desk.get("stranger", "/v1/resources/export?format=pdf"), 400, "query-parameter")
    told(await desk.get("stranger", "/v1/resources/export?code=x"), 404, "exists")
    await desk.post("integrator", "/v1/resources", body("306001/000142"))
    for party in ("stranger", "owner"):
        told(await desk.get(party, "/v1/resources/export?code=306001/000142"), 404, "exists")
