"""RFC 8785 canonical JSON: one text for each value, so that bytes can be hashed, signed and compared.

Rules:
1. Texts, booleans, integers below 2^53, arrays and objects; no fractions and no null, whose texts people disagree about.
2. Members stand in the order of their names as UTF-16, as the RFC wants it: beyond the basic plane that is not Python's.
3. Nothing is imported but the standard library: receipts are verified with this.
"""

from __future__ import annotations

import json
from typing import Any

LARGEST = 2**53 - 1


def canonical(value: Any) -> bytes:
    """The one text of `value`; raises ValueError if it has none (rule 1)."""
    return json.dumps(_in_order(value), ensure_ascii=False, separators=(",", ":")).encode()


def parse_canonical(data: bytes) -> dict[str, Any]:
    """The object that `data` is the one text of; raises ValueError if it is anything else."""
    try:
        value = json.loads(data.decode(), parse_float=_refuse, parse_constant=_refuse, parse_int=_integer)
        again = canonical(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON of texts, booleans and integers") from error
    if not isinstance(value, dict) or again != data:
        raise ValueError("it is not a JSON object in canonical form")
    return value


def _in_order(value: Any) -> Any:
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, dict):
        return {name: _in_order(value[name]) for name in sorted(value, key=_utf16)}
    if isinstance(value, (list, tuple)):
        return [_in_order(each) for each in value]
    if isinstance(value, int) and abs(value) <= LARGEST:
        return value
    raise ValueError(f"{value!r:.40} has no canonical text here")


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not an integer")


def _integer(text: str) -> int:
    # Long ones are not even converted: that takes time by the square of their length.
    if len(text) > 17:
        raise ValueError("an integer is too large")
    return int(text)
