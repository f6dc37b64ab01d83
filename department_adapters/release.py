"""What of a source's answer a grant's release terms let out.

Rules:
1. The source is asked for the whole of its answer, uncompressed: a part, or word that nothing changed, cannot be judged. A
   condition that guards a change stays, because without it the change would be another one.
2. The terms are applied before anything is sealed: what they withhold is in no seal, ledger or message.
3. Headers that speak of the whole body go, and the answer says which items were withheld or masked.
4. A success that cannot be judged is not released (`exchange.release.bodies`), and an encoded body cannot be.
5. A masked value is no key: it goes to the source as it is, which finds nothing by it unless `*` is a wildcard there.
"""

from __future__ import annotations

from msgspec import UNSET

from department_adapters.source import SourceAnswer
from exchange import (
    NOT_WITH_TERMS,
    Headers,
    QueryStatement,
    Released,
    ReleaseError,
    Terms,
    Told,
    apply_terms_aside,
    read_terms,
    told_headers,
)

_ASKS_FOR_A_PART = frozenset((b"range", b"if-range", b"accept-encoding", b"a-im"))
_COMPARES_THE_WHOLE = frozenset((b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"))


class ReleasedAnswer(SourceAnswer, frozen=True, gc=False):
    """What leaves the department, and what of it the statement on it tells."""

    withheld: Told = UNSET
    masked: Told = UNSET


def terms_of(statement: QueryStatement) -> Terms | None:
    """The terms that a question's answer is to be released under; raises ValueError if they cannot be read."""
    return None if statement.release is UNSET else read_terms(statement.release)


def asking_for_all(headers: Headers, safe: bool) -> Headers:
    """A request's headers so that the source answers with a body that can be judged."""
    dropped = _ASKS_FOR_A_PART | _COMPARES_THE_WHOLE if safe else _ASKS_FOR_A_PART
    return [*[pair for pair in headers if pair[0] not in dropped], (b"accept-encoding", b"identity")]


async def within(terms: Terms, answer: SourceAnswer) -> ReleasedAnswer:
    """What of an answer the terms release; raises ReleaseError if they cannot be applied to it.

    Args:
        answer: With its headers already those that may leave, names in lower case.
    """
    status, body = answer.status, answer.body
    encodings = [value.strip().lower() for name, value in answer.headers if name == b"content-encoding"]
    if not body or all(each in (b"", b"identity") for each in encodings):
        released = await apply_terms_aside(terms, body, status)
    elif 200 <= status <= 299:
        raise ReleaseError("the body is encoded, so no terms can be applied to it")
    else:
        released = Released(b"", ("*",), ())
    headers = [pair for pair in answer.headers if pair[0] not in NOT_WITH_TERMS]
    if body:
        headers = _described(headers, released.body)
    withheld, masked = released.withheld or UNSET, released.masked or UNSET
    told = told_headers(withheld, masked)
    return ReleasedAnswer(status, headers + told, released.body, withheld=withheld, masked=masked)


def _described(headers: Headers, body: bytes) -> Headers:
    """The headers with a content type that fits what is left of the body: none, or UTF-8."""
    kept: Headers = []
    for name, value in headers:
        if name != b"content-type":
            kept.append((name, value))
        elif body:
            essence, _, parameters = value.partition(b";")
            charset = parameters.lower().partition(b"charset=")[2].strip(b'" \t')
            kept.append((name, value if charset in (b"", b"utf-8") else essence.strip()))
    return kept
