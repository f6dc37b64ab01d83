"""JSON as we take it from others: nothing in it is ambiguous, endless or impossible to store. Pure.

Rules:
1. A document is UTF-8 and no more than `DEEPEST` levels deep. No object names a member twice: parsers differ in which counts.
2. A number is one that JSON has, and that a float can hold if it has a fraction or an exponent.
3. No text holds a NUL or half a character: databases and encoders take neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from exchange import InvalidRequestError, UnprocessableError

DEEPEST: Final = 32
_LONGEST_POINTER: Final = 400
_NO_TEXT: Final = re.compile("[\0\ud800-\udfff]")

Step = str | int
"""The name of a member, or the place in a list."""


def parse_json(body: bytes) -> Any:
    """The value that a JSON document holds.

    Raises:
        InvalidRequestError: It is not JSON; line and column are told.
        UnprocessableError: A member is named twice, levels are too many, or a text cannot be stored; with its pointer.
    """
    try:
        text = body.decode("utf-8")
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            "json",
            problem=f"The body is not UTF-8: byte {error.start}.",
            problem_zh=f"请求体不是 UTF-8 编码：第 {error.start} 字节。",
        ) from error
    except json.JSONDecodeError as error:
        raise InvalidRequestError(
            "json",
            problem=f"The body is not JSON: {error.msg}, line {error.lineno}, column {error.colno}.",
            problem_zh=f"请求体不是合法的 JSON：第 {error.lineno} 行第 {error.colno} 列。",
        ) from error
    except RecursionError as error:
        raise _too_deep("") from error
    except ValueError as error:
        raise InvalidRequestError(
            "json",
            problem="The body holds a number that JSON does not have, or that is too long.",
            problem_zh="请求体含有 JSON 不允许或过长的数字。",
        ) from error
    _check_document(document)
    return document


def pointer(steps: Iterable[Step]) -> str:
    """RFC 6901: each step after a slash, with `~` and `/` of its own escaped."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


class _Doubled(dict[str, Any]):
    """An object that names a member twice."""

    name: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    doubled = _Doubled(found)
    seen: set[str] = set()
    doubled.name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    return doubled


def _no_number(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _check_document(document: Any) -> None:
    """Raises UnprocessableError for what no document may hold; of several faults, for one."""
    waiting: list[tuple[tuple[Step, ...], Any]] = [((), document)]
    while waiting:
        steps, value = waiting.pop()
        if len(steps) > DEEPEST:
            raise _too_deep(pointer(steps))
        if isinstance(value, dict):
            for name in value:
                _check_text(steps, name)
            if isinstance(value, _Doubled):
                raise fault("json-names", pointer((*steps, value.name)), "is given more than once", "重复出现")
        members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for step, inner in members:
            if isinstance(inner, str):
                _check_text((*steps, step), inner)
            elif isinstance(inner, dict | list):
                waiting.append(((*steps, step), inner))


def _check_text(steps: tuple[Step, ...], text: str) -> None:
    if _NO_TEXT.search(text):
        raise fault("json-text", pointer(steps), "holds a character that texts cannot have", "含有文本中不能出现的字符")


def _too_deep(where: str) -> UnprocessableError:
    return fault("json-depth", where, f"is deeper than {DEEPEST} levels", f"嵌套超过 {DEEPEST} 层")


def fault(rule: str, where: str, en: str, zh: str) -> UnprocessableError:
    """What is told about a member: `en` and `zh` go on after its pointer."""
    while len(where) > _LONGEST_POINTER:
        where = where.rpartition("/")[0]  # a name that fills pages is the caller's to find, in what holds it
    return UnprocessableError(
        rule, problem=f"{where or 'The body'} {en}.", problem_zh=f"{where or '请求体'} {zh}。", pointer=where
    )
