"""`/v1/changes`: auditors and operators see who decided what, makers their own, and the log has each."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from deploy.trial_mesh import AUDITOR, CALLER, PROVIDER
from exchange import MemberId, verify_receipt
from gateway.api.changes import ChangePage, ChangeView
from registry import Change, Member, Operation, Service
from tests.gateway.exchange_mesh import Mesh, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

LI = f"{CALLER} (李四)"


async def get(mesh: Mesh, path: str, *, party: str | None = "auditor") -> httpx.Response:
    return await mesh.client(party).get(path)


async def listed(mesh: Mesh, *, party: str = "auditor", **parameters: Any) -> ChangePage:
    """A page, checked against its declared form."""
    response = await get(mesh, f"/v1/changes?{urlencode(parameters)}", party=party)
    assert response.status_code == 200, response.text
    return ChangePage.model_validate_json(response.content, strict=True, extra="forbid")


async def shown(mesh: Mesh, version: int, *, party: str = "auditor") -> ChangeView:
    response = await get(mesh, f"/v1/changes/{version}", party=party)
    assert response.status_code == 200, response.text
    return ChangeView.model_validate_json(response.content, strict=True, extra="forbid")


async def changed(mesh: Mesh, number: int, *, by: str = LI, name: str = "某局") -> Change:
    """Make a change, and wait until it is on the log."""
    member = Member(id=MemberId(f"CN/GOV/N{number}"), name=name, check_exception="试验")
    change = await mesh.trial.registry.add_member(member, by=by, why=f"函〔2026〕{number}号", replace=True)
    assert change is not None
    await recorded(mesh, change)
    return change


async def recorded(mesh: Mesh, change: Change) -> ChangeView:
    async with asyncio.timeout(20):
        while (view := await shown(mesh, change.version)).seq is None:
            await asyncio.sleep(0.01)
    return view


@contextmanager
def database(mesh: Mesh, name: str) -> Iterator[sqlite3.Connection]:
    """A database behind the gateway's back."""
    with closing(sqlite3.connect(mesh.trial.folder / name, isolation_level=None)) as connection:
        yield connection


async def test_an_auditor_sees_who_decided_what_and_when_and_where_it_is_on_record(mesh: Mesh) -> None:
    before = datetime.now(UTC)
    change = await changed(mesh, 1)
    (view,) = (await listed(mesh, limit=1)).changes
    assert (view.version, view.by, view.why, view.action) == (change.version, LI, "函〔2026〕1号", "member.add")
    assert (view.target, view.before, view.after["name"]) == ("CN/GOV/N1", None, "某局")
    assert abs(datetime.fromisoformat(view.at) - before) < timedelta(seconds=30)
    entry = await mesh.log.entry(view.entry)
    assert entry is not None
    assert (entry.seq, entry.outcome) == (view.seq, "change")
    assert view.receipt == f"{mesh.url}/v1/exchanges/{view.entry}/receipt"
    assert view == await shown(mesh, change.version)
    assert view == (await listed(mesh, limit=1, party="gateway")).changes[0], "an operator sees the same"


async def test_everything_since_the_first_change_is_there_and_on_the_log(mesh: Mesh) -> None:
    last = await changed(mesh, 2)
    await recorded(mesh, last)
    found = (await listed(mesh, limit=500)).changes
    assert [view.version for view in found] == list(range(last.version, 0, -1))
    assert all(view.seq is not None for view in found)


async def test_the_receipt_of_a_change_verifies_with_the_key_list_alone(mesh: Mesh) -> None:
    view = await recorded(mesh, await changed(mesh, 3))
    assert view.receipt is not None
    response = await get(mesh, view.receipt.removeprefix(mesh.url))
    assert response.status_code == 200
    checks = verify_receipt(response.content, (await get(mesh, "/v1/keys", party=None)).content)
    assert [check for check in checks if not check.ok] == []
    told = {check.name: check.en for check in checks}
    assert "member.add CN/GOV/N3" in told["change"]
    assert "函〔2026〕3号" in told["change"]
    assert LI in told["decider"]


async def test_the_list_of_exchanges_shows_changes_only_to_those_who_ask(mesh: Mesh) -> None:
    view = await recorded(mesh, await changed(mesh, 4))
    reply = await mesh.ask()

    async def ids(parameters: str) -> list[str]:
        response = await get(mesh, f"/v1/exchanges?limit=500&{parameters}")
        assert response.status_code == 200, response.text
        return [each["record"]["id"] for each in response.json()["exchanges"]]

    exchanges, changes, every = await ids(""), await ids("kind=change"), await ids("kind=any")
    assert view.entry not in exchanges
    assert reply.record["id"] not in changes
    assert {view.entry, reply.record["id"]} <= set(every)
    assert await ids("kind=change&rule=member.add&service=CN/GOV/N/n/n") == []
    record = (await get(mesh, f"/v1/exchanges/{view.entry}")).json()["record"]
    assert (record["kind"], record["by"], record["target"]) == ("change", LI, "CN/GOV/N4")


async def test_each_filter_finds_exactly_what_it_names(mesh: Mesh) -> None:
    for number, by in ((5, LI), (6, LI), (7, CALLER), (8, f"{CALLER}-other"), (9, "操作员")):
        await changed(mesh, number, by=by)
    await changed(mesh, 5, name="改名")
    everything = (await listed(mesh, limit=500)).changes

    async def found(**wanted: str) -> list[int]:
        return [view.version for view in (await listed(mesh, limit=500, **wanted)).changes]

    def among(condition: Any) -> list[int]:
        return [view.version for view in everything if condition(view)]

    assert await found(target="CN/GOV/N5") == among(lambda view: view.target == "CN/GOV/N5")
    assert len(await found(target="CN/GOV/N5")) == 2
    assert await found(action="member") == among(lambda view: view.action.startswith("member."))
    assert await found(action="member.replace") == among(lambda view: view.action == "member.replace")
    assert await found(by=f"{CALLER} (") == among(lambda view: view.by == LI)
    assert await found(by=CALLER, target="CN/GOV/N7") == among(lambda view: view.target == "CN/GOV/N7")
    assert await found(by="%") == await found(target="' OR 1=1 --") == await found(action="grant_") == []
    middle = everything[len(everything) // 2]
    assert await found(since=middle.at) == among(lambda view: view.at >= middle.at)
    assert await found(until=middle.at) == among(lambda view: view.at < middle.at)


async def test_pages_stay_right_while_changes_are_made(mesh: Mesh) -> None:
    await changed(mesh, 10)
    whole = [view.version for view in (await listed(mesh, limit=500)).changes]
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = await listed(mesh, limit=3, **cursor)
        seen += [view.version for view in page.changes]
        await changed(mesh, 10, name=f"第{len(seen)}次")
        if page.next_cursor is None:
            break
        cursor = {"cursor": page.next_cursor}
    assert seen == whole


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("colour=red", "colour"),
        ("target=a&target=b", "target"),
        ("target=", "target"),
        ("action=Grant", "action"),
        ("action=%25", "action"),
        ("by=%00", "by"),
        ("since=yesterday", "since"),
        ("since=2026-05-04T12:00:00Z&until=2026-05-04T12:00:00Z", "since"),
        ("cursor=4711", "cursor"),
        ("cursor=WyJ4Il0", "cursor"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
    ],
)
async def test_a_search_that_cannot_be_meant_is_refused_and_names_the_parameter(
    mesh: Mesh, query: str, says: str
) -> None:
    problem = mesh.told(await get(mesh, f"/v1/changes?{query}"), 400, "query-parameter")
    assert says in problem["detail"]


async def test_only_auditors_and_operators_search(mesh: Mesh) -> None:
    for party in ("caller", "provider", "stranger"):
        mesh.told(await get(mesh, "/v1/changes", party=party), 403, "role")
    mesh.told(await get(mesh, "/v1/changes", party=None), 401, "client-certificate")
    mesh.told(await get(mesh, "/v1/changes", party="ghost"), 403, "client-registered")


@pytest.mark.parametrize("more", ["", "/receipt"])
async def test_one_change_is_shown_to_its_maker_and_to_those_who_may_search(mesh: Mesh, more: str) -> None:
    view = await recorded(mesh, await changed(mesh, 11, by=LI, name=f"由调用方{more}"))
    paths = [f"/v1/exchanges/{view.entry}{more}"] if more else [f"/v1/changes/{view.version}"]
    paths += [f"/v1/exchanges/{view.entry}"]
    for path in paths:
        for party in ("auditor", "gateway", "caller"):
            assert (await get(mesh, path, party=party)).status_code == 200, (path, party)
        for party in ("provider", "stranger"):
            mesh.told(await get(mesh, path, party=party), 404, "exists")


async def test_a_subsystem_whose_name_begins_alike_is_not_the_maker(mesh: Mesh) -> None:
    change = await changed(mesh, 12, by=f"{CALLER}-other (李四)")
    mesh.told(await get(mesh, f"/v1/changes/{change.version}", party="caller"), 404, "exists")


@pytest.mark.parametrize("version", ["0", "-1", "x", "1.0", "99999999", "9" * 40, "%00", "１", "1%20"])
async def test_what_is_no_change_is_not_found(mesh: Mesh, version: str) -> None:
    mesh.told(await get(mesh, f"/v1/changes/{version}"), 404, "exists")


async def test_a_long_document_is_listed_by_its_digest_and_shown_in_full(mesh: Mesh) -> None:
    operations = tuple(f"/path/{number}/{'x' * 60}" for number in range(200))
    long = Service(id=service("long"), title_zh="长", operations=tuple(Operation.of("GET", one) for one in operations))
    change = await mesh.trial.registry.add_service(long, by=AUDITOR, why="test")
    assert change is not None
    await recorded(mesh, change)
    (view,) = (await listed(mesh, limit=1)).changes
    assert view.after["title_zh"] == "长"
    assert "operations" not in view.after
    assert view.after_digests["operations"]["size"] > 10_000
    whole = await shown(mesh, change.version)
    assert len(whole.after["operations"]) == 200
    assert whole.after_digests == {}
    assert whole.entry == view.entry


async def test_a_row_that_was_altered_is_not_found_on_the_log(mesh: Mesh) -> None:
    view = await recorded(mesh, await changed(mesh, 13))
    with database(mesh, "registry.db") as connection:
        connection.execute("UPDATE registry_changes SET why = '别的理由' WHERE version = ?", (view.version,))
        altered = await shown(mesh, view.version)
        connection.execute("UPDATE registry_changes SET why = ? WHERE version = ?", (view.why, view.version))
    assert (altered.seq, altered.receipt) == (None, None)
    assert altered.entry != view.entry
    assert await shown(mesh, view.version) == view


async def test_while_the_log_or_the_registry_is_away_it_is_a_503_that_names_nothing(mesh: Mesh) -> None:
    view = await recorded(mesh, await changed(mesh, 14))
    for name, table, rule in (
        ("log.db", "log_entries", "log-readable"),
        ("registry.db", "registry_changes", "registry-available"),
    ):
        with database(mesh, name) as connection:
            connection.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
            try:
                told = [await get(mesh, path) for path in ("/v1/changes", f"/v1/changes/{view.version}")]
            finally:
                connection.execute(f"ALTER TABLE elsewhere RENAME TO {table}")
        for response in told:
            mesh.told(response, 503, rule)
    assert await shown(mesh, view.version) == view


async def test_a_member_certificate_names_the_subsystem_it_acts_as(mesh: Mesh) -> None:
    response = await mesh.client("member").get("/v1/changes", headers={"X-Road-Client": PROVIDER})
    mesh.told(response, 403, "client-of-certificate")


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/v1/changes", GenerationMode.POSITIVE),
        ("/v1/changes", GenerationMode.NEGATIVE),
        ("/v1/changes/{version}", GenerationMode.POSITIVE),
    ],
)
async def test_no_request_made_from_the_description_breaks_the_gateway(
    mesh: Mesh, path: str, mode: GenerationMode
) -> None:
    """Every answer is one that the description announces."""
    change = await changed(mesh, 15, name=f"{path}{mode}")
    described = (await get(mesh, "/v1/openapi.json", party=None)).json()
    operation = schemathesis.openapi.from_dict(described)[path]["GET"]
    statuses: set[int] = set()

    @settings(
        max_examples=25,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), exists=st.booleans())
    def one(case: schemathesis.Case[Any], exists: bool) -> None:
        if exists and "version" in case.path_parameters:
            case.path_parameters["version"] = str(change.version)
        case.headers.pop("X-Road-Client", None)
        response = case.call(base_url=mesh.url, session=session, verify=session.verify, cert=session.cert)
        statuses.add(response.status_code)
        case.validate_response(
            response, checks=[not_a_server_error, content_type_conformance, response_schema_conformance]
        )

    certificate, key = mesh.trial.files("auditor")
    with requests.Session() as session:
        session.cert, session.verify = (str(certificate), str(key)), str(mesh.trial.trust_anchors)
        session.trust_env = False
        await asyncio.to_thread(one)
    assert statuses <= {200, 400, 404}
    assert 400 in statuses or mode is GenerationMode.POSITIVE
