"""The answer that every server under load gives: a list of small records, as a department's API would answer."""

import json
from typing import Any

BODY_BYTES = 1024


def records(size: int = BODY_BYTES) -> dict[str, Any]:
    """An object whose compact JSON is exactly `size` bytes; `size` is 200 or more."""
    record = {"code": "99010000000000001X", "name": "Example Trading Ltd", "since": "2019-03-01", "status": "active"}
    padding = "padding"
    count = max(1, (size - 64) // (len(_compact(record)) + 1))
    answer: dict[str, Any] = {"count": count, "items": [record] * count, padding: ""}
    answer[padding] = "x" * (size - len(_compact(answer)))
    return answer


def body(size: int = BODY_BYTES) -> bytes:
    """`records(size)` as compact JSON: exactly `size` bytes."""
    return _compact(records(size)).encode()


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
