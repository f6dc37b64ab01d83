"""What any text of a document must keep to, and how it is told that it does not. Pure."""

from __future__ import annotations

import re

from exchange import UnprocessableError
from registry.descriptions.document import Place, refusal

MAX_BYTES = 10 << 20
MAX_DEPTH = 64
MAX_VALUES = 1_000_000

_SURROGATE = re.compile("[\ud800-\udfff]")


def check_text(text: str, place: Place) -> None:
    """Return if a text can be written as UTF-8 again; raises UnprocessableError."""
    if not text.isascii() and _SURROGATE.search(text):
        raise refusal(
            "description-syntax",
            tuple(_SURROGATE.sub("\ufffd", part) if isinstance(part, str) else part for part in place),
            "Half of a surrogate pair is not a character.",
            "含有不成对的代理码位。",
        )


def syntax(problem: str, problem_zh: str) -> UnprocessableError:
    return refusal("description-syntax", (), problem, problem_zh)


def limit(place: Place, problem: str, problem_zh: str) -> UnprocessableError:
    return refusal("description-limit", place, f"The document {problem}.", f"文档{problem_zh}。")


def too_deep(place: Place) -> UnprocessableError:
    return limit(place, f"is nested more than {MAX_DEPTH} deep", f"嵌套超过 {MAX_DEPTH} 层")


def too_many() -> UnprocessableError:
    return limit((), f"holds more than {MAX_VALUES} values", f"所含数据项超过 {MAX_VALUES} 个")


def repeated(place: Place, line: int = 0) -> UnprocessableError:
    where, where_zh = (f" again in line {line}", f"（第 {line} 行）") if line else (" twice", "")
    shown = str(place[-1])[:100]
    return refusal(
        "description-syntax", place, f"The key {shown!r} stands{where}.", f"键 {shown!r} 重复出现{where_zh}。"
    )


def not_a_number(place: Place) -> UnprocessableError:
    return refusal(
        "description-syntax", place, "Not a number that JSON can hold.", "不是 JSON 可表示的数字（NaN 或无穷大）。"
    )
