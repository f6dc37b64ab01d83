"""What a record says that can be searched for: read from its bytes, and compared with a filter. Pure.

Rules:
1. The bytes of the record decide, not the columns beside them. A record whose bytes cannot be read says nothing; only then
   do the columns tell its kind and its time.
2. `matches` is what a filter means. The index finds candidates; what it finds is compared here before it is shown.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final, NamedTuple

import msgspec

from exchange.log.change_record import CHANGE, is_change
from exchange.log.log_event import KINDS, is_event
from exchange.moments import parse_rfc3339
from exchange.search.filters import RecordFilter

MOST_STATUS: Final = 1023
"""No record has a larger HTTP status."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class Facts(NamedTuple):
    """What one record says; texts that it lacks are empty, numbers 0."""

    kind: str
    """exchange, change, access, retention; empty where a removed record stood."""
    client: str
    owner: str
    service: str
    purpose: str
    case: str
    user: str
    represented: str
    subject: str
    person: str
    outcome: str
    rule: str
    code: str
    source: str
    certificate: str
    certificate_serial: str
    """Lower case, without leading zeros."""
    message_id: str
    method: str
    path_template: str
    channel: str
    grant: str
    """With its version."""
    grant_id: str
    """Without it."""
    at_ms: int
    status: int
    duration_us: int
    request_size: int
    answer_size: int


TEXTS: Final = Facts._fields[:22]
NUMBERS: Final = Facts._fields[22:]
ABSENT: Final = Facts._make((*[""] * len(TEXTS), *[0] * len(NUMBERS)))
"""What there is to say of a record that was removed."""


class _Query(msgspec.Struct, gc=False):
    case: str = ""
    certificate: str = ""
    channel: str = ""
    client: str = ""
    grant: str = ""
    message_id: str = ""
    method: str = ""
    path_template: str = ""
    purpose: str = ""
    represented: str = ""
    request_size: _Count = 0
    service: str = ""
    subject: str = ""
    user: str = ""


class _Answer(msgspec.Struct, gc=False):
    body_size: _Count = 0


class _Exchange(msgspec.Struct, gc=False):
    ended_at: str
    outcome: str
    query: _Query
    answer: _Answer | None = None
    certificate_serial: str = ""
    code: str = ""
    duration_us: _Count = 0
    person: str = ""
    rule: str = ""
    source: str = ""
    status: Annotated[int, msgspec.Meta(ge=0, le=MOST_STATUS)] = 0


class _Change(msgspec.Struct, gc=False):
    action: str
    recorded_at: str
    target: str
    certificate: str = ""


class _Event(msgspec.Struct, gc=False):
    act: str
    at: str
    by: str
    kind: str
    certificate: str = ""
    user: str = ""


_read_exchange = msgspec.json.Decoder(_Exchange).decode
_read_change = msgspec.json.Decoder(_Change).decode
_read_event = msgspec.json.Decoder(_Event).decode


def facts_of(leaf: bytes, *, at_ms: int, outcome: str) -> Facts:
    """What a record says.

    Args:
        at_ms: The column beside it, for a record that cannot be read.
        outcome: Likewise.
    """
    try:
        if leaf.startswith(b'{"act'):
            if is_change(leaf):
                return _of_change(_read_change(leaf))
            if is_event(leaf):
                return _of_event(_read_event(leaf))
        return _of_exchange(_read_exchange(leaf))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Columns may hold anything, too, once somebody has changed them.
        kind = outcome if outcome in KINDS or outcome == CHANGE else "exchange"
        at_ms = at_ms if isinstance(at_ms, int) and 0 <= at_ms < 1 << 53 else 0
        return ABSENT._replace(kind=kind, at_ms=at_ms)


def serial_text(serial: str) -> str:
    """A serial number in the one form in which serials are compared."""
    return serial.lower().lstrip("0") or ("0" if serial else "")


def matches(facts: Facts, wanted: RecordFilter) -> bool:
    """Whether a record is one of those that are looked for."""
    if wanted.kind not in (facts.kind, "any"):
        return False
    for name in _COMPARED:
        value = getattr(wanted, name)
        if value and value != getattr(facts, name):
            return False
    if wanted.grant and wanted.grant != (facts.grant if "@" in wanted.grant else facts.grant_id):
        return False
    if wanted.certificate and wanted.certificate.lower() != facts.certificate:
        return False
    if wanted.certificate_serial and serial_text(wanted.certificate_serial) != facts.certificate_serial:
        return False
    if wanted.subjects is not None and (not facts.subject or facts.subject not in wanted.subjects):
        return False
    if wanted.persons is not None and (not facts.person or facts.person not in wanted.persons):
        return False
    return all(low <= getattr(facts, name) <= high for name, low, high in bounds(wanted))


_COMPARED: Final = (
    *("client", "owner", "service", "purpose", "case", "user", "represented", "outcome", "rule", "code", "source"),
    *("message_id", "method", "path_template", "channel"),
)
"""Members of a filter that are compared with the fact of the same name."""
_LARGEST: Final = (1 << 53) - 1


def equals(wanted: RecordFilter) -> list[tuple[str, frozenset[str]]]:
    """The conditions on texts, but for the kind: (name of a fact, the values of which it has one)."""
    found = [(name, frozenset([value])) for name in _COMPARED if (value := getattr(wanted, name))]
    if wanted.grant:
        found.append(("grant" if "@" in wanted.grant else "grant_id", frozenset([wanted.grant])))
    if wanted.certificate:
        found.append(("certificate", frozenset([wanted.certificate.lower()])))
    if wanted.certificate_serial:
        found.append(("certificate_serial", frozenset([serial_text(wanted.certificate_serial)])))
    if wanted.subjects is not None:
        found.append(("subject", wanted.subjects - {""}))
    if wanted.persons is not None:
        found.append(("person", wanted.persons - {""}))
    return found


def bounds(wanted: RecordFilter) -> list[tuple[str, int, int]]:
    """The conditions on numbers: (name of a fact, the least, the most), inclusive; those that hold always are left out."""
    asked = [
        ("at_ms", wanted.since_ms, None if wanted.until_ms is None else wanted.until_ms - 1),
        ("status", wanted.status_min, wanted.status_max),
        ("duration_us", wanted.duration_min_us, wanted.duration_max_us),
        ("request_size", wanted.request_size_min, wanted.request_size_max),
        ("answer_size", wanted.answer_size_min, wanted.answer_size_max),
    ]
    found = [
        (name, 0 if low is None else max(low, 0), _LARGEST if high is None else min(high, _LARGEST))
        for name, low, high in asked
    ]
    return [each for each in found if each[1:] != (0, _LARGEST)]


def _of_exchange(record: _Exchange) -> Facts:
    query = record.query
    return Facts(
        "exchange",
        query.client,
        query.service.rpartition("/")[0],
        query.service,
        query.purpose,
        query.case,
        query.user,
        query.represented,
        query.subject,
        record.person,
        record.outcome,
        record.rule,
        record.code,
        record.source,
        query.certificate,
        serial_text(record.certificate_serial),
        query.message_id,
        query.method,
        query.path_template,
        query.channel,
        query.grant,
        query.grant.rpartition("@")[0],
        _instant(record.ended_at),
        record.status,
        record.duration_us,
        query.request_size,
        0 if record.answer is None else record.answer.body_size,
    )


def _of_change(change: _Change) -> Facts:
    return ABSENT._replace(
        kind=CHANGE,
        outcome=CHANGE,
        rule=change.action,
        service=change.target,
        owner=change.target.rpartition("/")[0],
        certificate=change.certificate,
        at_ms=_instant(change.recorded_at),
    )


def _of_event(event: _Event) -> Facts:
    if event.kind not in KINDS:
        raise ValueError("a kind of record that is not known here")
    return ABSENT._replace(
        kind=event.kind,
        outcome=event.kind,
        rule=event.act,
        client=event.by,
        certificate=event.certificate,
        user=event.user,
        at_ms=_instant(event.at),
    )


@lru_cache(1024)
def _instant(text: str) -> int:
    """Remembered: the busier a log, the more of its records have the same one."""
    at_ms = parse_rfc3339(text)
    if at_ms < 0:
        raise ValueError("a time before 1970")
    return at_ms
