"""The files source on real files: every format, rows by key and by column, pages, changes, and files that cannot be used."""

from __future__ import annotations

import asyncio
import base64
import csv
import importlib.util
import json
import os
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from department_adapters import AdapterTest, ContractError, FilesSource, TestedAnswer, read_contract
from department_adapters.files import source as source_module
from department_adapters.files import table as table_module
from department_adapters.files.columns import CellError, Column, read_cell, searched
from department_adapters.files.reading import FileError, Form, read_rows
from department_adapters.files.section import FilesService
from department_adapters.files.table import Table, TableBuilder
from deploy.demo.identities import TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import BackendError
from tests.conftest import Pki
from tests.department_adapters import files_kit
from tests.department_adapters.adapter_kit import FullDisk, Gateway, adapter_on

FORMATS: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "utf-8.csv": (files_kit.text("utf-8"), {}),
    "utf-8-mark.csv": (files_kit.text("utf-8-sig"), {}),
    "gb18030.csv": (files_kit.text("gb18030"), {}),
    "gbk-declared.csv": (files_kit.text("gbk"), {"encoding": "gbk"}),
    "semicolons.csv": (files_kit.text("utf-8", ";"), {}),
    "bars.txt": (files_kit.text("utf-8", "|"), {"delimiter": "|"}),
    "utf-16.tsv": (files_kit.text("utf-16", "\t"), {}),
    "book.xlsx": (files_kit.xlsx, {"sheet": "人员", "header": 3}),
    "second-sheet.xlsx": (files_kit.xlsx, {"sheet": 2, "header": 3}),
    "open.ods": (files_kit.ods, {"sheet": "人员"}),
    "table.parquet": (files_kit.parquet, {}),
}


def section(folder: Path, files: str = "*.csv", **keys: Any) -> FilesService:
    """A service over `folder`, as adapter.toml declares it."""
    declared = {
        "source": "files",
        "files": files,
        "table": "people",
        "key": "number",
        "columns": files_kit.COLUMNS,
        "types": files_kit.TYPES,
        **keys,
    }
    return FilesService.model_validate(declared).placed(folder)


def source(folder: Path, files: str = "*.csv", *, max_answer: int = 1 << 20, **keys: Any) -> FilesSource:
    made = section(folder, files, look_every=3600.0, **keys).make_source(max_answer=max_answer)
    assert isinstance(made, FilesSource)
    return made


@asynccontextmanager
async def at_work(folder: Path, files: str = "*.csv", **keys: Any) -> AsyncIterator[tuple[AdapterTest, FilesSource]]:
    """A source that looks at its files when it is told to."""
    made = source(folder, files, **keys)
    async with AdapterTest(made) as call:
        yield call, made


def write(path: Path, *rows: str, headings: str = "number,name") -> None:
    path.write_text("\n".join([headings, *rows, ""]), encoding="utf-8")


PLAIN = {"columns": ["number", "name"], "types": {}}


async def names(call: AdapterTest, *numbers: str) -> list[str]:
    return [(await call.get(f"/people/{number}")).json().get("name", "") for number in numbers]


@pytest.mark.parametrize("name", FORMATS)
async def test_every_format_gives_the_same_answers(tmp_path: Path, name: str) -> None:
    """Numbers that identify keep their zeros and digits; dates, truth values and weights are what they are declared to be."""
    make, keys = FORMATS[name]
    make(tmp_path / name)
    async with at_work(tmp_path, name, listing=True, optional=["division"], **keys) as (call, _):
        for number, person, division, born, weight, insured, _ in files_kit.ROWS:
            answer = await call.get(f"/people/{number}")
            assert answer.status == 200
            assert answer.headers["content-type"] == "application/json"
            assert answer.json() == {
                "number": number,
                "name": person,
                "division": division,
                "born": born.isoformat(),
                "weight": weight,
                "insured": insured,
            }
        found = (await call.get("/people", {"division": "000102"})).json()
        assert [each["number"] for each in found["items"]] == [row[0] for row in files_kit.ROWS[:2]]
        everything = (await call.get("/people")).body
        assert b"canary" not in everything  # a column that is not declared never leaves


async def test_several_files_are_one_table(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "1,一月")
    write(tmp_path / "b.csv", "2,二月")
    (tmp_path / "~$b.csv").write_text("an Office program's lock")
    (tmp_path / ".hidden.csv").write_text("nothing")
    os.mkfifo(tmp_path / "pipe.csv")
    async with at_work(tmp_path, **PLAIN) as (call, _):
        assert await names(call, "1", "2") == ["一月", "二月"]


async def test_a_row_may_have_several_columns_as_its_key(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "1,甲,x", "1,乙,y", headings="number,name,note")
    keys: dict[str, Any] = {"columns": ["number", "name", "note"], "types": {}, "key": ["number", "name"]}
    async with at_work(tmp_path, **keys) as (call, _):
        assert (await call.get("/people/1/乙")).json()["note"] == "y"
        assert (await call.get("/people/1")).status == 404
        assert (await call.get("/people/1/丙")).status == 404


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/people/997001195402177090", 200),
        ("HEAD", "/people/997001195402177090", 200),
        ("GET", "/people/997001195402177091", 404),
        ("GET", "/people/", 200),
        ("GET", "/others/997001195402177090", 404),
        ("GET", "/people/997001195402177090/x", 404),
        ("GET", "/people/%FF", 400),
        ("GET", "/people/997001195402177090?number=1", 400),
        ("GET", "/people?divison=000102", 400),
        ("GET", "/people?division=000102&division=000203", 400),
        ("GET", "/people?division=", 400),
        ("GET", "/people?born=17.02.1954", 400),
        ("GET", "/people?born=1954-02-17", 200),
        ("GET", "/people?division=%FF", 400),
        ("GET", "/people?" + "&".join(f"x{number}=1" for number in range(101)), 400),
        ("POST", "/people", 405),
        ("DELETE", "/people/997001195402177090", 405),
    ],
)
async def test_what_is_asked_is_answered_or_refused(tmp_path: Path, method: str, target: str, status: int) -> None:
    files_kit.text("utf-8")(tmp_path / "a.csv")
    async with at_work(tmp_path, listing=True, optional=["division", "born"]) as (call, _):
        answer = await call.call(method, target)
        assert answer.status == status
        assert (answer.body == b"") == (method == "HEAD")
        if status == 405:
            assert answer.headers["allow"] == "GET, HEAD"
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status


async def test_refusals_speak_the_callers_language(tmp_path: Path) -> None:
    files_kit.text("utf-8")(tmp_path / "a.csv")
    async with at_work(tmp_path) as (call, _):
        answer = await call.get("/people/1", headers={"Accept-Language": "zh-CN,zh;q=0.9"})
        assert (answer.json()["detail"], answer.headers["content-language"]) == ("没有这条记录。", "zh-CN")


async def test_a_list_is_only_there_where_it_is_offered_and_with_what_it_needs(tmp_path: Path) -> None:
    files_kit.text("utf-8")(tmp_path / "a.csv")
    async with at_work(tmp_path) as (call, _):
        assert (await call.get("/people")).status == 404
    async with at_work(tmp_path, listing=True, required=["division"], optional=["insured"]) as (call, _):
        assert (await call.get("/people")).status == 400
        assert (await call.get("/people", {"insured": "是"})).status == 400
        found = (await call.get("/people", {"division": "000102", "insured": "是"})).json()
        assert [each["name"] for each in found["items"]] == ["例甲子天"]


# -- pages


async def pages(call: AdapterTest, query: dict[str, str]) -> AsyncIterator[list[Any]]:
    cursor: str | None = None
    while True:
        answer = (await call.get("/people", {**query, "cursor": cursor})).json()
        yield [item["number"] for item in answer["items"]]
        cursor = answer["next"]
        if cursor is None:
            return


async def test_pages_hold_every_row_once_while_rows_come_and_go(tmp_path: Path) -> None:
    """Rows that are there all the time are seen exactly once."""
    path = tmp_path / "a.csv"
    staying = [f"{number:03d}" for number in range(0, 100, 2)]
    write(path, *(f"{number},x" for number in staying))
    async with at_work(tmp_path, **PLAIN, listing=True, page=7) as (call, made):
        seen: list[str] = []
        async for page in pages(call, {}):
            seen += page
            added = [f"{number:03d}" for number in range(1, 100, len(seen) + 2)]
            write(path, *(f"{number},x" for number in sorted({*staying, *added}, reverse=True)))
            await made.look()
            await made.look()
        assert [number for number in seen if number in staying] == staying
        assert len(set(seen)) == len(seen)


async def test_a_page_is_no_larger_than_an_answer_may_be(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", *(f"{number:02d},{'x' * 100}" for number in range(20)))
    async with at_work(tmp_path, **PLAIN, listing=True, max_answer=600) as (call, _):
        found = [page async for page in pages(call, {})]
        assert all(1 <= len(page) <= 5 for page in found)
        assert [number for page in found for number in page] == [f"{number:02d}" for number in range(20)]


async def test_a_cursor_shows_no_key_and_is_good_for_every_instance(tmp_path: Path) -> None:
    """The key may be what a grant masks."""
    write(tmp_path / "a.csv", *(f"99700119540217{number:04d},x" for number in range(5)))
    secret = "0123456789abcdef0123456789abcdef"
    async with at_work(tmp_path, **PLAIN, listing=True, page=2) as (call, _):
        cursor = (await call.get("/people")).json()["next"]
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        assert b"9970011954" not in base64.urlsafe_b64decode(padded)
    async with at_work(tmp_path, **PLAIN, listing=True, page=2) as (call, _):
        assert (await call.get("/people", {"cursor": cursor})).json()["items"][0]["number"] == "997001195402170002"
    assert (tmp_path / "cursor.key").stat().st_mode & 0o077 == 0
    async with at_work(tmp_path, **PLAIN, listing=True, page=2, cursor_key=secret) as (call, _):
        assert (await call.get("/people", {"cursor": cursor})).status == 400


async def test_a_secret_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"cursor_file .*: No such file"):
        source(tmp_path, **PLAIN, listing=True, cursor_file=Path("nowhere/cursor.key"))
    source(tmp_path, **PLAIN, cursor_file=Path("nowhere/cursor.key"))  # without lists there are none
    (tmp_path / "cursor.key").write_text("short")
    with pytest.raises(ContractError, match="holds no secret"):
        source(tmp_path, **PLAIN, listing=True)


async def test_a_cursor_is_good_only_for_the_question_it_was_given_for(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", *(f"{number},{number % 2}" for number in range(9)))
    async with at_work(tmp_path, **PLAIN, listing=True, optional=["name"], page=2) as (call, _):
        cursor = (await call.get("/people", {"name": "1"})).json()["next"]
        assert (await call.get("/people", {"name": "1", "cursor": cursor})).status == 200
        for query in (
            {"name": "0", "cursor": cursor},
            {"cursor": cursor},
            {"name": "1", "cursor": cursor[:-4]},
            {"name": "1", "cursor": "x" + cursor[1:]},
            {"name": "1", "cursor": ""},
            {"name": "1", "cursor": "例"},
            {"name": "1", "cursor": "A" * 5000},
            {"name": "1", "cursor": "WyIxIl0"},
        ):
            assert (await call.get("/people", query)).status == 400, query


VALUES = st.text(st.sampled_from('01a例\u00e9\U0001f600 "\\'), min_size=1, max_size=3).filter(lambda text: text.strip())


FEW = st.sampled_from(["0", "1", "例"])


@given(
    rows=st.lists(st.tuples(VALUES, FEW, st.one_of(st.none(), FEW)), max_size=30),
    unknown=VALUES,
    a=FEW,
    b=FEW,
    page=st.integers(1, 5),
    run=st.integers(1, 8),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_table_finds_what_looking_at_every_row_finds(
    rows: list[tuple[str, str, str | None]], unknown: str, a: str, b: str, page: int, run: int
) -> None:
    """Whatever the order of the rows, and in however many steps they are sorted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_module, "_RUN", run)
        table, kept = _table(rows)
    assert len(table) == len(kept)
    for key in (*kept, unknown):
        row = table.row([key])
        assert (None if row is None else json.loads(row)) == kept.get(key)
    for where in ({}, {"a": a}, {"b": b}, {"a": a, "b": b}, {"a": "nothing"}):
        found: list[Any] = []
        after: list[str] | None = None
        while True:
            part, after = table.page(where, after, page, 1 << 20)
            assert len(part) <= page
            found += map(json.loads, part)
            if after is None:
                break
            assert len(found) < len(kept)
        expected = [kept[key] for key in sorted(kept) if all(kept[key][name] == value for name, value in where.items())]
        assert found == expected


def _table(rows: list[tuple[str, str, str | None]]) -> tuple[Table, dict[str, dict[str, str | None]]]:
    columns = [Column(name=name, heading=name) for name in ("k", "a", "b")]
    builder = TableBuilder(columns, ["k"], ["a", "b"], last=True, max_bytes=1 << 20)
    kept: dict[str, dict[str, str | None]] = {}
    for key, a, b in rows:
        builder.add((key, a, b))
        kept[key.strip()] = {"k": key.strip(), "a": a, "b": b}
    table, _ = builder.finish()
    return table, kept


# -- changes


async def test_a_changed_file_counts_once_it_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write(path, "1,old")
    async with at_work(tmp_path, **PLAIN) as (call, made):
        assert await names(call, "1") == ["old"]
        before = (await call.get("/people/1")).headers["last-modified"]
        write(path, "1,newer")
        os.utime(path, (1, 2_000_000_000))
        await made.look()
        assert await names(call, "1") == ["old"]  # it may still be written to
        write(path, "1,newest", "2,two")
        os.utime(path, (1, 2_000_000_001))
        await made.look()
        assert await names(call, "1") == ["old"]
        with capture_logs() as said:
            await made.look()
        assert await names(call, "1", "2") == ["newest", "two"]
        after = (await call.get("/people/1")).headers["last-modified"]
        assert (before != after, after) == (True, "Wed, 18 May 2033 03:33:21 GMT")
        (loaded,) = said
        assert (loaded["event"], loaded["table"], loaded["files"], loaded["rows"]) == ("files.loaded", "people", 1, 2)
        assert loaded["bytes"] > 0
        with capture_logs() as said:
            await made.look()
        assert said == []


async def test_the_source_looks_by_itself(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "1,old")
    made = section(tmp_path, look_every=0.01, **PLAIN).make_source(max_answer=1000)
    async with AdapterTest(made) as call:
        assert await names(call, "1") == ["old"]
        write(tmp_path / "next", "1,new")
        (tmp_path / "next").replace(tmp_path / "a.csv")
        async with asyncio.timeout(10):
            while await names(call, "1") == ["old"]:
                await asyncio.sleep(0.005)
        assert await names(call, "1") == ["new"]


async def test_a_file_that_is_written_while_it_is_read_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    write(path, "1,old")
    async with at_work(tmp_path, **PLAIN) as (call, made):
        write(path, "1,half")

        def and_then_more(*arguments: Any) -> Any:
            loaded = real(*arguments)
            with path.open("a") as file:
                file.write("2,more\n")
            return loaded

        real = source_module.load
        monkeypatch.setattr(source_module, "load", and_then_more)
        await made.look()
        await made.look()
        assert await names(call, "1") == ["old"]
        monkeypatch.setattr(source_module, "load", real)
        await made.look()
        await made.look()
        assert await names(call, "1", "2") == ["half", "more"]


async def test_a_half_written_file_keeps_the_old_rows_and_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write(path, "1,old")
    async with at_work(tmp_path, **PLAIN) as (call, made):
        path.write_text("number,name\n1,new\n2")
        with capture_logs() as said:
            for _ in range(4):
                await made.look()
        assert await names(call, "1") == ["old"]
        (refused,) = said
        assert (refused["event"], refused["file"], refused["line"]) == ("files.refused", str(path), 3)
        assert refused["kept"] is True
        write(path, "1,new", "2,two")
        await made.look()
        await made.look()
        assert await names(call, "1", "2") == ["new", "two"]


async def test_without_files_the_system_is_away_until_there_are_some(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    async with at_work(tmp_path, "drop/*.csv", **PLAIN) as (call, made):
        with pytest.raises(BackendError):
            await call.get("/people/1")
        assert (await call.get("/nothing")).status == 404
        folder.mkdir()
        write(folder / "a.csv", "1,one")
        await made.look()
        assert await names(call, "1") == ["one"]
        (folder / "a.csv").unlink()
        await made.look()
        assert await names(call, "1") == ["one"]  # taken away to be put there anew, perhaps
        with capture_logs() as said:
            await made.look()
            await made.look()
        assert [each["event"] for each in said] == ["files.none"]
        with pytest.raises(BackendError):
            await call.get("/people/1")


@pytest.mark.parametrize("how", ["told", "cancelled"])
async def test_stopping_does_not_wait_for_a_file_that_is_being_read(tmp_path: Path, how: str) -> None:
    """The rows never end here: only the stop does."""
    write(tmp_path / "a.csv", "1,one")
    made = source(tmp_path, **PLAIN)

    begun, closed = threading.Event(), threading.Event()
    most = 2_000_000
    read = 0

    def endless(*_: Any) -> Iterator[tuple[int, list[str]]]:
        nonlocal read
        try:
            while read < most:
                begun.set()
                read += 1
                yield read, [str(read), "x"]
        finally:
            closed.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("department_adapters.files.loading.read_rows", endless)
        starting = asyncio.create_task(made.start())
        assert await asyncio.to_thread(begun.wait, 30)
        if how == "told":
            await made.stop()
            await starting
        else:
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
        assert await asyncio.to_thread(closed.wait, 60)
    assert read < most


# -- files that cannot be used

HOSTILE: dict[str, tuple[bytes, int | None, str]] = {
    "a row too short": (b"number,name\n1,a\n2\n", 3, "1 fields, the headings are 2"),
    "a row too long": (b"number,name\n1,a\n2,b,c\n", 3, "3 fields"),
    "no closing quotation mark": (b'number,name\n1,"a\n2,b\n', 3, "not CSV"),
    "text after a quotation": (b'number,name\n1,"a"b\n', 2, "not CSV"),
    "the same key twice": (b"number,name\n1,a\n2,b\n1,c\n", 4, "line 4 repeats the key of line 2"),
    "no key": (b"number,name\n1,a\n ,canary\n", 3, "is of the key and empty"),
    "a key that cannot be asked for": (b"number,name\n1\x002,canary\n", 2, "cannot be asked for"),
    "a heading missing": (b"number,nome\n1,a\n", 1, "'name' is there 0 times"),
    "a heading twice": (b"number,name,name\n1,a,b\n", 1, "'name' is there 2 times"),
    "nothing": (b"", 1, "'number' is there 0 times"),
    "no text": (bytes(range(128, 256)), None, "not gb18030"),
    "no text further on": (b"number,name\n1,a\n2,\xff\xff\n", None, "not gb18030"),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_file_that_is_wrong_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    """The log says where, and holds nothing of the rows."""
    content, line, problem = HOSTILE[case]
    (tmp_path / "a.csv").write_bytes(content)
    with capture_logs() as said:
        async with at_work(tmp_path, **PLAIN) as (call, _):
            with pytest.raises(BackendError):
                await call.get("/people/1")
    (refused,) = said
    assert refused["event"] == "files.refused"
    assert problem in refused["problem"]
    if line is not None:
        assert refused["line"] == line
    assert "canary" not in str(refused)


CELLS: dict[str, tuple[str, list[object], list[object]]] = {
    "text": (
        "text",
        ["007", " a ", "", 12.0, 0.5, True, datetime.fromisoformat("2024-05-01T10:30"), b"\x00"],
        ["007", "a", None, "12", "0.5", "true", "2024-05-01T10:30:00", "AA=="],
    ),
    "integer": ("integer", ["12", "-3", 4.0, None], [12, -3, 4, None]),
    "boolean": ("boolean", ["是", "N", "1", 0.0, False], [True, False, True, False, False]),
    "date": (
        "date",
        ["2024-05-01", "2024/5/1", "2024.05.01", "20240501", 20240501.0, "2024年5月1日", "2024-05-01 00:00:00"],
        ["2024-05-01"] * 7,
    ),
    "datetime": ("datetime", ["2024/05/01 10:30", "2024-05-01"], ["2024-05-01T10:30:00", "2024-05-01T00:00:00"]),
}


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_is_read_as_its_column_is_declared(kind: str) -> None:
    declared, cells, values = CELLS[kind]
    read = [read_cell(declared)(cell) for cell in cells]  # type: ignore[arg-type]
    assert [each.isoformat() if hasattr(each, "isoformat") else each for each in read] == values


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("text", 9.970011954021772e17),  # a citizen number that a spreadsheet has rounded
        ("text", float("nan")),
        ("text", ["a"]),
        ("integer", "1.5"),
        ("integer", "1e3"),
        ("integer", "９"),
        ("integer", "1234567890123456789"),
        ("integer", True),
        ("number", "1,5"),
        ("number", "1e99999"),
        ("number", "NaN"),
        ("boolean", "2"),
        ("date", "2024-13-01"),
        ("date", "01.05.2024"),
        ("date", "2024-05/01"),
        ("date", datetime.fromisoformat("2024-05-01T10:30")),
        ("datetime", "yesterday"),
    ],
)
def test_a_cell_of_another_kind_is_refused_without_telling_it(kind: Any, cell: object) -> None:
    with pytest.raises(CellError) as refusal:
        read_cell(kind)(cell)
    assert str(cell) not in str(refusal.value)


def test_digits_of_a_number_stay_as_they_are_written() -> None:
    builder = TableBuilder(
        [Column(name="k", heading="k"), Column(name="n", heading="n", type="number")],
        ["k"],
        [],
        last=False,
        max_bytes=1000,
    )
    for key, text in enumerate(("1.10", "+007", ".5", "1e3", "12345678901234567890.123")):
        builder.add((str(key), text))
    table, _ = builder.finish()
    rows, _ = table.page({}, None, 10, 1000)
    assert [row.partition(b'"n":')[2] for row in rows] == [
        b"1.10}",
        b"7}",
        b"0.5}",
        b"1000}",
        b"12345678901234567890.123}",
    ]


def test_a_value_is_found_however_it_is_written() -> None:
    assert searched("date", "2024/5/1") == searched("date", "20240501") == "2024-05-01"
    assert searched("boolean", "是") == searched("boolean", "TRUE") == "true"
    assert searched("integer", "007") == "7"
    assert searched("text", "") is None


async def test_of_rows_with_the_same_key_the_last_counts_where_it_is_declared(tmp_path: Path) -> None:
    write(tmp_path / "2024-01.csv", "1,old", "2,two")
    write(tmp_path / "2024-02.csv", "1,newer", "1,newest")
    with capture_logs() as said:
        async with at_work(tmp_path, **PLAIN, on_duplicate="last", listing=True) as (call, _):
            assert await names(call, "1", "2") == ["newest", "two"]
            assert len((await call.get("/people")).json()["items"]) == 2
    assert (said[0]["rows"], said[0]["replaced"]) == (2, 2)
    with capture_logs() as said:
        async with at_work(tmp_path, **PLAIN) as (call, _):
            with pytest.raises(BackendError):
                await call.get("/people/1")
    assert "line 2 repeats the key of line 2 of 2024-01.csv" in said[0]["problem"]
    assert said[0]["file"].endswith("2024-02.csv")


@pytest.mark.parametrize("files", ["*.csv", "*.xlsx", "*.parquet"])
async def test_more_than_the_limit_is_not_taken_into_memory(tmp_path: Path, files: str) -> None:
    """On disk, unpacked, or as rows."""
    rows = [(f"{number:06d}", "x" * 200) for number in range(2000)]
    match files:
        case "*.csv":
            write(tmp_path / "a.csv", *map(",".join, rows))
        case "*.xlsx":
            files_kit.xlsx(tmp_path / "a.xlsx", rows, ("number", "name"))
            assert (tmp_path / "a.xlsx").stat().st_size < 100_000
        case _:
            numbers, texts = zip(*rows, strict=True)
            pyarrow.parquet.write_table(pyarrow.table({"number": numbers, "name": texts}), tmp_path / "a.parquet")
            assert (tmp_path / "a.parquet").stat().st_size < 100_000
    keys: dict[str, Any] = {**PLAIN, "sheet": "人员", "header": 3} if files == "*.xlsx" else PLAIN
    with capture_logs() as said:
        async with at_work(tmp_path, files, **keys, max_bytes=100_000) as (call, _):
            with pytest.raises(BackendError):
                await call.get("/people/000001")
    assert "max_bytes" in said[0]["problem"]
    async with at_work(tmp_path, files, **keys, max_bytes=10_000_000) as (call, _):
        assert (await call.get("/people/001999")).status == 200


@pytest.mark.parametrize("suffix", [".xlsx", ".ods", ".xls", ".xlsb", ".parquet", ".pdf"])
async def test_bytes_that_are_not_what_the_name_says_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for content in (
        b"",
        b"not it",
        b"PK\x03\x04" + bytes(200),
        bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600),
        b"PAR1" * 9,
    ):
        path.write_bytes(content)
        with capture_logs() as said:
            async with at_work(tmp_path, path.name, **PLAIN) as (call, _):
                with pytest.raises(BackendError):
                    await call.get("/people/1")
        assert said[0]["event"] == "files.refused", content


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".ods", ".parquet"])
def test_a_file_over_the_limit_is_refused_before_any_of_its_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        table = pyarrow.table({"姓名": ["例甲子天"], "blank": [" " * 10_000]})
        pyarrow.parquet.write_table(table, path, use_dictionary=False, write_statistics=False)
        size = pyarrow.parquet.read_metadata(path).row_group(0).total_byte_size
    else:
        {".csv": files_kit.text("utf-8"), ".xlsx": files_kit.xlsx, ".ods": files_kit.ods}[suffix](path)
        size = path.stat().st_size
        if suffix != ".csv":
            with zipfile.ZipFile(path) as packed:
                size = sum(each.file_size for each in packed.infolist())
    assert (size > path.stat().st_size) == (suffix in (".xlsx", ".parquet"))
    form = Form(sheet="人员", header=3 if suffix == ".xlsx" else 1)
    _, cells = next(iter(read_rows(path, ["姓名"], form, max(size, path.stat().st_size))))
    assert list(cells) == ["例甲子天"]
    with pytest.raises(FileError, match="larger than max_bytes"):
        next(iter(read_rows(path, ["姓名"], form, size - 1)))


async def test_files_that_are_too_large_together_are_refused(tmp_path: Path) -> None:
    """Also where most of them is in columns that nobody asks for."""
    for name in ("a", "b"):
        write(tmp_path / f"{name}.csv", f"{name},x,{'y' * 60_000}", headings="number,name,note")
    with capture_logs() as said:
        async with at_work(tmp_path, **PLAIN, max_bytes=100_000):
            pass
    assert (said[0]["event"], Path(said[0]["file"]).name) == ("files.refused", "b.csv")
    assert "with it, the files are larger than max_bytes" in said[0]["problem"]


async def test_a_workbook_that_lies_about_its_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/workbook.xml", b"<workbook>" + b" " * 5_000_000)
    assert path.stat().st_size < 10_000
    with capture_logs() as said:
        async with at_work(tmp_path, "*.xlsx", **PLAIN, max_bytes=1_000_000) as (call, _):
            with pytest.raises(BackendError):
                await call.get("/people/1")
    assert "when it is unpacked" in said[0]["problem"]


# -- the section

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a key that is no column": ({"key": "x"}, "key names 'x', which is not one of columns"),
    "a key twice": ({"key": ["number", "number"]}, "key names a column twice"),
    "a type of no column": ({"types": {"x": "date"}}, "types names 'x'"),
    "a type nobody knows": ({"types": {"name": "money"}}, "Input should be 'text'"),
    "a filter that is no column": ({"listing": True, "optional": ["x"]}, "optional names 'x'"),
    "a filter without a list": ({"optional": ["name"]}, "listing = true"),
    "optional and required": ({"listing": True, "optional": ["name"], "required": ["name"]}, "optional and required"),
    "a key with a fraction": ({"types": {"number": "number"}}, "number with a fraction"),
    "a filter called cursor": (
        {"columns": ["number", "cursor"], "types": {}, "listing": True, "optional": ["cursor"]},
        "no filter may be called 'cursor'",
    ),
    "an encoding nobody knows": ({"encoding": "klingon"}, "there is no encoding 'klingon'"),
    "a table that is no segment": ({"table": "a/b"}, "should match pattern"),
    "a secret that can be guessed": ({"cursor_key": "password"}, "at least 32 characters"),
    "no columns": ({"columns": []}, "at least 1"),
    "columns twice": ({"columns": ["number", "number"]}, "columns names one twice"),
    "a column without a name": ({"columns": {"": "x", "number": "n"}}, "a column has no name"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_section_that_contradicts_itself_is_refused(tmp_path: Path, case: str) -> None:
    keys, problem = WRONG[case]
    with pytest.raises(ValueError, match=problem):
        section(tmp_path, **{**PLAIN, **keys})


@pytest.mark.parametrize(("files", "extra"), [("*.xlsx", "files"), ("*.parquet", "parquet")])
def test_a_library_that_is_not_there_is_named(
    tmp_path: Path, files: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ContractError, match=rf"pip install 'datong\[{extra}\]'"):
        source(tmp_path, files)
    source(tmp_path, "*.csv")


async def test_an_adapter_file_declares_it_and_the_mesh_gets_it_sealed(
    tmp_path: Path, nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    """From adapter.toml in a folder whose name has the characters of globs."""
    home = tmp_path / "[d]rop*"
    (home / "drop").mkdir(parents=True)
    with (home / "drop" / "people.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["number", "name"], ["1", "例甲子天"]])
    (home / "adapter.toml").write_text(
        f"""
[adapter]
name = "tax"
subsystem = "{TAX_SUBSYSTEM}"
[bus]
url = "{nats_server.url}"
certificate = "c"
key = "k"
trust_anchors = "t"
gateways = "g"
[services.enterprises]
source = "files"
files = "drop/*.csv"
table = "people"
key = "number"
columns = ["number", "name"]
""",
        encoding="utf-8",
    )
    service = read_contract(home / "adapter.toml").services["enterprises"]
    async with adapter_on(nats_server, pki, {"enterprises": service.make_source(max_answer=1000)}, ledger):
        said = await gateway.ask(target=b"/people/1")
        assert (said.statement.status, json.loads(said.body)) == (200, {"number": "1", "name": "例甲子天"})
        said = await gateway.ask(target=b"/people/" + quote("二").encode())
        assert said.statement.status == 404


def test_a_tested_answer_reads_its_json() -> None:
    assert TestedAnswer(200, {}, b'{"a":1}').json() == {"a": 1}
