"""`/v1`: what auditors, callers and owners are shown of the record, and what everybody else is told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest

from deploy.trial_mesh import AUDITOR, CALLER, ECHO, PROVIDER, STRANGER
from exchange import open_checkpoint, verify_receipt
from exchange.transparency.checkpoint import NoteVerifier
from gateway.api.exchange_views import Exchange, ExchangePage
from gateway.api.paging import MAX_PAGE
from tests.gateway.conftest import SIBLING
from tests.gateway.exchange_mesh import Mesh, Reply, head, xml_error

pytestmark = pytest.mark.asyncio(loop_scope="module")

ABSENT = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
"""An exchange id that nobody was given."""


async def get(mesh: Mesh, path: str, *, party: str | None = "auditor", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await mesh.client(party).get(path, headers=named)


async def listed(mesh: Mesh, **parameters: Any) -> ExchangePage:
    """A page, checked against its declared form."""
    response = await get(mesh, f"/v1/exchanges?{urlencode(parameters)}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    mesh.keeps_our_secrets(response)
    return ExchangePage.model_validate_json(response.content, strict=True, extra="forbid")


def ids(page: ExchangePage) -> list[str]:
    return [each.record["id"] for each in page.exchanges if each.record]


def path_of(reply: Reply, more: str = "") -> str:
    return f"/v1/exchanges/{reply.record['id']}{more}"


@contextmanager
def database(mesh: Mesh) -> Iterator[sqlite3.Connection]:
    """The log's database, behind the gateway's back."""
    with closing(sqlite3.connect(mesh.trial.folder / "log.db", isolation_level=None)) as connection:
        yield connection


# Search


async def test_an_auditor_finds_what_was_answered_and_what_was_refused(mesh: Mesh) -> None:
    answered = await mesh.ask("POST", "/a", content=b"x")
    refused = await mesh.ask(party="stranger", client=STRANGER)
    page = await listed(mesh, limit=2)
    newest, older = page.exchanges
    assert (newest.record, older.record) == (refused.record, answered.record)
    assert newest.seq > older.seq
    entry = await mesh.log.entry(answered.record["id"])
    assert entry is not None
    assert older.leaf_hash == entry.leaf_hash.hex()
    assert older.receipt == answered.response.headers["datong-receipt"]


async def test_each_filter_finds_exactly_what_it_names(mesh: Mesh) -> None:
    for request in (
        {},
        {"party": "stranger", "client": STRANGER},
        {"to": "records", "path": "/records/7", "headers": {"Datong-Purpose": "spying"}},
        {"to": "down"},
        {"to": "absent"},
        {"party": "member", "client": SIBLING},
    ):
        await mesh.ask(**request)
    everything = ids(await listed(mesh, limit=MAX_PAGE))
    records = {one: await mesh.record(one) for one in everything}

    def where(**wanted: str) -> list[str]:
        def told(record: dict[str, Any], name: str) -> str:
            query = record["query"]
            owner = query["service"].rpartition("/")[0]
            return str(
                {"client": query["client"], "service": query["service"], "owner": owner}.get(name, record.get(name))
            )

        return [one for one in everything if all(told(records[one], name) == value for name, value in wanted.items())]

    searches = (
        {"client": CALLER},
        {"client": SIBLING},
        {"client": AUDITOR},
        {"owner": PROVIDER},
        {"owner": PROVIDER[:-1]},
        {"service": ECHO},
        {"outcome": "answered"},
        {"outcome": "refused"},
        {"outcome": "failed"},
        {"outcome": "unknown"},
        {"rule": "purpose"},
        {"rule": "no-such-rule"},
        {"client": CALLER, "outcome": "failed", "rule": "backend-answers"},
        {"client": STRANGER, "outcome": "answered"},
    )
    for search in searches:
        assert ids(await listed(mesh, limit=MAX_PAGE, **search)) == where(**search), search
    assert where(outcome="failed")
    assert where(rule="purpose")


async def test_since_is_inclusive_and_until_is_not(mesh: Mesh) -> None:
    one, two = [(await mesh.ask()).record for _ in range(2)]
    while two["ended_at"] == one["ended_at"]:
        two = (await mesh.ask()).record
    since = await listed(mesh, since=two["ended_at"], limit=MAX_PAGE)
    assert two["id"] in ids(since)
    assert one["id"] not in ids(since)
    until = await listed(mesh, until=two["ended_at"], limit=MAX_PAGE)
    assert one["id"] in ids(until)
    assert two["id"] not in ids(until)
    between = await listed(mesh, since=one["ended_at"], until=two["ended_at"], limit=MAX_PAGE)
    assert one["id"] in ids(between)
    assert two["id"] not in ids(between)
    # The same instant, as a clock in Beijing shows it.
    hour, rest = int(two["ended_at"][11:13]), two["ended_at"][13:-1]
    if hour < 16:
        beijing = f"{two['ended_at'][:11]}{hour + 8:02}{rest}+08:00"
        assert ids(await listed(mesh, since=beijing, limit=MAX_PAGE)) == ids(since)


async def test_pages_stay_correct_while_the_log_grows(mesh: Mesh) -> None:
    for _ in range(5):
        await mesh.ask()
    before = ids(await listed(mesh, limit=MAX_PAGE))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await listed(mesh, limit=3, **cursor)
        seen += ids(page)
        if page.next_cursor is None:
            break
        assert len(page.exchanges) == 3
        cursor = {"cursor": page.next_cursor}
        await mesh.ask(party="stranger", client=STRANGER)
    assert seen == before


async def test_the_last_page_says_that_it_is_the_last(mesh: Mesh) -> None:
    await mesh.ask()
    everything = (await listed(mesh, limit=MAX_PAGE)).exchanges
    assert (await listed(mesh, limit=len(everything))).next_cursor is None
    assert (await listed(mesh, cursor="0")).exchanges == []
    assert (await listed(mesh, cursor="9" * 18, limit=1)).exchanges == everything[:1]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("limit=0", "limit must be at least 1"),
        (f"limit={MAX_PAGE + 1}", f"limit must be at most {MAX_PAGE}"),
        ("limit=ten", "limit is not a whole number"),
        ("limit=", "limit is not a whole number"),
        ("limit=1&limit=2", "limit is given more than once"),
        ("outcome=lost", "outcome must be 'answered', 'refused', 'failed' or 'unknown'"),
        ("outcome=", "outcome must be"),
        ("client=housing", "client is not instance/class/member/subsystem"),
        ("client=", "client is not"),
        (f"client={CALLER}%00", "client is not"),
        (f"owner={ECHO}", "owner is not instance/class/member/subsystem"),
        (f"service={PROVIDER}", "service is not instance/class/member/subsystem/service"),
        ("rule=%27%20OR%201=1", "rule has characters that cannot occur in it"),
        ("cursor=-1", "cursor has characters"),
        ("cursor=" + "9" * 19, "cursor has characters"),
        ("cursor=%D9%A3", "cursor has characters"),  # a digit, and not one of ours
        ("since=yesterday", "since is not an RFC 3339 instant"),
        ("since=2026-11-23", "since is not an RFC 3339 instant"),
        ("since=2026-11-23T08:00:00", "since is not an RFC 3339 instant"),
        ("since=1763856000", "since is not an RFC 3339 instant"),
        ("since=2026-11-23T08:00:00+08:00", "%2B"),  # the plus sign has become a space
        ("since=2026-02-30T08:00:00Z", "since is not an RFC 3339 instant"),
        ("since=2026-11-24T00:00:00Z&until=2026-11-23T00:00:00Z", "since must be before until"),
        ("since=2026-11-24T00:00:00Z&until=2026-11-24T00:00:00Z", "since must be before until"),
        ("subsystem=x", "no query parameter 'subsystem'"),
        ("Limit=5", "no query parameter 'Limit'"),
        ("limit=5&offset=10", "no query parameter 'offset'"),
        ("=5", "no query parameter ''"),
    ],
)
async def test_bad_input_is_refused_by_name_and_never_ignored(mesh: Mesh, query: str, told: str) -> None:
    response = await get(mesh, f"/v1/exchanges?{query}")
    problem = mesh.told(response, 400, "query-parameter")
    assert problem["type"] == "/problems/invalid-request"
    assert told in problem["detail"]


async def test_bad_input_is_explained_in_chinese_too(mesh: Mesh) -> None:
    for query, told in (
        ("limit=0", "查询参数 limit 不得小于 1。"),
        ("since=x", "查询参数 since 不是 RFC 3339 时间"),
        ("page=2", "没有查询参数 'page'。"),
        ("limit=1&limit=1", "查询参数 limit 重复出现。"),
    ):
        response = await get(mesh, f"/v1/exchanges?{query}", Accept_Language="zh-CN")
        assert response.headers["content-language"] == "zh-CN"
        assert mesh.told(response, 400, "query-parameter")["detail"].startswith(told)


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/log/checkpoint", f"/v1/exchanges/{ABSENT}"])
async def test_nothing_else_takes_parameters(mesh: Mesh, path: str) -> None:
    mesh.told(await get(mesh, f"{path}?verbose=1"), 400, "query-parameter")


# Who may see what


async def test_searching_needs_the_auditors_role(mesh: Mesh) -> None:
    for party in ("caller", "provider", "stranger", "gateway"):
        problem = mesh.told(await get(mesh, "/v1/exchanges", party=party), 403, "role")
        assert problem["type"] == "/problems/role-missing"
        assert "auditor" in problem["detail"]
    chinese = await get(mesh, "/v1/exchanges", party="caller", Accept_Language="zh")
    assert chinese.json()["detail"].endswith("没有 auditor 角色。")


async def test_a_record_is_shown_to_caller_owner_and_auditor_and_to_nobody_else(mesh: Mesh) -> None:
    reply = await mesh.ask()
    for party in ("caller", "provider", "auditor"):
        response = await get(mesh, path_of(reply), party=party)
        assert response.status_code == 200
        shown = Exchange.model_validate_json(response.content, strict=True, extra="forbid")
        assert shown.record == reply.record
    for path in (path_of(reply), path_of(reply, "/receipt")):
        hidden = await get(mesh, path, party="stranger")
        mesh.told(hidden, 404, "exists")
        nothing = await get(mesh, path.replace(reply.record["id"], ABSENT), party="stranger")
        assert hidden.content == nothing.content, "whether there is such an exchange is not told either"


async def test_a_refused_attempt_concerns_its_caller_and_not_the_owner_it_never_reached(mesh: Mesh) -> None:
    reply = await mesh.ask(party="stranger", client=STRANGER)
    assert (await get(mesh, path_of(reply), party="stranger")).status_code == 200
    assert (await get(mesh, path_of(reply), party="auditor")).status_code == 200
    for party in ("provider", "caller"):
        mesh.told(await get(mesh, path_of(reply), party=party), 404, "exists")


async def test_naming_another_as_caller_shows_the_record_to_who_did_it_and_not_to_who_was_named(mesh: Mesh) -> None:
    reply = await mesh.ask(party="stranger", client=CALLER)
    assert reply.record["rule"] == "client-of-certificate"
    assert reply.query["client"] == CALLER
    mesh.told(await get(mesh, path_of(reply), party="caller"), 404, "exists")
    assert (await get(mesh, path_of(reply), party="stranger")).status_code == 200


async def test_a_failed_exchange_concerns_the_owner_it_was_carried_to(mesh: Mesh) -> None:
    reply = await mesh.ask(to="down")
    assert reply.record["outcome"] == "failed"
    assert (await get(mesh, path_of(reply), party="provider")).status_code == 200


@pytest.mark.parametrize(
    "text", ["x", "%00", "..%2f..", "0193A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B", "%E5%A4%A7", "'--", "a" * 4000]
)
async def test_what_is_no_exchange_id_is_not_found(mesh: Mesh, text: str) -> None:
    for more in ("", "/receipt"):
        response = await get(mesh, f"/v1/exchanges/{text}{more}")
        mesh.told(response, 404, "exists")
        assert text not in response.text or text in "xa"


async def test_without_a_certificate_nothing_of_the_record_is_shown(mesh: Mesh) -> None:
    for path in (
        "/v1/exchanges",
        "/v1/exchanges?limit=0",
        f"/v1/exchanges/{ABSENT}",
        f"/v1/exchanges/{ABSENT}/receipt",
    ):
        response = await get(mesh, path, party=None)
        problem = mesh.told(response, 401, "client-certificate")
        assert "--cert" in problem["next"]
        assert response.headers["www-authenticate"].startswith("ClientCertificate")


async def test_a_certificate_of_a_subsystem_that_nobody_registered_shows_nothing(mesh: Mesh) -> None:
    mesh.told(await get(mesh, "/v1/exchanges", party="ghost"), 403, "client-registered")


async def test_a_members_certificate_names_the_subsystem_it_acts_as(mesh: Mesh) -> None:
    reply = await mesh.ask()
    told = await get(mesh, path_of(reply), party="member")
    assert mesh.told(told, 400, "client-header")["type"] == "/problems/invalid-client"
    shown = await get(mesh, path_of(reply), party="member", X_Road_Client=CALLER)
    assert shown.json()["record"] == reply.record
    mesh.told(await get(mesh, path_of(reply), party="member", X_Road_Client=SIBLING), 404, "exists")
    for named, status, rule in (
        (AUDITOR, 403, "client-of-certificate"),
        (f"{CALLER}x", 403, "client-registered"),
        ("housing", 400, "client-header"),
        ("a/b/c/%", 400, "client-header"),
    ):
        mesh.told(await get(mesh, "/v1/exchanges", party="member", X_Road_Client=named), status, rule)


async def test_a_subsystems_certificate_cannot_act_as_another(mesh: Mesh) -> None:
    """Also not by naming one that holds the role; its own name changes nothing."""
    for party, named in (("caller", AUDITOR), ("caller", SIBLING), ("auditor", CALLER)):
        response = await get(mesh, "/v1/exchanges", party=party, X_Road_Client=named)
        mesh.told(response, 403, "client-of-certificate")
    assert (await get(mesh, "/v1/exchanges?limit=1", X_Road_Client=AUDITOR)).status_code == 200


async def test_a_suspended_subsystem_is_shown_nothing(mesh: Mesh) -> None:
    reply = await mesh.ask(party="member", client=SIBLING)
    as_sibling = {"party": "member", "X_Road_Client": SIBLING}
    assert (await get(mesh, path_of(reply), **as_sibling)).status_code == 200
    who = {"by": "test", "why": "test"}
    await mesh.trial.registry.set_subsystem_state(SIBLING, active=False, **who)
    try:
        async with asyncio.timeout(5):
            while (told := await get(mesh, path_of(reply), **as_sibling)).status_code == 200:
                await asyncio.sleep(0.01)
        mesh.told(told, 403, "client-active")
    finally:
        await mesh.trial.registry.set_subsystem_state(SIBLING, active=True, **who)


# Evidence


@pytest.mark.parametrize("party", ["caller", "provider", "auditor"])
async def test_a_receipt_verifies_with_the_key_list_alone(mesh: Mesh, party: str) -> None:
    reply = await mesh.ask("POST", "/a", content=b"x")
    response = await get(mesh, path_of(reply, "/receipt"), party=party)
    assert response.status_code == 200
    assert response.headers["content-disposition"] == f'attachment; filename="{reply.record["id"]}.receipt.json"'
    checks = verify_receipt(response.content, (await get(mesh, "/v1/keys", party=None)).content)
    assert [check for check in checks if not check.ok] == []
    assert msgspec.json.decode(response.json()["record"]) == reply.record


async def test_a_refusal_has_a_receipt_too(mesh: Mesh) -> None:
    reply = await mesh.ask(party="stranger", client=STRANGER)
    response = await get(mesh, path_of(reply, "/receipt"), party="stranger")
    checks = verify_receipt(response.content, (await get(mesh, "/v1/keys")).content)
    assert [check for check in checks if not check.ok] == []


async def test_the_checkpoint_is_signed_by_the_key_on_the_list_and_catches_up(mesh: Mesh) -> None:
    await mesh.ask()
    vkey = (await get(mesh, "/v1/keys", party=None)).json()["logs"][0]
    async with asyncio.timeout(10):
        while True:
            response = await get(mesh, "/v1/log/checkpoint", party=None)
            assert response.headers["content-type"] == "text/plain; charset=utf-8"
            checkpoint = open_checkpoint(response.text, [NoteVerifier.from_vkey(vkey)])
            if (checkpoint.size, checkpoint.root) == await mesh.log.size():
                break
            await asyncio.sleep(0.01)


async def test_one_damaged_entry_does_not_hide_the_others(mesh: Mesh) -> None:
    """An auditor is shown that it is damaged; whom it concerned cannot be known, so nobody else is shown anything."""
    damaged, sound = await mesh.ask(), await mesh.ask()
    with database(mesh) as connection:
        for leaf in (b"\xff\x00", b"[]", b"{}", b'{"query":[],"outcome":"answered","rule":""}'):
            connection.execute("UPDATE log_entries SET leaf = ? WHERE exchange_id = ?", (leaf, damaged.record["id"]))
            try:
                page = await listed(mesh, limit=2)
                one = await get(mesh, path_of(damaged))
                others = [
                    (await get(mesh, path_of(damaged), party=party)).status_code for party in ("caller", "provider")
                ]
            finally:
                connection.execute(
                    "UPDATE log_entries SET leaf = ? WHERE exchange_id = ?",
                    (msgspec.json.encode(damaged.record, order="sorted"), damaged.record["id"]),
                )
            assert [each.record for each in page.exchanges] == [sound.record, None]
            assert (one.status_code, one.json()["record"]) == (200, None)
            assert others == [404, 404]


async def test_a_log_that_cannot_be_read_is_a_503_and_names_nothing(mesh: Mesh) -> None:
    reply = await mesh.ask()
    with database(mesh) as connection:
        connection.execute("ALTER TABLE log_entries RENAME TO elsewhere")
        try:
            told = [await get(mesh, path) for path in ("/v1/exchanges", path_of(reply), path_of(reply, "/receipt"))]
        finally:
            connection.execute("ALTER TABLE elsewhere RENAME TO log_entries")
    for response, rule in zip(told, ("search-available", "log-readable", "log-readable"), strict=True):
        mesh.told(response, 503, rule)
        assert int(response.headers["retry-after"]) > 0
    assert (await get(mesh, path_of(reply))).status_code == 200


# Every address


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/r1",
        "/r2/x",
        "/v1",
        "/v1/",
        "/v1/exchanges/",
        "/v1/nothing",
        "/docs",
        "/redoc",
        "/openapi.json",
        "//v1/keys",
    ],
)
async def test_what_is_not_there_is_a_404_in_the_callers_language(mesh: Mesh, path: str) -> None:
    """Also with a slash too many: a redirect would lead wherever the Host header says."""
    for party in (None, "auditor"):
        response = await get(mesh, path, party=party, Accept_Language="zh")
        assert mesh.told(response, 404, "exists")["detail"] == "此处没有该地址。"
        assert "location" not in response.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
async def test_what_is_not_offered_is_a_405_that_says_what_is(mesh: Mesh, method: str) -> None:
    for path in ("/v1/exchanges", f"/v1/exchanges/{ABSENT}", "/healthz", "/problems"):
        response = await mesh.client("auditor").request(method, path)
        problem = mesh.told(response, 405, "method")
        assert problem["type"] == "/problems/method-not-allowed"
        assert response.headers["allow"] == "GET, HEAD"
    chinese = await mesh.client("auditor").request(method, "/v1/keys", headers={"Accept-Language": "zh"})
    assert chinese.json()["detail"] == f"此处不支持 {method}。"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/exchanges?limit=3",
        "/v1/exchanges?limit=0",
        "/v1/keys",
        "/v1/openapi.json",
        "/healthz",
        "/problems",
        "/nowhere",
    ],
)
async def test_head_is_get_without_its_body(mesh: Mesh, path: str) -> None:
    async with mesh.connect("auditor") as caller:
        await caller.send(head("GET", path, client=None))
        full = await caller.answer()
        await caller.send(head("HEAD", path, client=None))
        bare = await caller.answer(head_only=True)
        await caller.send(head("GET", path, client=None))
        again = await caller.answer()
    assert bare.status_code == full.status_code == again.status_code
    unlike = {"date"}
    assert {name: value for name, value in bare.headers.items() if name not in unlike} == {
        name: value for name, value in full.headers.items() if name not in unlike
    }
    assert int(bare.headers["content-length"]) == len(full.content) > 0


@pytest.mark.parametrize("path", ["/v1/keys", "/healthz", "/readyz", "/nowhere", "/v1/exchanges?x"])
async def test_every_response_is_dated_once_and_kept_by_nobody(mesh: Mesh, path: str) -> None:
    response = await get(mesh, path)
    for name, value in (("cache-control", "no-store"), ("x-content-type-options", "nosniff")):
        assert response.headers.get_list(name) == [value]
    assert len(response.headers.get_list("date")) == 1
    assert "server" not in response.headers


async def test_an_xroad_client_is_told_in_xml(mesh: Mesh) -> None:
    response = await get(mesh, f"/v1/exchanges/{ABSENT}", Accept="application/xml", Accept_Language="zh")
    assert response.status_code == 404
    error = xml_error(response)
    assert error["type"] == response.headers["x-road-error"]
    assert error["message"].startswith("此处没有该交换。")


async def test_a_receipts_address_does_not_follow_the_host_header(mesh: Mesh) -> None:
    await mesh.ask()
    response = await get(mesh, "/v1/exchanges?limit=1", Host="evil.example")
    assert response.status_code == 200
    assert "evil.example" not in response.text
