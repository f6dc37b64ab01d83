"""When two X.500 names are the same (RFC 5280 section 7.1, with the string preparation of RFC 4518). Pure.

Case, runs of white space and the string type make no difference; the order of the parts does.
"""

from __future__ import annotations

import unicodedata
from typing import TypeAlias

from cryptography import x509

CanonicalName: TypeAlias = tuple[tuple[tuple[str, str | bytes], ...], ...]
"""Names are equal exactly if these are; a name lies in a subtree exactly if the subtree's is a beginning of it."""


def canonical_name(name: x509.Name) -> CanonicalName:
    """Return the form of a name in which it is compared; the empty name is `()`."""
    return tuple(canonical_rdn(rdn) for rdn in name.rdns)


def canonical_rdn(rdn: x509.RelativeDistinguishedName) -> tuple[tuple[str, str | bytes], ...]:
    """Return one part of a name, in which the order of several attributes makes no difference."""
    parts = [(attribute.oid.dotted_string, _prepared(attribute.value)) for attribute in rdn]
    return tuple(parts) if len(parts) == 1 else tuple(sorted(parts, key=repr))


def within(name: CanonicalName, subtree: CanonicalName) -> bool:
    """Whether a name lies in a subtree: the subtree's own name counts."""
    return name[: len(subtree)] == subtree


def _prepared(value: str | bytes) -> str | bytes:
    if isinstance(value, bytes):  # a bit string, compared as it is
        return value
    if not value.isascii():
        value = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold())
        value = "".join(each for each in value if each.isspace() or unicodedata.category(each) not in ("Cc", "Cf"))
    return " ".join(value.casefold().split())
