"""`/v1/exchanges`: every condition, every role, and the record that every look leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
import structlog

from exchange import LogUnavailableError, Rfc3339, UnavailableError, parse_rfc3339
from gateway.api.exchange_filters import ExchangeSearch, RecordQuery
from gateway.api.exchange_statistics import StatisticsView
from gateway.api.exchange_views import ExchangePage
from tests.gateway.audit_desk import CLERK, AuditDesk, audit_desk, exchange, principal
from tests.registry.example import AUDIT, HOUSING, TAX

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBER = "11010519491231002X"
"""Of a person asked about."""
COMPANY = "91110000MA0012345X"
NOON = parse_rfc3339("2026-05-04T04:00:00Z")
DAY = 86_400_000
OTHERS = {"client": f"{AUDIT}", "service": "CN/GOV/11990000000001030M/audit/reports"}
Record = dict[str, Any]


def exchanges() -> list[Any]:
    """Records that differ in everything that can be looked for."""
    made = []
    for number in range(24):
        refused = number % 4 == 3
        query = {
            "client": HOUSING if number % 2 else TAX,
            "service": f"{TAX}/enterprises" if number % 3 else OTHERS["service"],
            "purpose": "public-rental-housing" if number % 5 else "tax-check",
            "case": f"沪民政〔2026〕{number}号",
            "user": "李四" if number % 3 else "王五",
            "represented": COMPANY if number % 6 == 1 else "",
            "certificate": f"{number % 3:064x}",
            "channel": ("hall", "web", "mobile")[number % 3],
            "grant": f"g{number % 4}@{number + 1}",
            "message_id": f"m-{number}",
            "method": "GET" if number % 2 else "POST",
            "path_template": "/enterprises/{uscc}" if number % 3 else "/reports/{id}",
            "request_size": number * 100,
            "subject": "",
        }
        made.append(
            exchange(
                number,
                at_ms=NOON + number * DAY // 6,
                query=query,
                outcome="refused" if refused else "answered",
                rule="purpose" if refused else "",
                code="access-denied" if refused else "",
                source="gateway" if refused else "",
                status=403 if refused else 200,
                duration_us=number * 10_000,
                certificate_serial=f"{number % 5 + 10:x}",
                **({"person": "ab" * 32} if number == 7 else {}),
            )
        )
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AuditDesk]:
    async with audit_desk(tmp_path_factory.mktemp("audit"), exchanges()) as desk:
        yield desk


async def listed(desk: AuditDesk, **parameters: Any) -> list[Record]:
    """The records of one page, oldest first; the page is checked against its declared form."""
    response = await desk.get(f"/v1/exchanges?{urlencode({'limit': 500, **parameters})}")
    assert response.status_code == 200, response.text
    page = ExchangePage.model_validate_json(response.content, strict=True, extra="forbid")
    return [each.record for each in reversed(page.exchanges) if each.record]


def told(response: httpx.Response, status: int, rule: str) -> dict[str, Any]:
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["status"], problem["rule"]) == (status, status, rule), problem
    return problem


def instant(at_ms: int) -> str:
    return Rfc3339()(at_ms)


CONDITIONS: dict[str, tuple[Any, Callable[[Record], bool]]] = {
    "client": (HOUSING, lambda record: record["query"]["client"] == HOUSING),
    "owner": (TAX, lambda record: record["query"]["service"].startswith(f"{TAX}/")),
    "service": (OTHERS["service"], lambda record: record["query"]["service"] == OTHERS["service"]),
    "purpose": ("tax-check", lambda record: record["query"]["purpose"] == "tax-check"),
    "case": ("沪民政〔2026〕5号", lambda record: record["query"]["case"] == "沪民政〔2026〕5号"),
    "user": ("王五", lambda record: record["query"]["user"] == "王五"),
    "represented": (COMPANY, lambda record: record["query"]["represented"] == COMPANY),
    "person": ("AB" * 32, lambda record: record.get("person") == "ab" * 32),
    "outcome": ("refused", lambda record: record["outcome"] == "refused"),
    "rule": ("purpose", lambda record: record["rule"] == "purpose"),
    "code": ("access-denied", lambda record: record["code"] == "access-denied"),
    "source": ("gateway", lambda record: record["source"] == "gateway"),
    "certificate": (f"{1:064x}", lambda record: record["query"]["certificate"] == f"{1:064x}"),
    "certificate_serial": ("00:0B", lambda record: record["certificate_serial"] == "b"),
    "message_id": ("m-9", lambda record: record["query"]["message_id"] == "m-9"),
    "method": ("POST", lambda record: record["query"]["method"] == "POST"),
    "path_template": ("/reports/{id}", lambda record: record["query"]["path_template"] == "/reports/{id}"),
    "channel": ("web", lambda record: record["query"]["channel"] == "web"),
    "grant": ("g2", lambda record: record["query"]["grant"].startswith("g2@")),
    "min_status": (400, lambda record: record["status"] >= 400),
    "max_status": (200, lambda record: record["status"] <= 200),
    "min_duration_ms": (100, lambda record: record["duration_us"] >= 100_000),
    "max_duration_ms": (100, lambda record: record["duration_us"] <= 100_000),
    "min_request_bytes": (1000, lambda record: record["query"]["request_size"] >= 1000),
    "max_request_bytes": (1000, lambda record: record["query"]["request_size"] <= 1000),
    "min_answer_bytes": (4, lambda record: "answer" in record),
    "max_answer_bytes": (3, lambda record: "answer" not in record),
    "since": (instant(NOON + DAY), lambda record: parse_rfc3339(record["ended_at"]) >= NOON + DAY),
    "until": (instant(NOON + DAY), lambda record: parse_rfc3339(record["ended_at"]) < NOON + DAY),
}
"""Parameter -> a value, and which records it means."""


@pytest.mark.parametrize("name", CONDITIONS)
async def test_each_condition_finds_exactly_what_it_names_alone_and_with_others(desk: AuditDesk, name: str) -> None:
    value, fits = CONDITIONS[name]
    expected = [record for record in desk.records if fits(record)]
    assert 0 < len(expected) < len(desk.records)
    assert await listed(desk, **{name: value}) == expected
    if name != "client":
        from_tax = [record for record in expected if record["query"]["client"] == TAX]
        assert await listed(desk, **{name: value, "client": TAX}) == from_tax


async def test_every_condition_is_tried_and_listing_takes_all_of_them() -> None:
    assert RecordQuery.model_fields.keys() == CONDITIONS.keys() | {"kind", "subject"}
    assert ExchangeSearch.model_fields.keys() == RecordQuery.model_fields.keys() | {"cursor", "limit"}


async def test_bounds_are_inclusive_and_an_exact_version_of_a_grant_can_be_meant(desk: AuditDesk) -> None:
    (one,) = await listed(desk, min_duration_ms=50, max_duration_ms=50)
    assert one == desk.records[5]
    assert await listed(desk, grant="g1@6") == [desk.records[5]]
    assert await listed(desk, grant="g1@7") == []


async def test_pages_stay_correct_while_the_log_grows(desk: AuditDesk) -> None:
    expected = [record["id"] for record in reversed(desk.records)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        response = await desk.get(f"/v1/exchanges?{urlencode({'limit': 7, **cursor})}")
        page = response.json()
        seen += [each["record"]["id"] for each in page["exchanges"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        await desk.add(exchange(99, at_ms=NOON + 30 * DAY, query={"client": TAX, "service": f"{TAX}/enterprises"}))
    assert seen == expected


# Persons and companies


async def test_a_subject_is_found_by_number_in_address_or_header_and_by_hash_and_its_number_goes_nowhere(
    desk: AuditDesk,
) -> None:
    own = await desk.subjects.hash_of(NUMBER)
    old = (await desk.subjects.hashes_of(NUMBER))[-1]
    query = {"client": HOUSING, "service": f"{TAX}/enterprises"}
    of_person = [exchange(1, query={**query, "subject": hashed}) for hashed in (own, old)]
    await desk.add(*of_person, exchange(2, query={**query, "subject": "cd" * 32}))
    expected = [json.loads(each.record) for each in of_person]
    with structlog.testing.capture_logs() as told_ourselves:
        for found in (
            await listed(desk, subject=NUMBER),
            await listed(desk, subject=NUMBER.lower()),
            await listed(desk, subject=f" {NUMBER} "),
        ):
            assert found == expected
        by_header = await desk.get("/v1/exchanges", datong_subject=NUMBER)
        assert [each["record"] for each in reversed(by_header.json()["exchanges"])] == expected
        assert await listed(desk, subject=own.upper()) == expected[:1]
        unknown = await desk.get("/v1/exchanges?subject=110105194912310038")
        exported = await desk.get(f"/v1/exchanges/export?format=jsonl&subject={NUMBER}")
        counted = await desk.get(f"/v1/exchanges/statistics?subject={NUMBER}")
    assert (unknown.status_code, unknown.json()["exchanges"]) == (200, [])
    assert exported.text.count("\n") == 4
    assert counted.json()["total"] == 2
    accesses = (await desk.accesses())[-9:]
    # Records made since are named by their own hash, which an erasure unlinks; never by what the number alone leads to.
    assert [each.details.get("filter", {}).get("subjects") for each in accesses] == [
        *([own],) * 5,
        [],
        [own],
        None,
        [own],
    ]
    assert [each.act for each in accesses[-3:]] == ["exchanges.export", "exchanges.exported", "exchanges.statistics"]
    assert old not in exported.text.split("\n")[0]
    everything = repr(told_ourselves) + "".join([each.leaf.decode() for each in accesses]) + exported.text
    assert NUMBER not in everything
    assert "110105194912310038" not in everything


async def test_a_subject_is_named_once_and_properly(desk: AuditDesk) -> None:
    for path, headers in (
        (f"/v1/exchanges?subject={NUMBER}", {"datong_subject": NUMBER}),
        (f"/v1/exchanges?subject={NUMBER}&subject={NUMBER}", {}),
        ("/v1/exchanges?subject=", {}),
        ("/v1/exchanges?subject=a%00b", {}),
    ):
        response = await desk.get(path, **headers)
        problem = told(response, 400, "query-parameter")
        assert NUMBER not in problem["detail"]
    told(await desk.get("/v1/exchanges", datong_subject="1" * 300), 400, "header-value")


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("min_status=400&max_status=200", "min_status must not be above max_status"),
        ("min_duration_ms=2&max_duration_ms=1", "min_duration_ms must not be above"),
        ("min_answer_bytes=-1", "min_answer_bytes must be at least 0"),
        ("min_status=600", "min_status must be at most 599"),
        ("certificate=ab", "certificate has characters"),
        ("certificate_serial=xyz", "certificate_serial has characters"),
        ("channel=fax", "channel must be"),
        ("kind=all", "kind must be"),
        ("source=moon", "source must be"),
        ("user=", "user must not be empty"),
        ("case=" + "a" * 256, "case must have at most 255 characters"),
        ("min_request_bytes=9007199254740992", "min_request_bytes must be below"),
        ("latency=5", "no query parameter 'latency'"),
    ],
)
async def test_bad_conditions_are_refused_by_name(desk: AuditDesk, query: str, problem: str) -> None:
    for path in ("/v1/exchanges", "/v1/exchanges/statistics", "/v1/exchanges/export"):
        assert problem in told(await desk.get(f"{path}?{query}"), 400, "query-parameter")["detail"]


# Every look is on record


async def test_each_look_of_an_auditor_is_on_record_before_it_is_answered(desk: AuditDesk) -> None:
    before = len(await desk.accesses())
    one = desk.records[4]["id"]
    absent = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
    first = await desk.get(f"/v1/exchanges?client={HOUSING}&limit=2", official="赵六")
    await desk.get(f"/v1/exchanges?client={HOUSING}&limit=2&cursor={first.json()['next_cursor']}", official="赵六")
    await desk.get(f"/v1/exchanges/{one}")
    receipt = await desk.get(f"/v1/exchanges/{one}/receipt")
    await desk.get(f"/v1/exchanges/{absent}")
    await desk.get("/v1/exchanges/statistics?step=month&outcome=refused")
    assert receipt.status_code == 200
    found = (await desk.accesses())[before:]
    assert [(each.act, each.user) for each in found] == [
        ("exchanges.list", "赵六"),
        ("exchanges.list", "赵六"),
        ("exchange.show", CLERK),
        ("exchange.receipt", CLERK),
        ("exchange.show", CLERK),
        ("exchanges.statistics", CLERK),
    ]
    assert {(each.by, each.certificate, each.kind) for each in found} == {
        (AUDIT, principal("auditor").fingerprint, "access")
    }
    listed_first, listed_next, shown, _, missed, counted = [each.details for each in found]
    wanted = {"kind": "exchange", "client": HOUSING}
    assert listed_first == {"filter": wanted, "count": 2, "limit": 2}
    assert listed_next == {"filter": wanted, "count": 2, "limit": 2, "cursor": first.json()["next_cursor"]}
    assert (shown, missed) == ({"exchange": one, "found": True}, {"exchange": absent, "found": False})
    refused = sum(record["outcome"] == "refused" for record in desk.records)
    assert counted == {"filter": {"kind": "exchange", "outcome": "refused"}, "step": "month", "count": refused}


async def test_what_cannot_be_recorded_is_not_shown(desk: AuditDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(event: Any) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_exception(LogUnavailableError())
        return future

    one = desk.records[1]["id"]
    monkeypatch.setattr(desk.log, "append_event", fails)
    for path in (
        "/v1/exchanges",
        f"/v1/exchanges/{one}",
        f"/v1/exchanges/{one}/receipt",
        "/v1/exchanges/statistics",
        *(f"/v1/exchanges/export?format={form}" for form in ("csv", "xlsx", "jsonl")),
    ):
        response = await desk.get(path)
        told(response, 503, "record-before-release")
        assert one not in response.text
    own = await desk.get(f"/v1/exchanges/{one}", party="caller")
    assert own.status_code == 200, "one's own is no look at others' affairs"


async def test_caller_and_owner_look_at_their_own_without_a_record_of_it(desk: AuditDesk) -> None:
    before = await desk.accesses()
    record = desk.records[1]
    assert (record["query"]["client"], record["query"]["service"]) == (HOUSING, f"{TAX}/enterprises")
    for party in ("caller", "owner"):
        for more in ("", "/receipt"):
            assert (await desk.get(f"/v1/exchanges/{record['id']}{more}", party=party)).status_code == 200
    told(await desk.get(f"/v1/exchanges/{desk.records[0]['id']}", party="caller"), 404, "exists")
    assert await desk.accesses() == before


async def test_records_of_looks_are_found_like_all_others_and_have_receipts(desk: AuditDesk) -> None:
    await desk.get("/v1/exchanges?outcome=failed", official="钱七")
    found = await listed(desk, kind="access", user="钱七", client=AUDIT, rule="exchanges.list")
    assert [each["details"]["filter"] for each in found] == [{"kind": "exchange", "outcome": "failed"}]
    identifier = found[0]["id"]
    assert (await desk.get(f"/v1/exchanges/{identifier}/receipt")).status_code == 200
    assert (await desk.get(f"/v1/exchanges/{identifier}")).json()["record"] == found[0]
    for party in ("operator", "caller", "owner"):
        told(await desk.get(f"/v1/exchanges/{identifier}", party=party), 404, "exists")
    assert identifier not in {each["id"] for each in await listed(desk)}
    kinds = {each.get("kind", "exchange") for each in await listed(desk, kind="any")}
    assert kinds == {"exchange", "access", "change"}


async def test_while_nothing_can_be_searched_nothing_is_recorded_and_one_record_is_shown(
    desk: AuditDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await desk.accesses()

    async def away(*_: Any, **__: Any) -> Any:
        raise UnavailableError("search-available")

    async def away_too(*_: Any) -> AsyncIterator[Any]:
        raise UnavailableError("search-available")
        yield

    monkeypatch.setattr(desk.gateway.search, "page", away)
    monkeypatch.setattr(desk.gateway.search, "statistics", away)
    monkeypatch.setattr(desk.gateway.search, "iterate", away_too)
    for path in ("/v1/exchanges", "/v1/exchanges/statistics", "/v1/exchanges/export"):
        told(await desk.get(path), 503, "search-available")
    assert await desk.accesses() == before
    assert (await desk.get(f"/v1/exchanges/{desk.records[0]['id']}")).status_code == 200


# Who may


@pytest.mark.parametrize(
    ("party", "allowed"),
    [
        ("auditor", {"list", "statistics", "export", "show"}),
        ("operator", {"statistics"}),
        ("owner", set()),
        ("caller", set()),
    ],
)
async def test_auditors_see_records_operators_counts_and_others_neither(
    desk: AuditDesk, party: str, allowed: set[str]
) -> None:
    foreign = exchange(1, query={"client": OTHERS["client"], "service": OTHERS["service"]})
    await desk.add(foreign)
    paths = {
        "list": "/v1/exchanges",
        "statistics": "/v1/exchanges/statistics",
        "export": "/v1/exchanges/export",
        "show": f"/v1/exchanges/{foreign.exchange_id}",
    }
    for name, path in paths.items():
        response = await desk.get(path, party=party)
        if name in allowed:
            assert response.status_code == 200
        elif name == "show":
            told(response, 404, "exists")
        else:
            told(response, 403, "role")
        assert (await desk.get(path, party=None)).status_code == 401


@pytest.mark.parametrize("name", ["subject", "person", "user", "represented", "case", "message_id", "Datong-Subject"])
async def test_an_operator_counts_nothing_that_would_be_about_one_person_or_matter(desk: AuditDesk, name: str) -> None:
    header = {"Datong_Subject": NUMBER} if name == "Datong-Subject" else {}
    path = "/v1/exchanges/statistics" + ("" if header else f"?{name}={NUMBER}")
    problem = told(await desk.get(path, party="operator", **header), 403, "role")
    assert name in problem["detail"]
    assert NUMBER not in problem["detail"]
    assert (await desk.get(path, **header)).status_code == 200


async def test_figures_agree_with_the_records(desk: AuditDesk) -> None:
    response = await desk.get(f"/v1/exchanges/statistics?step=day&until={instant(NOON + 20 * DAY)}", party="operator")
    found = StatisticsView.model_validate_json(response.content, strict=True, extra="forbid")
    records = desk.records[:24]
    assert found.total == 24
    assert found.by_outcome == {"answered": 18, "refused": 6}
    assert (found.by_rule, found.by_status_class) == ({"purpose": 6}, {"2xx": 18, "4xx": 6})
    assert found.request_bytes == sum(record["query"]["request_size"] for record in records)
    assert found.answer_bytes == 18 * 4
    assert found.duration.max_us == 230_000
    assert [(point.start, point.count) for point in found.series] == [
        ("2026-05-03T16:00:00Z", 3),
        *((f"2026-05-0{day}T16:00:00Z", 6) for day in (4, 5, 6)),
        ("2026-05-07T16:00:00Z", 3),
    ]
    pairs = {(pair.client, pair.owner): pair for pair in found.matrix}
    assert sum(pair.count for pair in found.matrix) == 24
    assert pairs[(HOUSING, TAX)].count == 8
    assert pairs[(HOUSING, TAX)].answered + pairs[(HOUSING, TAX)].refused == 8
    assert found.matrix_rest.count == 0
    assert found.by_purpose == {"public-rental-housing": 19, "tax-check": 5}
    accesses = await desk.accesses()
    assert (accesses[-1].act, accesses[-1].details["count"]) == ("exchanges.statistics", 24)
