"""The catalogue as a workbook: the guide's columns, texts that stay texts, and what people and attackers send instead."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
import xlsxwriter
from python_calamine import CalamineWorkbook

from exchange import UnprocessableError
from registry import (
    Candidate,
    Department,
    ResourceDocument,
    candidates_in_workbook,
    document_of,
    empty_workbook,
    workbook_of,
)
from registry.catalogue import workbook_parts
from registry.catalogue.workbook_columns import (
    ITEM_COLUMNS,
    ITEMS_SHEET,
    NOTES_SHEET,
    RESOURCE_COLUMNS,
    RESOURCES_SHEET,
    column_letters,
)
from tests.registry.catalogue_kit import CODE, document, resource
from tests.registry.conftest import TAX

DEPARTMENT = Department(
    subsystem=TAX, subsystem_name="税务征管系统", name="示例市税务局", name_en="", uscc="11990000000001011Q"
)
HEADINGS = [column.heading for column in RESOURCE_COLUMNS]
ITEM_HEADINGS = [column.heading for column in ITEM_COLUMNS]
SHEET = "xl/worksheets/sheet1.xml"
Rows = dict[str, list[list[Any]]]


def cells_of(data: bytes) -> Rows:
    book = CalamineWorkbook.from_filelike(io.BytesIO(data))
    return {name: book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in book.sheet_names}


def exported(**changes: Any) -> bytes:
    return workbook_of([(resource(**changes), DEPARTMENT)])


def filled(**changes: Any) -> Rows:
    """The rows of a workbook with one resource, to be edited."""
    return cells_of(exported(**changes))


def written(rows: Rows) -> bytes:
    """A workbook as somebody else's program writes it: numbers as numbers, dates as dates."""
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True, "strings_to_formulas": False}) as book:
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        for name, lines in rows.items():
            sheet = book.add_worksheet(name)
            for at, line in enumerate(lines):
                for across, value in enumerate(line):
                    if isinstance(value, date):
                        sheet.write_datetime(at, across, value, day)
                    elif value != "":
                        sheet.write(at, across, value)
    return file.getvalue()


def edited(data: bytes, **parts: Callable[[bytes], bytes | None]) -> bytes:
    """The workbook with parts replaced, added or (None) left out; `xl__workbook_xml` for `xl/workbook.xml`."""
    changes = {
        name.replace("__", "/").replace("_xml", ".xml").replace("_bin", ".bin"): edit for name, edit in parts.items()
    }
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = {each: archive.read(each) for each in archive.namelist()}
    for name, edit in changes.items():
        made = edit(content.get(name, b""))
        if made is None:
            del content[name]
        else:
            content[name] = made
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in content.items():
            archive.writestr(name, each)
    return file.getvalue()


def only(data: bytes) -> Candidate:
    (candidate,) = candidates_in_workbook(data)
    return candidate


def faults(rows: Rows) -> dict[str, str]:
    """Cell -> pointer of each fault of form."""
    candidate = only(written(rows))
    assert isinstance(candidate.document, tuple)
    return {candidate.place(each.pointer): each.pointer for each in candidate.document}


def at(heading: str) -> str:
    """The cell of a column in the first row of resources."""
    return f"{RESOURCES_SHEET}!{column_letters(HEADINGS.index(heading))}2"


# Writing


def test_the_columns_are_the_guides_in_its_order_then_ours() -> None:
    guide = [
        "类",
        "项",
        "目",
        "细目",
        "信息资源名称",
        "信息资源代码",
        "信息资源提供方",
        "提供方代码",
        "信息资源摘要",
        "信息资源格式",
    ]
    guide += [
        "共享类型",
        "共享条件",
        "共享方式",
        "是否向社会开放",
        "开放条件",
        "更新周期",
        "发布日期",
        "关联资源代码",
        "提供方子系统",
    ]
    places = [next(n for n, heading in enumerate(HEADINGS) if heading.startswith(name)) for name in guide]
    assert places == sorted(places)
    assert ITEM_HEADINGS[:3] == ["信息资源代码", "信息项名称", "数据类型"]
    pointers = {column.pointer for column in RESOURCE_COLUMNS}
    missing = (
        {"/" + name for name in ResourceDocument.model_fields} - pointers - {"/items", "/classification", "/department"}
    )
    assert missing == set()
    assert len(set(HEADINGS)) == len(HEADINGS)
    assert len(set(ITEM_HEADINGS)) == len(ITEM_HEADINGS)


def test_a_resource_comes_back_as_it_was_written() -> None:
    candidate = only(exported(themes=["一、二", "三；四"], publication_date="2026-02-28"))
    assert isinstance(candidate.document, ResourceDocument)
    assert candidate.document.resource() == resource(themes=["一、二", "三；四"], publication_date="2026-02-28")
    assert document_of(candidate.document.resource())["items"] == document_of(resource())["items"]


def test_the_same_catalogue_makes_the_same_bytes() -> None:
    assert exported() == exported()
    assert empty_workbook() == empty_workbook()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x")'])
def test_a_text_that_begins_like_a_formula_stays_a_text(start: str) -> None:
    name = f"{start}1+1".strip()
    data = exported(name=name, items=[{"path": "a", "name": name}])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sheets = b"".join(archive.read(each) for each in archive.namelist() if "worksheets" in each)
        styles = archive.read("xl/styles.xml")
    assert b"<f" not in sheets.replace(b"<formula", b"")
    assert b"quotePrefix" in styles
    row = cells_of(data)[RESOURCES_SHEET][1]
    assert row[HEADINGS.index("信息资源名称")] == name
    candidate = only(data)
    assert isinstance(candidate.document, ResourceDocument)
    assert candidate.document.name == name


def test_links_and_long_numbers_stay_texts() -> None:
    row = cells_of(exported(name="https://example.org/", legal_basis="00012345678901234567890"))[RESOURCES_SHEET][1]
    assert row[HEADINGS.index("不予共享依据")] == "00012345678901234567890"
    assert row[HEADINGS.index("信息资源名称")] == "https://example.org/"


def test_the_empty_form_explains_every_column_and_can_be_filled_in() -> None:
    rows = cells_of(empty_workbook())
    assert list(rows) == [RESOURCES_SHEET, ITEMS_SHEET, NOTES_SHEET]
    assert rows[RESOURCES_SHEET] == [HEADINGS]
    explained = {(line[0], line[1]) for line in rows[NOTES_SHEET][1:]}
    assert explained == {(RESOURCES_SHEET, each) for each in HEADINGS} | {(ITEMS_SHEET, each) for each in ITEM_HEADINGS}
    with pytest.raises(UnprocessableError, match="between 1 and"):
        candidates_in_workbook(empty_workbook())
    for name, lines in filled().items():
        rows[name] = lines
    assert isinstance(only(written(rows)).document, ResourceDocument)


# Reading what people typed


def test_numbers_dates_and_spaces_that_people_type_are_understood() -> None:
    rows = filled(publication_date="2026-02-28", division="450100")
    line = rows[RESOURCES_SHEET][1]
    for heading, value in {
        "类代码": 3,
        "目名称": "  征收 ",
        "行政区划代码": 450100,
        "发布日期": "2026/02/28",
        "共享类型": "conditional",
        "是否向社会开放": False,
        "是否双人审批": "FALSE",
        "主题": "税务\r\n 信用 \n\n",
    }.items():
        line[HEADINGS.index(heading)] = value
    candidate = only(written(rows))
    assert isinstance(candidate.document, ResourceDocument), candidate.document
    assert candidate.document.resource() == resource(publication_date="2026-02-28", division="450100")


def test_columns_are_found_by_their_headings_in_any_order() -> None:
    rows = filled()
    rows = {name: [line[::-1] for line in lines] for name, lines in rows.items()}
    candidate = only(written(rows))
    assert isinstance(candidate.document, ResourceDocument)
    assert candidate.document.resource() == resource()


def test_each_fault_leads_back_to_its_cell() -> None:
    rows = filled()
    line = rows[RESOURCES_SHEET][1]
    line[HEADINGS.index("是否双人审批")] = "也许"
    line[HEADINGS.index("发布日期")] = "明天"
    line[HEADINGS.index("服务接口")] = "GET /x"
    line[HEADINGS.index("提供方代码")] = 11990000000001011
    rows[ITEMS_SHEET][2][ITEM_HEADINGS.index("数据长度")] = "长"
    assert faults(rows) == {
        at("是否双人审批"): "/two_persons",
        at("发布日期"): "/publication_date",
        at("服务接口"): "/accesses",
        at("提供方代码"): "/department/uscc",
        f"{ITEMS_SHEET}!{column_letters(ITEM_HEADINGS.index('数据长度'))}3": "/items/1/length",
    }


def test_faults_of_content_lead_back_to_their_cells_too() -> None:
    from registry.catalogue.rules import faults_of

    rows = filled()
    rows[RESOURCES_SHEET][1][HEADINGS.index("共享类型")] = "随便"
    rows[RESOURCES_SHEET][1][HEADINGS.index("主题")] = "税\n税"
    rows[ITEMS_SHEET][3][ITEM_HEADINGS.index("应答路径")] = "a..b"
    candidate = only(written(rows))
    assert isinstance(candidate.document, ResourceDocument)
    places = {candidate.place(each.pointer) for each in faults_of(candidate.document.resource())}
    assert {at("共享类型"), at("主题"), f"{ITEMS_SHEET}!{column_letters(ITEM_HEADINGS.index('应答路径'))}4"} <= places


def test_items_belong_to_the_resource_whose_code_they_begin_with() -> None:
    other = "306002/000007"
    data = workbook_of(
        [(resource(), DEPARTMENT), (resource(code=other, items=[{"path": "z", "name": "末"}]), DEPARTMENT)]
    )
    rows = cells_of(data)
    rows[ITEMS_SHEET][1:] = rows[ITEMS_SHEET][:0:-1]
    first, second = candidates_in_workbook(written(rows))
    assert isinstance(first.document, ResourceDocument)
    assert isinstance(second.document, ResourceDocument)
    assert [item.path for item in second.document.items] == ["z"]
    assert [item.path for item in first.document.items] == [item.path for item in resource().items][::-1]
    assert second.place("/items/0/name") == f"{ITEMS_SHEET}!B2"
    rows[ITEMS_SHEET][1][0] = "306002/000008"
    with pytest.raises(UnprocessableError, match=f"{ITEMS_SHEET}!A2"):
        candidates_in_workbook(written(rows))


SPOILED: dict[str, tuple[Callable[[Rows], object], str]] = {
    "a sheet more": (lambda rows: rows.update({"草稿": [["x"]]}), "草稿"),
    "a sheet less": (lambda rows: rows.pop(ITEMS_SHEET), ITEMS_SHEET),
    "an unknown heading": (lambda rows: rows[RESOURCES_SHEET][0].append("备注"), "备注"),
    "a heading twice": (lambda rows: rows[ITEMS_SHEET][0].append("信息项名称"), "twice"),
    "a heading less": (lambda rows: rows[RESOURCES_SHEET][0].__setitem__(9, ""), "信息资源代码|no heading"),
    "a value without a heading": (lambda rows: rows[RESOURCES_SHEET][1].append("x"), "no heading"),
    "nothing at all": (lambda rows: rows.update({RESOURCES_SHEET: [], ITEMS_SHEET: []}), "no column"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_nothing_is_left_out_silently(what: str) -> None:
    spoil, told = SPOILED[what]
    rows = filled()
    spoil(rows)
    with pytest.raises(UnprocessableError, match=told) as caught:
        candidates_in_workbook(written(rows))
    assert re.search("[一-鿿]", caught.value.detail_in("zh"))


# What is refused as it is


def formula(data: bytes, cell: str = "B2", what: bytes = b"<f>1+1</f>") -> bytes:
    return edited(data, xl__worksheets__sheet1_xml=lambda xml: _into(xml, cell, what))


def _into(xml: bytes, cell: str, what: bytes) -> bytes:
    found, count = re.subn(rb'(<c r="%s"[^>]*>)' % cell.encode(), rb"\1" + what, xml)
    assert count == 1
    return found


@pytest.mark.parametrize(
    "what",
    [
        b"<f>1+1</f>",
        b"<f/>",
        b'<f t="shared" si="0"/>',
        b'<f t="array" ref="A1:B2">SUM(A1)</f>',
        b"<x:f xmlns:x='http://schemas.openxmlformats.org/spreadsheetml/2006/main'>1</x:f>",
        b"<f>WEBSERVICE(&quot;http://127.0.0.1/&quot;)</f>",
    ],
)
def test_a_formula_is_refused_and_its_cell_named(what: bytes) -> None:
    with pytest.raises(UnprocessableError, match=f"{RESOURCES_SHEET}!B2 holds a formula") as caught:
        candidates_in_workbook(formula(exported(), what=what))
    assert f"{RESOURCES_SHEET}!B2 含有公式" in caught.value.detail_in("zh")


def test_a_formula_is_found_in_any_sheet_and_without_references() -> None:
    data = edited(empty_workbook(), xl__worksheets__sheet3_xml=lambda xml: _into(xml, "C4", b"<f>A1</f>"))
    with pytest.raises(UnprocessableError, match=f"{NOTES_SHEET}!C4"):
        candidates_in_workbook(data)
    bare = b"<row><c/><c/></row><row><c><f>1</f></c></row>"
    data = edited(exported(), xl__worksheets__sheet1_xml=lambda xml: re.sub(rb"<row.*</row>", bare, xml, flags=re.S))
    with pytest.raises(UnprocessableError, match=f"{RESOURCES_SHEET}!A2"):
        candidates_in_workbook(data)


def test_lists_to_choose_from_are_no_formulas() -> None:
    assert b"<formula1>" in zipfile.ZipFile(io.BytesIO(exported())).read(SHEET)
    assert isinstance(only(exported()).document, ResourceDocument)


def spoiled_cell(attributes: bytes) -> bytes:
    return edited(
        exported(),
        xl__worksheets__sheet1_xml=lambda xml: xml.replace(
            b"</sheetData>", b'<row r="9"><c %s/></row></sheetData>' % attributes
        ),
    )


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "no .xlsx"),
    "a text": (lambda: b"code,name\n1,2\n", "no .xlsx"),
    "an old workbook": (lambda: bytes.fromhex("D0CF11E0A1B11AE1") + bytes(600), "old .xls"),
    "an encrypted workbook": (
        lambda: bytes.fromhex("D0CF11E0A1B11AE1") + bytes(64) + "EncryptedPackage".encode("utf-16-le"),
        "encrypted",
    ),
    "half a file": (lambda: exported()[: len(exported()) // 2], "damaged"),
    "a ZIP of something else": (lambda: zipped({"a.txt": b"x"}), "no .xlsx workbook"),
    "a binary workbook": (lambda: zipped({"xl/workbook.bin": b"x"}), ".xlsb"),
    "macros": (lambda: edited(exported(), xl__vbaProject_bin=lambda _: b"x"), "macros"),
    "macros by their type": (
        lambda: edited(
            exported(),
            **{"[Content_Types]_xml": lambda xml: xml.replace(b"sheet.main+xml", b"sheet.macroEnabled.main+xml")},
        ),
        "macros",
    ),
    "a macro sheet": (lambda: edited(exported(), xl__macrosheets__sheet1_xml=lambda _: b"<a/>"), "macros"),
    "links to another workbook": (
        lambda: edited(exported(), xl__externalLinks__externalLink1_xml=lambda _: b"<a/>"),
        "links to other workbooks",
    ),
    "a link in the relationships": (
        lambda: edited(
            exported(),
            **{
                "xl___rels__workbook_xml.rels": lambda xml: xml.replace(
                    b"</Relationships>",
                    b'<Relationship Id="x" Target="file:///etc/passwd" TargetMode="External"/></Relationships>',
                )
            },
        ),
        "links to other files",
    ),
    "a data connection": (lambda: edited(exported(), xl__connections_xml=lambda _: b"<a/>"), "data connections"),
    "an embedded object": (lambda: edited(exported(), xl__embeddings__a_bin=lambda _: b"x"), "embedded objects"),
    "an error in a cell": (lambda: spoiled_cell(b'r="D9" t="e"'), "资源!D9 shows an error"),
    "a cell far below": (lambda: spoiled_cell(b'r="A1048576"'), "outside"),
    "a cell far to the right": (lambda: spoiled_cell(b'r="XFD9"'), "outside"),
    "a cell without a place": (lambda: spoiled_cell(b'r="9A"'), "without a place"),
    "a document type": (
        lambda: edited(exported(), xl__worksheets__sheet1_xml=lambda xml: _doctype(xml)),
        "document type",
    ),
    "a document type in the texts": (
        lambda: edited(exported(), xl__sharedStrings_xml=lambda xml: _doctype(xml)),
        "document type",
    ),
    "no XML": (lambda: edited(exported(), xl__worksheets__sheet1_xml=lambda xml: xml[:-20]), "no XML"),
    "a sheet that is not there": (
        lambda: edited(exported(), xl__worksheets__sheet2_xml=lambda _: None),
        "no table",
    ),
    "two sheets of one name": (
        lambda: edited(
            exported(), xl__workbook_xml=lambda xml: xml.replace(ITEMS_SHEET.encode(), RESOURCES_SHEET.encode())
        ),
        "two sheets of one name",
    ),
    "too many parts": (lambda: zipped({f"x{n}": b"" for n in range(300)}), "more than 200 parts"),
}


def zipped(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def _doctype(xml: bytes) -> bytes:
    return xml.replace(b"?>", b'?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>', 1)


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_plain_cells_is_refused_before_it_is_read(what: str) -> None:
    make, told = REFUSED[what]
    with pytest.raises(UnprocessableError, match=told) as caught:
        candidates_in_workbook(make())
    assert caught.value.rule == "workbook"
    assert re.search("[一-鿿]", caught.value.detail_in("zh"))


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_without_unpacking_it() -> None:
    bomb = edited(exported(), xl__worksheets__sheet1_xml=lambda xml: xml + b" " * (workbook_parts.MAX_UNPACKED + 1))
    assert len(bomb) < 200_000
    with pytest.raises(UnprocessableError, match="Unpacked"):
        candidates_in_workbook(bomb)


def test_a_file_that_is_too_large_is_refused_by_its_size_alone() -> None:
    with pytest.raises(UnprocessableError, match="8 MiB"):
        candidates_in_workbook(b"PK" + bytes(workbook_parts.MAX_FILE))


def test_an_encrypted_part_and_a_lying_directory_are_refused() -> None:
    data = bytearray(exported())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    with pytest.raises(UnprocessableError, match=r"encrypted|damaged"):
        candidates_in_workbook(bytes(data))
    data = bytearray(exported())
    data[data.index(b"PK\x03\x04") + 30 + 2] ^= 0x20  # the name in front of a part is not the one in the directory
    with pytest.raises(UnprocessableError, match="damaged"):
        candidates_in_workbook(bytes(data))


def test_every_file_cut_anywhere_is_refused_and_nothing_else_happens() -> None:
    data = exported()
    for length in range(0, len(data), 97):
        with pytest.raises(UnprocessableError):
            candidates_in_workbook(data[:length])


def test_flipped_bits_are_refused_or_read_as_texts() -> None:
    data = bytearray(exported())
    for position in range(0, len(data), 41):
        data[position] ^= 0x40
        try:
            found = candidates_in_workbook(bytes(data))
        except UnprocessableError:
            pass
        else:
            assert len(found) == 1
        data[position] ^= 0x40
    assert only(bytes(data)).pointer == "/resources/0"
    assert document()["code"] == CODE


def test_what_a_file_says_of_its_own_size_is_not_believed() -> None:
    """A reader that reserves what is announced would end the process here."""
    data = edited(
        exported(),
        xl__sharedStrings_xml=lambda xml: re.sub(rb'(c|uniqueC)ount="\d+"', rb'\1ount="99999999999"', xml),
        xl__worksheets__sheet1_xml=lambda xml: re.sub(rb'ref="[A-Z0-9:]+"', b'ref="A1:XFD1048576"', xml, count=1),
    )
    assert isinstance(only(data).document, ResourceDocument)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400", "9" * 400, "-5", "1e15"])
def test_strange_numbers_are_faults_of_their_cells(number: str) -> None:
    def with_number(xml: bytes) -> bytes:
        cell = f"{column_letters(HEADINGS.index('发布日期'))}2".encode()
        return re.sub(rb'<c r="%s"[^>]*/>' % cell, b'<c r="%s"><v>%s</v></c>' % (cell, number.encode()), xml)

    blank = edited(exported(), xl__worksheets__sheet1_xml=_with_blank_date)
    candidate = only(edited(blank, xl__worksheets__sheet1_xml=with_number))
    assert isinstance(candidate.document, tuple)
    assert [candidate.place(each.pointer) for each in candidate.document] == [at("发布日期")]


def _with_blank_date(xml: bytes) -> bytes:
    """The export with an empty cell for the date, in its place between the others."""
    cell = f"{column_letters(HEADINGS.index('发布日期'))}2".encode()
    row = xml.index(b'<row r="2"')
    end = xml.index(b"</row>", row)
    assert b'r="%s"' % cell not in xml[row:end]
    return xml[:end] + b'<c r="%s"/>' % cell + xml[end:]


def test_dates_are_counted_from_where_the_workbook_counts() -> None:
    rows = filled()
    rows[RESOURCES_SHEET][1][HEADINGS.index("发布日期")] = date(2026, 2, 28)
    data = written(rows)
    candidate = only(data)
    assert isinstance(candidate.document, ResourceDocument)
    assert candidate.document.publication_date == date(2026, 2, 28)
    old_mac = edited(data, xl__workbook_xml=lambda xml: xml.replace(b"<workbookPr", b'<workbookPr date1904="1"'))
    candidate = only(old_mac)
    assert isinstance(candidate.document, ResourceDocument)
    assert candidate.document.publication_date == date(2030, 3, 1)


def test_characters_that_look_like_escapes_come_back() -> None:
    candidate = only(exported(name="_x0041_ & <b> _x000D_"))
    assert isinstance(candidate.document, ResourceDocument)
    assert candidate.document.name == "_x0041_ & <b> _x000D_"


def test_a_workbook_holds_at_most_so_many_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.catalogue.workbook_cells.MAX_CELLS", 50)
    with pytest.raises(UnprocessableError, match="more than 50 cells"):
        candidates_in_workbook(exported())
