"""Bytes to an OpenAPI document: JSON or YAML, without anything in them that a reader could be made to stumble over.

Rules:
1. A document is UTF-8, at most 10 MiB, nested at most 64 deep, and holds at most a million values.
2. YAML is read for the JSON that it writes (YAML 1.2, core schema): no anchors, aliases, merge keys or tags, so no document is
   larger than it looks; timestamps, `yes` and `no` are text. Keys are text as they stand: `200` under `responses` is "200".
3. What JSON cannot say, or says in two ways, is refused: repeated keys, NaN and infinity, halves of surrogate pairs.
4. Every refusal is an UnprocessableError that says where: a pointer once there is a structure, a line before that.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from exchange import UnprocessableError
from registry.descriptions.document import Document, Format, Place, below, refusal
from registry.descriptions.syntax import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    check_text,
    limit,
    not_a_number,
    repeated,
    syntax,
    too_deep,
    too_many,
)
from registry.descriptions.yaml_reading import read_yaml


def read_document(data: bytes) -> Document:
    """Return the document that `data` holds. That its version is known is checked, what it says is not.

    Raises:
        UnprocessableError: It breaks one of the rules above; `description-syntax`, `description-limit`,
            `description-version`.
    """
    if len(data) > MAX_BYTES:
        raise limit((), f"is larger than {MAX_BYTES >> 20} MiB", f"超过 {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise syntax(
            f"Byte {error.start + 1} is not UTF-8.", f"第 {error.start + 1} 个字节不是 UTF-8 编码。"
        ) from error
    form: Format = "json" if text.lstrip(" \t\r\n").startswith("{") else "yaml"
    tree = _read_json(text) if form == "json" else read_yaml(text)
    if not isinstance(tree, dict):
        raise syntax("The document is not an object.", "文档不是对象。")
    _check_version(tree)
    return Document(text, form, tree)


def digest_of(data: bytes) -> str:
    """Digest of a document that was not read yet, as `Document.sha256` would be."""
    return hashlib.sha256(data.removeprefix(codecs.BOM_UTF8)).hexdigest()


def _check_version(tree: dict[str, Any]) -> None:
    if "openapi" not in tree:
        stated, place = str(tree.get("swagger", "")), ("swagger",) if "swagger" in tree else ()
        en = (
            f"This is Swagger {stated[:20]}" if stated else "The document does not say which OpenAPI version it follows"
        )
        zh = f"这是 Swagger {stated[:20]} 文档" if stated else "文档未注明 OpenAPI 版本"
        raise _version(place, en, zh)
    version = tree["openapi"]
    if not isinstance(version, str):
        raise _version(("openapi",), "The version is not text; write it in quotes", "版本号不是文本，请加引号")
    if not re.fullmatch(r"3\.[01]\.\d{1,3}(-[A-Za-z0-9.]{1,20})?", version):
        raise _version(("openapi",), f"OpenAPI {version[:40]!r} is not supported", f"不支持 OpenAPI {version[:40]!r}")


def _version(place: Place, problem: str, problem_zh: str) -> UnprocessableError:
    return refusal(
        "description-version",
        place,
        f"{problem}; 3.0.x and 3.1.x are, such as 3.0.3 and 3.1.1",
        f"{problem_zh}；支持 3.0.x 和 3.1.x，例如 3.0.3、3.1.1",
    )


# JSON


class _Repeating(dict[str, Any]):
    """An object in which a key stands twice."""

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = _Repeating(found)
    seen: set[str] = set()
    repeating.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return repeating


def _read_json(text: str) -> Any:
    try:
        tree = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise syntax(
            f"Not JSON: {error.msg} in line {error.lineno}, column {error.colno}.",
            f"不是合法的 JSON：第 {error.lineno} 行第 {error.colno} 列（{error.msg}）。",
        ) from error
    except RecursionError as error:
        raise too_deep(()) from error
    except ValueError as error:  # an integer of thousands of digits
        raise syntax("A number has too many digits.", "有数字位数过多。") from error
    _check_values(tree)
    return tree


def _check_values(tree: Any) -> None:
    """Depth, number and kind of the values of a tree that was read without looking at them."""
    # A stack of what is still to be gone through instead of recursion; `path` are the parts that lead to its top.
    stack: list[Iterator[tuple[str | int, Any]]] = [iter((("", tree),))]
    path: list[str | int] = []
    count = 0
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            if path:
                path.pop()
            continue
        part, value = found
        place = (*path[1:], part) if path else ()
        count += 1
        if count > MAX_VALUES:
            raise too_many()
        if isinstance(value, dict | list):
            if isinstance(value, _Repeating):
                raise repeated((*place, value.key))
            if len(stack) > MAX_DEPTH:
                raise too_deep(place)
            for key in value if isinstance(value, dict) else ():
                check_text(key, (*place, key))
            stack.append(below(value))
            path.append(part)
        elif isinstance(value, str):
            check_text(value, place)
        elif isinstance(value, float) and not math.isfinite(value):
            raise not_a_number(place)
