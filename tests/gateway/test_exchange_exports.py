"""Exports: what stands in them, what spreadsheet programs make of them, and how they end."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import itertools
import json
import tracemalloc
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import closing
from typing import Any
from xml.etree import ElementTree

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from exchange import LogEvent, StoredEntry, UnavailableError, open_checkpoint
from exchange.transparency.checkpoint import NoteVerifier
from gateway.api.exchange_exports import MOST_AT_ONCE
from gateway.exports.cells import is_formula_like
from gateway.exports.columns import COLUMNS, cells_of
from gateway.exports.csv_file import CsvWriter
from gateway.exports.export import EXPORT_FORMATS, ExportFormat, export, writer_for
from gateway.exports.heading import Heading
from gateway.exports.json_lines import JsonLinesWriter
from gateway.exports.writers import ExportWriter
from gateway.exports.xlsx_file import XlsxWriter
from tests.exchange.log_kit import change_attempt, change_record
from tests.gateway.audit_desk import CLERK, AuditDesk, audit_desk, exchange
from tests.registry.example import AUDIT, TAX

EVIL = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "＝1+1",
    "＋1",
    "－1",
    "＠SUM(A1)",
    "﹦1",
    "﹣1",
    " =cmd|' /C calc'!A0",
    "\u3000＝1",
    "\u200b=1",
    "\ufeff=1",
)
"""Texts that some program would take for a formula."""
HARMLESS = ("1=1", "沪民政〔2026〕17号", "a-b", "'=1", "", "0", "—=", "_x000D_", "<&>\"']]>", "\x01", "1e10", "a\r\nb")
QUERY = {"client": TAX, "service": f"{TAX}/enterprises"}
HEADING = Heading(
    filter={"kind": "exchange", "case": '=1+1,"x"', "subjects": ["ab" * 32], "since_ms": 1_777_867_200_000},
    checkpoint="log.example/test\n20\nq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=\n\n— log.example/test q83vEg==\n",
    size=20,
    made_at="2026-05-04T12:00:00.000Z",
    made_by=f"{AUDIT} (张三)",
)


def stored(seq: int, leaf: bytes, **columns: Any) -> StoredEntry:
    fields: dict[str, Any] = {
        "seq": seq,
        "exchange_id": "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "at_ms": 0,
        "client": TAX,
        "service": f"{TAX}/enterprises",
        "outcome": "answered",
        "rule": "",
        "leaf_hash": hashlib.sha256(b"\0" + leaf).digest(),
        "salt": None,
        "leaf": leaf,
    }
    return StoredEntry(**{**fields, **columns})


def with_case(case: str, seq: int = 7) -> StoredEntry:
    return stored(seq, exchange(1, query={**QUERY, "case": case}).record)


def whole(writer: ExportWriter, entries: list[StoredEntry], heading: Heading = HEADING) -> bytes:
    with closing(writer):
        return writer.begin(heading) + writer.rows(entries) + writer.end(len(entries))


def csv_rows(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def sheet_rows(data: bytes, name: str) -> list[list[Any]]:
    return CalamineWorkbook.from_filelike(io.BytesIO(data)).get_sheet_by_name(name).to_python(skip_empty_area=False)


def column(name: str) -> int:
    return [each.en for each in COLUMNS].index(name)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AuditDesk]:
    folder = tmp_path_factory.mktemp("exports")
    async with audit_desk(folder, [exchange(number, query=QUERY) for number in range(40)]) as desk:
        yield desk


# Over the API


@pytest.mark.parametrize("form", EXPORT_FORMATS)
@pytest.mark.asyncio(loop_scope="module")
async def test_an_export_holds_the_filter_a_checkpoint_over_all_records_and_their_number(
    desk: AuditDesk, form: ExportFormat
) -> None:
    response = await desk.get(f"/v1/exchanges/export?format={form}&owner={TAX}&max_duration_ms=50")
    assert response.status_code == 200
    name = response.headers["content-disposition"]
    assert name.startswith('attachment; filename="exchanges-20')
    assert name.endswith(f'.{form}"')
    expected = [each for each in desk.records if each["query"]["service"].startswith(TAX)]
    if form == "jsonl":
        first, *lines, last = [json.loads(line) for line in response.text.splitlines()]
        assert first["format"] == "datong-export/1"
        assert first["filter"] == {"kind": "exchange", "owner": TAX, "duration_max_us": 50_000}
        assert first["made_by"] == f"{AUDIT} ({CLERK})"
        note, size = first["checkpoint"], first["size"]
        assert [each["record"] for each in lines] == expected
        assert last == {"count": len(expected)}
        for line, text in zip(lines, response.text.splitlines()[1:], strict=False):
            leaf = text.partition('"record":')[2][:-1].encode()
            assert hashlib.sha256(b"\0" + leaf).hexdigest() == line["leaf_hash"], "the record's own bytes"
            assert line["seq"] < size
    else:
        if form == "csv":
            assert response.headers["content-type"] == "text/csv; charset=utf-8"
            assert response.content.startswith(b"\xef\xbb\xbf")
            table = csv_rows(response.content)
            about = [row[0][2:].split(": ", 1) for row in table if row[0].startswith("# ")]
            rows = [row for row in table if not row[0].startswith("# ")]
        else:
            about = list(sheet_rows(response.content, "about"))
            rows = sheet_rows(response.content, "records")
            about.append(rows.pop()[0][2:].split(": ", 1))
        values = [(name, value) for name, value in about]
        assert ("filter owner", TAX) in values
        assert ("filter duration_max_us", "50000") in values
        assert values[-1] == ("records", str(len(expected)))
        note = "".join([f"{value}\n" for name, value in values if name == "checkpoint"])
        size = int(dict(values)["entries of the log"])
        assert rows[0] == [each.en for each in COLUMNS]
        assert [row[column("id")] for row in rows[1:]] == [each["id"] for each in expected]
        assert all(int(row[0]) < size for row in rows[1:])
    checkpoint = open_checkpoint(note, [NoteVerifier.from_vkey(desk.log.vkey)])
    assert checkpoint.size == size
    assert await desk.log.reader.consistency(size, (await desk.log.reader.size())[0]) is not None


@pytest.mark.asyncio(loop_scope="module")
async def test_an_export_is_on_record_at_its_beginning_and_at_its_end(desk: AuditDesk) -> None:
    await desk.get(f"/v1/exchanges/export?format=csv&client={TAX}")
    asked, given = (await desk.accesses())[-2:]
    assert (asked.act, given.act) == ("exchanges.export", "exchanges.exported")
    assert asked.details.keys() == {"filter", "format", "size"}
    assert (asked.details["format"], given.details) == ("csv", {"count": len(desk.records)})
    head = await desk.call("HEAD", f"/v1/exchanges/export?format=csv&client={TAX}")
    assert (head.status_code, head.content) == (200, b"")
    assert (await desk.accesses())[-1].act == "exchanges.export", (
        "nothing was given, and that it was asked is on record"
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_headings_are_chinese_for_who_reads_chinese(desk: AuditDesk) -> None:
    table = csv_rows((await desk.get("/v1/exchanges/export", accept_language="zh-CN")).content)
    assert table[0] == ["# 格式: datong-export/1"]
    assert [each.zh for each in COLUMNS] in table
    assert table[-1][0].startswith("# 记录数: ")
    book = await desk.get("/v1/exchanges/export?format=xlsx", accept_language="zh-CN")
    assert CalamineWorkbook.from_filelike(io.BytesIO(book.content)).sheet_names == ["说明", "记录"]
    assert book.headers["content-language"] == "zh-CN"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_added_while_an_export_runs_is_not_in_it(
    desk: AuditDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = desk.search.iterate
    more: list[str] = []

    async def growing(*terms: Any) -> AsyncIterator[StoredEntry]:
        async for entry in begun(*terms):
            added = exchange(1, query=QUERY)
            more.append(added.exchange_id)
            await added.append_to(desk.log)
            yield entry

    count = (await desk.get("/v1/exchanges/statistics")).json()["total"]
    monkeypatch.setattr(desk.gateway.search, "iterate", growing)
    response = await desk.get("/v1/exchanges/export?format=jsonl")
    assert response.text.count("\n") == count + 2
    assert len(more) == count
    assert not any(each in response.text for each in more)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("form", EXPORT_FORMATS)
async def test_an_export_that_breaks_off_has_no_end_and_frees_its_place(
    desk: AuditDesk, form: ExportFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = desk.search.iterate

    async def breaking(*terms: Any) -> AsyncIterator[StoredEntry]:
        entries = begun(*terms)
        for _ in range(20):
            yield await anext(entries)
        await entries.aclose()
        raise UnavailableError("search-available")

    before = len(await desk.accesses())
    with monkeypatch.context() as patched:
        patched.setattr(desk.gateway.search, "iterate", breaking)
        for _ in range(MOST_AT_ONCE + 1):
            received = await received_of(desk, f"/v1/exchanges/export?format={form}")
            assert b"# records" not in received
            assert b'"count"' not in received
            assert not zipfile.is_zipfile(io.BytesIO(received))
    acts = [each.act for each in (await desk.accesses())[before:]]
    assert acts == ["exchanges.export"] * (MOST_AT_ONCE + 1)
    assert (await desk.get(f"/v1/exchanges/export?format={form}")).status_code == 200


async def received_of(desk: AuditDesk, path: str) -> bytes:
    """What a caller has when the answer breaks off."""
    parts: list[bytes] = []
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": target,
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "https",
        "headers": [(b"x-test-party", b"auditor"), (b"x-road-userid", b"x")],
        "server": ("gateway.example", 443),
        "client": ("127.0.0.1", 1),
    }
    waiting = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await waiting.wait()  # the caller stays
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        parts.append(message.get("body", b""))
        # That there is more: a server closes the connection when it never comes.
        assert message["type"] == "http.response.start" or message["more_body"]

    await desk.app(scope, receive, send)
    return b"".join(parts)


@pytest.mark.asyncio(loop_scope="module")
async def test_who_goes_away_frees_the_place_and_who_comes_too_many_is_told(
    desk: AuditDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, reached, go_on = desk.search.iterate, asyncio.Semaphore(0), asyncio.Event()

    async def standing(*terms: Any) -> AsyncIterator[StoredEntry]:
        entries = begun(*terms)
        try:
            yield await anext(entries)
            reached.release()
            await go_on.wait()
        finally:
            await entries.aclose()

    monkeypatch.setattr(desk.gateway.search, "iterate", standing)
    running = [asyncio.create_task(desk.get("/v1/exchanges/export")) for _ in range(MOST_AT_ONCE)]
    for _ in running:
        await reached.acquire()
    refused = await desk.get("/v1/exchanges/export")
    assert (refused.status_code, refused.json()["rule"]) == (503, "exports-at-once")
    running[0].cancel()
    await asyncio.wait(running[:1])
    another = asyncio.create_task(desk.get("/v1/exchanges/export"))
    await reached.acquire()
    go_on.set()
    assert [(await each).status_code for each in (*running[1:], another)] == [200] * MOST_AT_ONCE


# What stands in the files


@pytest.mark.parametrize("text", EVIL)
def test_no_text_becomes_a_formula(text: str) -> None:
    assert is_formula_like(text)
    entry = with_case(text)
    row = csv_rows(whole(CsvWriter(), [entry]))[-2]
    assert row[column("case")] == f"'{text}"
    book = whole(XlsxWriter(), [entry])
    cell = xml_cells(book, 2)[-2][column("case")]
    assert (cell.get("t"), cell.get("s"), cell.find("{*}f")) == ("inlineStr", "2", None)
    styles = ElementTree.fromstring(zipfile.ZipFile(io.BytesIO(book)).read("xl/styles.xml"))
    assert styles.findall("{*}cellXfs/{*}xf")[2].get("quotePrefix") == "1"


def xml_cells(book: bytes, sheet: int) -> list[list[ElementTree.Element]]:
    content = zipfile.ZipFile(io.BytesIO(book)).read(f"xl/worksheets/sheet{sheet}.xml")
    return [
        list(row)
        for row in ElementTree.fromstring(content).iter(
            "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}row"
        )
    ]


@pytest.mark.parametrize("text", HARMLESS)
def test_all_other_texts_stay_as_they_are(text: str) -> None:
    assert not is_formula_like(text)
    entry = with_case(text)
    assert csv_rows(whole(CsvWriter(), [entry]))[-2][column("case")] == text
    shown = sheet_rows(whole(XlsxWriter(), [entry]), "records")[1][column("case")]
    assert shown == text.replace("\x01", "\ufffd")


@given(st.text(max_size=40))
def test_what_ever_a_text_begins_with_its_first_visible_character_decides(text: str) -> None:
    """Whatever is left in front of a cell, a program that passes over blanks finds no formula in it."""
    row = csv_rows(whole(CsvWriter(), [with_case(text)]))[-2] if "\x00" not in text else None
    if row is not None:
        shown = row[column("case")]
        assert shown.lstrip()[:1] not in ("=", "+", "-", "@", "＝", "＋", "－", "＠")
        assert shown.removeprefix("'") == text or shown == text


def test_numbers_are_numbers_and_instants_texts() -> None:
    entry = with_case("1")
    cells = cells_of(entry)
    assert [cells[column(name)] for name in ("entry", "status", "duration ms", "request bytes", "answer bytes")] == [
        *(7, 200, 1, 0, 4)
    ]
    row = sheet_rows(whole(XlsxWriter(), [entry]), "records")[1]
    assert [row[column(name)] for name in ("entry", "status")] == [7.0, 200.0]
    assert isinstance(row[column("at")], str)
    assert row[column("at")].endswith("Z")
    assert row[column("owner")] == TAX


def test_records_of_other_kinds_and_damaged_ones_have_their_line() -> None:
    change = change_attempt(change_record())
    event = LogEvent(
        id="0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c",
        kind="access",
        act="exchanges.list",
        at="2026-05-04T12:00:00.000Z",
        by=AUDIT,
        user="张三",
        details={"count": 1},
    )
    entries = [
        stored(1, change.record, client="", service="g1", outcome="change", rule="grant.revoke"),
        stored(2, event.leaf, client=AUDIT, service="", outcome="access", rule=event.act),
        *(stored(3, leaf) for leaf in (b"\xff", b"[]", b'{"query":7}', b"{" * 5000, b'{"a":\n1}')),
    ]
    rows = [dict(zip([each.en for each in COLUMNS], cells_of(entry), strict=True)) for entry in entries]
    assert [row["kind"] for row in rows[:2]] == ["change", "access"]
    assert (rows[0]["rule"], rows[0]["service"], rows[0]["reason"]) == ("grant.revoke", "g1", "批复〔2026〕7号")
    assert (rows[1]["caller"], rows[1]["official"], rows[1]["details"]) == (AUDIT, "张三", '{"details":{"count":1}}')
    assert all(row["leaf hash"] == entry.leaf_hash.hex() for row, entry in zip(rows, entries, strict=True))
    for form in EXPORT_FORMATS:
        assert whole(writer_for(form), entries)
    lines = [json.loads(line) for line in whole(JsonLinesWriter(), entries).splitlines()]
    assert [line["record"] is None for line in lines[1:-1]] == [False, False, True, True, False, True, True]


def test_what_is_told_of_an_export_is_one_cell_a_line() -> None:
    rows = csv_rows(whole(CsvWriter(), []))
    assert ['# filter case: =1+1,"x"'] in rows
    assert ["# filter since_ms: 2026-05-04T04:00:00.000Z"] in rows
    assert [row for row in rows if row[0].startswith("# checkpoint")] == [
        [f"# checkpoint: {line}"] for line in HEADING.checkpoint.split("\n")[:-1]
    ]
    assert rows[-1] == ["# records: 0"]
    assert all(len(row) == 1 for row in rows if row[0].startswith("#"))


def test_a_sheet_that_is_full_is_followed_by_another() -> None:
    entries = [with_case(str(number), number) for number in range(7)]
    for limits in ({"most_rows": 3}, {"most_bytes": 8000}):
        book = CalamineWorkbook.from_filelike(io.BytesIO(whole(XlsxWriter(**limits), entries)))
        names = book.sheet_names[1:]
        assert names[0] == "records"
        assert len(names) > 2
        tables = [book.get_sheet_by_name(name).to_python() for name in names]
        assert all(table[0][0] == "entry" for table in tables)
        shown = [row[0] for table in tables for row in table[1:]]
        assert shown == [*range(7), "# records: 7"]


def test_a_text_longer_than_a_cell_is_cut_where_cells_end() -> None:
    shown = sheet_rows(whole(XlsxWriter(), [with_case("长" * 40_000)]), "records")[1][column("case")]
    assert (len(shown), shown[-1]) == (32_767, "…")


@pytest.mark.parametrize("form", EXPORT_FORMATS)
async def test_memory_stays_small_and_others_get_their_turn(form: ExportFormat) -> None:
    """However many records there are; and nothing is read ahead of who takes it."""
    entry = with_case("x" * 200)
    read = 0

    async def many() -> AsyncIterator[StoredEntry]:
        nonlocal read
        for read in range(6_000):  # noqa: B007  # the test looks at it
            yield entry

    async def ended(count: int) -> None:
        assert count == 6_000

    parts: AsyncGenerator[bytes, None] = export(writer_for(form), HEADING, many(), ending=ended)
    turns = itertools.count()

    async def other() -> None:
        while True:
            next(turns)
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    tracemalloc.start()
    try:
        first = await anext(parts)
        assert read < 3000, "no more was read than is needed for a part"
        size = len(first)
        async for part in parts:
            size += len(part)
            assert len(part) < 1 << 20
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        beside.cancel()
    assert most < 2 << 20
    assert next(turns) > 300
    assert size > 6_000
