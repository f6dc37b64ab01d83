"""What stands beside a record for searching, told by the record itself: for those who put records back, or take them away.

Nothing is imported but the standard library and modules that keep to that.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from exchange.log.change_record import CHANGE, is_change, read_change
from exchange.log.log_event import is_event, read_event
from exchange.moments import parse_rfc3339


class Columns(NamedTuple):
    """In the order of `log_entries`."""

    exchange_id: str
    at_ms: int
    client: str
    service: str
    outcome: str
    rule: str


def columns_of(leaf: bytes) -> Columns:
    """What the log keeps beside a record; raises ValueError if it is none."""
    if is_change(leaf):
        change, recorded_at = read_change(leaf)
        return Columns(change.id, parse_rfc3339(recorded_at), "", change.target, CHANGE, change.action)
    if is_event(leaf):
        event = read_event(leaf)
        return Columns(event.id, parse_rfc3339(event.at), event.by, "", event.kind, event.act)
    try:
        record = json.loads(leaf)
        query: dict[str, Any] = record["query"]
        beside = (record["id"], query.get("client", ""), query.get("service", ""), record["outcome"], record["rule"])
        at_ms = parse_rfc3339(record["ended_at"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("it is not a record") from error
    if not all(isinstance(text, str) for text in beside):
        raise ValueError("it is not a record")
    return Columns(beside[0], at_ms, *beside[1:])
