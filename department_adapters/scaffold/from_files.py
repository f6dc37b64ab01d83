"""A service that a folder of files answers, drafted from the files that are there now.

Rules:
1. Rows are asked for one by one, by their key; a list is offered only if the department says so (`listing`).
2. Every row is read, so that a key that is there twice is found now. No value stands in what is written.
3. Columns are text. One is declared a date if all of its cells are dates: numbers that identify must not lose their zeros.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from department_adapters.files.columns import CellError, index_text, read_cell
from department_adapters.files.headings import read_headings
from department_adapters.files.loading import look
from department_adapters.files.reading import FileError, Form, extra_of, read_rows
from department_adapters.scaffold.adapter_file import inline_table, listed, quoted
from department_adapters.scaffold.draft import ScaffoldError, SourceDraft, Told
from department_adapters.scaffold.lookup_contract import Lookup, Member, Parameter, lookup_contract
from department_adapters.scaffold.sensitivity import propose
from exchange import item_path

MAX_BYTES = 256 << 20
KEPT = 200
"""Values of a column that are looked at."""
_KEY_LIKE = re.compile(
    r"(?:^|_)(?:id|no|code|number|num|key|bh|hm|dm|uuid)$|编号|代码|号码|证号|编码|序号|号$", re.IGNORECASE
)
_KEY_KINDS = frozenset(("a citizen's number", "a unified social credit code", "the number of an identity document"))
_DATE = re.compile(r"\d{4}[-/.年]\d{1,2}[-/.月]\d{1,2}日?", re.ASCII)


class _Column:
    """What is seen of one column."""

    __slots__ = ("dates", "empty", "name", "seen", "twice", "values")

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: list[str] = []
        self.seen: set[int] = set()
        self.twice = self.empty = False
        self.dates = True

    def take(self, cell: object, text: str | None) -> None:
        if text is None:
            self.empty = True
            return
        if len(self.values) < KEPT:
            self.values.append(text)
        if not self.twice:
            # Equal hashes only make a column look less like a key than it is.
            self.twice = hash(text) in self.seen
            self.seen.add(hash(text))
        if self.dates:
            self.dates = isinstance(cell, date) or _DATE.fullmatch(text) is not None
            self.dates = self.dates and _is_date(cell)


def draft_from_files(name: str, service: str, pattern: str, *, key: Sequence[str] = (), folder: Path) -> SourceDraft:
    """The source. Blocks: for a thread.

    Args:
        name, service: Of the adapter, and the code of its service, which is the first segment of its paths.
        pattern: Glob of the files.
        key: Columns that name a row; without, one that is filled everywhere and nowhere twice.
        folder: Where the adapter's file will lie.

    Raises:
        ScaffoldError: There are no such files, they cannot be read, or no column could be the key.
    """
    files = [Path(mark.path) for mark in look(str(Path(pattern).absolute()))]
    if not files:
        raise ScaffoldError(f"No file matches {pattern}.", f"没有文件匹配 {pattern}。")
    columns = _looked_at(files)
    chosen = _key_of(columns, key)
    names = [column.name for column in columns]
    types = {column.name: "date" for column in columns if column.values and column.dates}
    parameters = {part: f"key{number}" if len(chosen) > 1 else "key" for number, part in enumerate(chosen, start=1)}
    lookup = Lookup(
        path=f"/{service}" + "".join(f"/{{{parameters[part]}}}" for part in chosen),
        record="Record",
        title=f"{service}: {', '.join(chosen)}",
        parameters=[
            Parameter(
                name=parameters[part],
                where="path",
                schema={"type": "string", "minLength": 1},
                title=part,
                sample={"column": part},
            )
            for part in chosen
        ],
        members=[Member(name=each, schema=_schema(each, chosen, types)) for each in names],
    )
    place = os.path.relpath(Path(pattern).absolute(), folder.absolute())
    settings = [
        "# 文件变化后自动重新读取；只有列出的列会离开本部门，其余列不读取。",
        "# Files are read again when they change. Only the columns listed leave the department.",
        'source = "files"',
        f"files = {quoted(place)}",
        f"table = {quoted(service)}",
        f"key = {listed(chosen) if len(chosen) > 1 else quoted(chosen[0])}",
        f"columns = {listed(names)}",
        *([f"types = {inline_table(types)}"] if types else []),
        "listing = false",
        'contract = "contract.yaml"',
    ]
    return SourceDraft(
        settings="\n".join(settings),
        contract=lookup_contract(service, f"{name}: {Path(pattern).name}", [lookup]),
        values={item_path([column.name]): column.values for column in columns},
        titles={item_path([column.name]): column.name for column in columns},
        notes=[]
        if key
        else [
            Told(
                f"The key is {', '.join(chosen)}: filled in every row and nowhere twice. Another one: --key.",
                f"主键取 {'、'.join(chosen)}：每行都有值且不重复。如需更换请用 --key。",
            )
        ],
        origin=Told(f"the files {Path(pattern).name}", f"文件 {Path(pattern).name} "),
    )


def _looked_at(files: Sequence[Path]) -> list[_Column]:
    form = Form()
    columns: list[_Column] = []
    for file in files:
        extra = extra_of(file.suffix.lower())
        try:
            if not columns:
                columns = [_Column(name) for name in _usable(file, read_headings(file, form, MAX_BYTES))]
            names = [column.name for column in columns]
            text = read_cell("text")
            for line, cells in read_rows(file, names, form, MAX_BYTES):
                for column, cell in zip(columns, cells, strict=True):
                    try:
                        column.take(cell, None if (value := text(cell)) is None else index_text(value))
                    except CellError as error:
                        raise FileError(f"column {column.name!r}: {error}", line) from error
        except ModuleNotFoundError as error:
            brings = f"datong[{extra[1]}]" if extra else "datong"
            raise ScaffoldError(
                f"{file.name}: to read such files, pip install '{brings}'",
                f"读取 {file.name} 需要：pip install '{brings}'",
            ) from error
        except (FileError, OSError) as error:
            where = f", line {error.line}" if isinstance(error, FileError) and error.line else ""
            raise ScaffoldError(f"{file}{where}: {error}", f"{file}{where}：{error}") from error
    return columns


def _usable(file: Path, headings: Sequence[str]) -> list[str]:
    named = [each for each in headings if each]
    repeated = sorted({each for each in named if named.count(each) > 1})
    if not named or repeated:
        what = f"the heading {repeated[0]!r} is there twice" if repeated else "there are no headings in its first row"
        what_zh = f"列名 {repeated[0]!r} 重复" if repeated else "第一行没有列名"
        raise ScaffoldError(f"{file}: {what}", f"{file}：{what_zh}")
    return named


def _key_of(columns: Sequence[_Column], wanted: Sequence[str]) -> list[str]:
    names = [column.name for column in columns]
    for each in wanted:
        if each not in names:
            raise ScaffoldError(
                f"There is no column {each!r}; there are: {', '.join(names)}",
                f"没有列 {each!r}；现有：{'、'.join(names)}",
            )
    if wanted:
        return list(wanted)
    possible = [column for column in columns if column.values and not column.empty and not column.twice]
    if not possible:
        raise ScaffoldError(
            f"No column is filled in every row and nowhere twice: say with --key what names a row, of {', '.join(names)}",
            f"没有每行都有值且不重复的列：请用 --key 指定主键，可选 {'、'.join(names)}",
        )
    return [min(possible, key=_rank).name]


def _rank(column: _Column) -> int:
    if propose(column.name, "", column.values).why in _KEY_KINDS:
        return 0
    return 1 if _KEY_LIKE.search(column.name) else 2


def _schema(name: str, key: Sequence[str], types: dict[str, str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string" if name in key else ["string", "null"]}
    if name in types:
        schema["format"] = "date"
    return schema


def _is_date(cell: object) -> bool:
    try:
        return read_cell("date")(cell) is not None
    except CellError:
        return False
