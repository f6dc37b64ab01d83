"""Case numbers that a grant demands: what X-Road-Issue must look like. Pure.

Rules:
1. `*` stands for any characters, at least one; `?` for one character; `#` for one digit 0-9. All else stands for itself:
   `沪民政〔####〕*号` is met by `沪民政〔2026〕17号`.
2. There is no escape: where a number holds one of the three, `?` fits it.
3. The whole value must match. An empty pattern demands nothing, and an empty value meets no other pattern.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_LENGTH = 200


@lru_cache(maxsize=4096)
def compile_case_pattern(text: str) -> re.Pattern[str] | None:
    """Return the expression that a whole case number must match, None for the empty pattern.

    Raises:
        ValueError: It is too long, or holds something that cannot be printed.
    """
    if not text:
        return None
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a case pattern has at most {MAX_LENGTH} characters")
    if not text.isprintable() or text != text.strip():
        raise ValueError("a case pattern holds printable characters, and no spaces around them")
    first, *rest = ("".join(map(_character, piece)) for piece in text.split("*"))
    expression = first
    for position, piece in enumerate(rest, start=1):
        # The first place where a piece fits is good enough as long as another star can take the rest, so only the last
        # star is free: callers choose the value, and one request must not burn seconds.
        expression += f".+?{piece}" if position == len(rest) else f"(?>.+?{piece})"
    return re.compile(expression, re.DOTALL)


def _character(character: str) -> str:
    return "." if character == "?" else "[0-9]" if character == "#" else re.escape(character)
