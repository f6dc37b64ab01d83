"""Which records to look for, as people ask: pure, and without the library that the index is built with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from exchange.log.reader import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFilter:
    """What records to look for. All conditions hold at once; empty and None mean any.

    Beside exchanges there are records of other kinds, and few of these conditions can hold for them: of a change of the
    registry, its action stands as `rule` and its target as `service`; of an act on the log, the act as `rule` and who did it
    as `client`, with `user` and `certificate`. A record whose bytes are damaged says nothing: only `kind` and the times find
    it, by the columns beside it.
    """

    kind: Kind = "exchange"
    client: str = ""
    """The subsystem that asked."""
    owner: str = ""
    """The subsystem that offers the service."""
    service: str = ""
    purpose: str = ""
    case: str = ""
    """X-Road-Issue."""
    user: str = ""
    """The acting official, X-Road-UserId."""
    represented: str = ""
    """X-Road-Represented-Party."""
    subjects: frozenset[str] | None = None
    """Keyed hashes, hex: the person or company asked about is one of them. An empty set finds nothing."""
    persons: frozenset[str] | None = None
    """Keyed hashes, hex: the natural person whose certificate called is one of them."""
    outcome: str = ""
    rule: str = ""
    code: str = ""
    """Code of the error that the caller was given."""
    source: str = ""
    """Where an error arose: gateway, bus, adapter, backend."""
    certificate: str = ""
    """SHA-256 fingerprint of the caller's certificate, hex in either case."""
    certificate_serial: str = ""
    """Serial number of the caller's certificate, hex; leading zeros and case do not count."""
    message_id: str = ""
    """X-Road-Id."""
    method: str = ""
    path_template: str = ""
    channel: str = ""
    grant: str = ""
    """The id of a grant: any version of it; or `<id>@<version>`."""
    status_min: int | None = None
    status_max: int | None = None
    """Inclusive, as all that end in `_max`. A record without an HTTP status has 0."""
    duration_min_us: int | None = None
    duration_max_us: int | None = None
    request_size_min: int | None = None
    """Bytes of the request's body."""
    request_size_max: int | None = None
    answer_size_min: int | None = None
    """Bytes of the answer's body before it went to the caller; 0 if the department did not answer."""
    answer_size_max: int | None = None
    since_ms: int | None = None
    """Unix milliseconds, inclusive: when the record was written, by the clock of its gateway."""
    until_ms: int | None = None
    """Exclusive."""

    def to_plain(self) -> dict[str, Any]:
        """The conditions that are set, and always `kind`, as JSON can carry them; sets as sorted lists."""
        plain: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, frozenset):
                plain[each.name] = sorted(value)
            elif value is not None and value != "":
                plain[each.name] = value
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> RecordFilter:
        """What `to_plain` gave; raises TypeError for a name that is no condition."""
        sets = {name: frozenset(plain[name]) for name in ("subjects", "persons") if name in plain}
        return cls(**{**plain, **sets})
