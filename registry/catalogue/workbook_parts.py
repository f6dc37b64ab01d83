"""The parts of a workbook that somebody sent, and whether they may be read at all. Pure.

Rules:
1. An .xlsx file is a ZIP of XML parts. Old .xls, encrypted, binary and macro files, links to other files, data connections and
   embedded objects are refused, each by its name.
2. Nothing is unpacked beyond a bound, however small the file is; XML with a document type declaration is refused.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Final, NoReturn
from xml.parsers import expat

from exchange import UnprocessableError

MAX_FILE: Final = 8 << 20
MAX_UNPACKED: Final = 64 << 20
MAX_PARTS: Final = 200
WORKBOOK: Final = "xl/workbook.xml"
_OLE: Final = bytes.fromhex("D0CF11E0A1B11AE1")
_FORBIDDEN: Final = (
    (re.compile(r"vbaproject|macrosheets|xl/activex|/dialogsheets", re.I), "macros", "宏"),
    (re.compile(r"externallinks", re.I), "links to other workbooks", "对其他工作簿的外部链接"),
    (re.compile(r"connections\.xml|querytables", re.I), "data connections", "外部数据连接"),
    (re.compile(r"embeddings|oleobject", re.I), "embedded objects", "嵌入对象"),
)


def workbook_parts(data: bytes) -> dict[str, bytes]:
    """Name -> content of each part of an .xlsx file.

    Raises:
        UnprocessableError: It is no such file, or holds what is refused.
    """
    if len(data) > MAX_FILE:
        refuse(f"The file has more than {MAX_FILE >> 20} MiB.", f"文件超过 {MAX_FILE >> 20} MiB。")
    if data.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in data:
            refuse("The workbook is encrypted: save it without a password.", "工作簿已加密，请取消密码后另存。")
        refuse("This is an old .xls file: save it as .xlsx.", "这是旧版 .xls 文件，请另存为 .xlsx。")
    if not data.startswith(b"PK"):
        refuse("This is no .xlsx workbook.", "这不是 .xlsx 工作簿。")
    try:
        parts = _unpacked(data)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, OSError, ValueError) as error:
        raise refusal("The workbook's ZIP file is damaged.", "工作簿文件已损坏。") from error
    if WORKBOOK not in parts:
        if "xl/workbook.bin" in parts:
            refuse("This is a binary .xlsb workbook: save it as .xlsx.", "这是二进制 .xlsb 工作簿，请另存为 .xlsx。")
        refuse("The ZIP file holds no .xlsx workbook.", "该 ZIP 文件中没有 .xlsx 工作簿。")
    types = parts.get("[Content_Types].xml", b"")
    if b"macroEnabled" in types or "macroEnabled".encode("utf-16-le") in types:
        refuse("The workbook holds macros, which are refused.", "工作簿含有宏，不予接受。")
    return parts


def _unpacked(data: bytes) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    left = MAX_UNPACKED
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_PARTS:
            refuse(f"The workbook has more than {MAX_PARTS} parts.", f"工作簿的组成部分超过 {MAX_PARTS} 个。")
        for entry in entries:
            for pattern, what, what_zh in _FORBIDDEN:
                if pattern.search(entry.filename):
                    refuse(f"The workbook holds {what}, which are refused.", f"工作簿含有{what_zh}，不予接受。")
            if entry.flag_bits & 1:
                refuse("A part of the workbook is encrypted.", "工作簿的部分内容已加密。")
            if entry.filename in parts:
                refuse("The workbook holds a part twice.", "工作簿的组成部分重复。")
            with archive.open(entry) as part:
                content = part.read(left + 1)
            left -= len(content)
            if left < 0:
                size = MAX_UNPACKED >> 20
                refuse(f"Unpacked, the workbook has more than {size} MiB.", f"工作簿解压后超过 {size} MiB。")
            parts[entry.filename] = content
    return parts


def parse_xml(
    content: bytes,
    start: Callable[[str, Mapping[str, str]], None],
    end: Callable[[str], None] = lambda name: None,
    text: Callable[[str], None] = lambda text: None,
) -> None:
    """Go through the elements of an XML part by their local names.

    Raises:
        UnprocessableError: It is no XML, or has a document type declaration.
    """
    parser = expat.ParserCreate()

    def declared(*_: object) -> None:
        refuse("A part of the workbook has a document type declaration.", "工作簿含有文档类型声明（DTD）。")

    parser.StartDoctypeDeclHandler = declared
    parser.EntityDeclHandler = declared
    parser.StartElementHandler = lambda name, attributes: start(name.rpartition(":")[2], attributes)
    parser.EndElementHandler = lambda name: end(name.rpartition(":")[2])
    parser.CharacterDataHandler = text
    parser.buffer_text = True
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, UnicodeError, LookupError, ValueError) as error:
        raise refusal("A part of the workbook is no XML.", "工作簿含有无法解析的内容。") from error


def refusal(problem: str, problem_zh: str) -> UnprocessableError:
    """The error for a workbook that is refused."""
    return UnprocessableError("workbook", problem=problem, problem_zh=problem_zh)


def refuse(problem: str, problem_zh: str) -> NoReturn:
    """Raise it."""
    raise refusal(problem, problem_zh)
