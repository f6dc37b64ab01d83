"""Every published case that could be accepted and is refused, with the reason. Reviewed: a strict answer costs
convenience, and each of these is a decision. A case that must be refused and is accepted has no list: it is a hole."""

from __future__ import annotations

from typing import Final, NamedTuple


class StrictCase(NamedTuple):
    rule: str
    reason: str


_CA_AS_LEAF = (
    "RFC 5280 lets a CA certificate stand as the leaf. A client that can issue certificates can make itself any name, so the "
    "mesh refuses it, as webpki::ca-as-leaf of the same suite demands."
)

STRICT_CASES: Final = {
    # x509-limbo, with the policy of the mesh
    "pathlen::validation-ignores-pathlen-in-leaf": StrictCase("certificate-purpose", _CA_AS_LEAF),
    "rfc5280::ca-as-leaf": StrictCase("certificate-purpose", _CA_AS_LEAF),
    # PKITS
    "4.14.30/valid_crlissuer_test30": StrictCase(
        "crl-signature",
        "That the issuer of an indirect CRL is not revoked is told by nothing but the CRL it signs: whoever stole its key "
        "could vouch for it for ever.",
    ),
}
