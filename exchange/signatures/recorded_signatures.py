"""Signed requests years later: what a recorded signature proves, and what it binds. Pure.

Rules:
1. The evidence of a signed request is its base and its signature, as one text: the base, and one more line `"@signature"`.
   With the caller's certificate it is complete; the key decides the algorithm.
2. Reading a base gives exactly the components its last line lists, in that order, or an error. Everything has one spelling.
3. Evidence holds the path, which may name a person: it belongs beside a record, like the salt, and never into it.
4. Receipts are verified with it: nothing is imported here but the standard library, `cryptography`, and modules that keep
   to this rule.

Not checked here: that the certificate was good at the time, and that the nonce was new: the gateway vouches for those.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from exchange.signatures.signature_algorithms import (
    SignatureMismatchError,
    UnsuitableKeyError,
    VerifyingKey,
    algorithm_of,
    verify,
)
from exchange.signatures.signature_base import (
    PARAMETERS_LINE,
    Component,
    Parameters,
    SignatureBaseError,
    read_parameters,
)

MAX_BASE: Final = 32 << 10
"""Bytes; a request head has at most half of that."""

_LINE: Final = re.compile(rb'"(@?[a-z0-9!#$%&\'*+.^_`|~-]+)"(;bs)?: ([\t -~]*)')
_SIGNATURE_LINE: Final = b'\n"@signature": '
_INPUT: Final = re.compile(r"\(([^()]*)\)((?:;[a-z]+=(?:-?\d{1,15}|\"[ !#-\[\]-~]*\"))*)", re.ASCII)
"""`@signature-params` in the canonical form of RFC 9651, as far as rules 1, 3 and 4 of `exchange.signatures.signature_base` go."""
_ITEM: Final = re.compile(r'"([^" ]+)"(;bs)?')
_PARAMETER: Final = re.compile(r";([a-z]+)=(?:(-?\d+)|\"([^\"]*)\")", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """What a base binds: whoever signed it asked exactly this."""

    parameters: Parameters
    method: str
    authority: str
    path: str
    """Raw, as in the request line: `/r1/CN/GOV/.../service/rest`."""
    query: str
    """Raw, without `?`; empty if there was none."""
    fields: Mapping[str, str]
    """Covered header fields; UTF-8 if covered with `;bs`, where bytes that are not appear as lone surrogates."""
    created: int
    nonce: str
    keyid: str

    @property
    def client(self) -> str:
        """X-Road-Client as sent, percent-encoded."""
        return self.fields["x-road-client"]

    @property
    def purpose(self) -> str:
        """Datong-Purpose; empty if there was none."""
        return self.fields.get("datong-purpose", "")

    @property
    def case(self) -> str:
        """X-Road-Issue; empty if there was none."""
        return self.fields.get("x-road-issue", "")

    @property
    def content_digest(self) -> str:
        """Content-Digest, for `check_content_digest`; empty if the request had no body."""
        return self.fields.get("content-digest", "")


def bound_by(base: bytes) -> SignedRequest:
    """Say what a recorded base binds. The signature is not checked here: `check_recorded` does that.

    Raises:
        SignatureBaseError: It is not a base of ours: malformed, or it lacks what every request must cover.
    """
    if len(base) > MAX_BASE:
        raise SignatureBaseError(f"a base is at most {MAX_BASE} bytes long")
    *lines, last = base.split(b"\n")
    if not last.startswith(PARAMETERS_LINE):
        raise SignatureBaseError("the last line is not @signature-params")
    parameters = _parameters(last.removeprefix(PARAMETERS_LINE))
    found = [_LINE.fullmatch(line) for line in lines]
    read = [(match[1].decode(), match[2] is not None, match[3]) for match in found if match]
    if len(read) != len(lines) or [Component(name, bs) for name, bs, _ in read] != list(parameters.components):
        raise SignatureBaseError("the lines are not the components that @signature-params lists")
    values = {name: _unwrapped(value) if bs else value.decode() for name, bs, value in read}
    own = parameters.values
    try:
        return SignedRequest(
            parameters=parameters,
            method=values["@method"],
            authority=values["@authority"],
            path=values["@path"],
            query=values.get("@query", "?")[1:],
            fields={"x-road-client": values["x-road-client"]}
            | {name: value for name, value in values.items() if not name.startswith("@")},
            created=int(own["created"]),
            nonce=str(own["nonce"]),
            keyid=str(own["keyid"]),
        )
    except KeyError as error:
        raise SignatureBaseError(f"{error.args[0]} is not covered", component=str(error.args[0])) from error


def check_recorded(base: bytes, signature: bytes, alg: str, public_key: VerifyingKey) -> None:
    """Return if the key's holder signed the base with this algorithm; all that is needed is the certificate's key.

    Args:
        alg: One of `ALGORITHMS`; it must be the one of the key.

    Raises:
        SignatureBaseError: The signature does not verify, or key and algorithm do not belong together.
    """
    try:
        if algorithm_of(public_key) != alg:
            raise SignatureBaseError(f"{alg} is not the algorithm of this key")
        verify(public_key, signature, base)
    except (UnsuitableKeyError, SignatureMismatchError) as error:
        raise SignatureBaseError(str(error)) from error


def evidence_bytes(base: bytes, signature: bytes) -> bytes:
    """Base and signature as one text, for the adapter and beside the record."""
    return base + _SIGNATURE_LINE + b":%b:" % base64.b64encode(signature)


def split_evidence(evidence: bytes) -> tuple[bytes, bytes]:
    """Base and signature; raises SignatureBaseError if it is no evidence."""
    base, separator, signature = evidence.rpartition(_SIGNATURE_LINE)
    if not separator:
        raise SignatureBaseError("the last line is not @signature")
    return base, _bytes_of(signature)


def check_evidence(evidence: bytes, certificate: bytes) -> SignedRequest:
    """Return what the holder of a certificate signed, by the certificate alone.

    Args:
        evidence: From `evidence_bytes`.
        certificate: DER.

    Raises:
        SignatureBaseError: It was not signed with the certificate's key, or names another certificate.
    """
    base, signature = split_evidence(evidence)
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        alg = algorithm_of(key)
    except (UnsuitableKeyError, UnsupportedAlgorithm, ValueError) as error:
        raise SignatureBaseError(f"the certificate's key signs no requests: {error}") from error
    check_recorded(base, signature, alg, key)  # type: ignore[arg-type]  # it has an algorithm
    bound = bound_by(base)
    if bound.keyid != hashlib.sha256(certificate).hexdigest():
        raise SignatureBaseError("it was signed for another certificate of the same key")
    return bound


def evidence_digest(salt: bytes, evidence: bytes) -> str:
    """hex SHA-256( salt || evidence ): what the record holds of it."""
    return hashlib.sha256(salt + evidence).hexdigest()


def _parameters(text: bytes) -> Parameters:
    """`@signature-params`, which has one spelling here."""
    try:
        found = _INPUT.fullmatch(text.decode("ascii"))
    except UnicodeDecodeError:
        found = None
    if found is None:
        raise SignatureBaseError("@signature-params cannot be read")
    items = [_ITEM.fullmatch(item) for item in found[1].split(" ")] if found[1] else []
    read = [(item[1], {"bs": True} if item[2] else {}) for item in items if item]
    pairs = [(each[1], int(each[2]) if each[2] else each[3]) for each in _PARAMETER.finditer(found[2])]
    if len(read) != len(items) or len({name for name, _ in pairs}) != len(pairs):
        raise SignatureBaseError("@signature-params cannot be read")
    parameters = read_parameters((read, dict(pairs)))
    if parameters.text.encode() != text:
        raise SignatureBaseError("@signature-params is not in canonical form")
    return parameters


def _unwrapped(value: bytes) -> str:
    return _bytes_of(value).decode(errors="surrogateescape")


def _bytes_of(value: bytes) -> bytes:
    """A byte sequence (RFC 9651 section 3.3.5) in its one canonical form."""
    try:
        content = base64.b64decode(value[1:-1], validate=True)
    except ValueError as error:
        raise SignatureBaseError("not a byte sequence") from error
    if b":%b:" % base64.b64encode(content) != value:
        raise SignatureBaseError("not one byte sequence in canonical form")
    return content
