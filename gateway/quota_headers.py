"""How a caller sees its quotas: the fields RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers). Pure.

Both are lists of structured fields (RFC 9651): the name of a policy with the quota `q` and its window `w` in seconds; the
same name with what remains (`r`) and the seconds until all of it is there again (`t`).
"""

from __future__ import annotations

from registry import QuotaState

NAMES = frozenset({b"ratelimit-policy", b"ratelimit"})
"""A provider's own fields of these names are left out where ours are: two lists under one name could not be told apart."""


def quota_headers(state: QuotaState) -> list[tuple[bytes, bytes]]:
    """The fields for an answer under a quota, or for its refusal; empty if there is no quota."""
    policies, limits = [], []
    if state.remaining_second is not None:
        policies.append(b'"second";q=%d;w=1' % state.per_second)
        limits.append(b'"second";r=%d;t=1' % state.remaining_second)
    if state.remaining_day is not None:
        policies.append(b'"day";q=%d;w=86400' % state.per_day)
        limits.append(b'"day";r=%d;t=%d' % (state.remaining_day, state.reset_day))
    if not policies:
        return []
    return [(b"ratelimit-policy", b", ".join(policies)), (b"ratelimit", b", ".join(limits))]
