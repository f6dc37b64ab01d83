"""RFC 9421's own examples, an independent implementation, and inputs nobody thought of."""

from __future__ import annotations

import base64
import json
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import http_message_signatures as independent
import http_sf
import pytest
import requests
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from ca_auth.request_signing.signature_refusals import RequestSignatureError
from exchange import InvalidRequestError
from exchange.signatures.recorded_signatures import bound_by, check_recorded
from exchange.signatures.signature_algorithms import sign
from exchange.signatures.signature_base import (
    RequestParts,
    SignatureBaseError,
    fields_of,
    read_parameters,
    signature_base,
)
from tests.ca_auth.signed_requests import ALGORITHMS, MINIMUM, NOW, QUESTION, Caller, Request, caller

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "rfc9421.json").read_text(encoding="utf-8"))
CASES: list[dict[str, str]] = VECTORS["cases"]
CHANGED = ("B.4 (5)", "B.4 (6)")
"""Messages that were changed so that the signature no longer holds."""
OTHER_COMPONENTS = ("B.2.2", "B.2.4")
"""A query parameter of its own, and a response: we sign neither."""


def key_of(case: dict[str, str]) -> Any:
    return load_pem_public_key(VECTORS["keys"][case["key"]]["public"].encode())


def signature_of(case: dict[str, str]) -> bytes:
    (member,) = http_sf.parse(case["signature"].encode(), tltype="dictionary").values()  # type: ignore[union-attr]
    assert isinstance(member, tuple)
    assert isinstance(member[0], bytes)
    return member[0]


def rebuilt(case: dict[str, str]) -> bytes:
    """The base of the example's request, by our own rules."""
    head = case["request"].partition("\n\n")[0].split("\n")
    method, target, _ = head[0].split(" ")
    path, _, query = target.encode().partition(b"?")
    pairs = [line.split(": ", 1) for line in head[1:]]
    fields = fields_of([(name.lower().encode(), value.encode()) for name, value in pairs])
    (member,) = http_sf.parse(case["signature_input"].encode(), tltype="dictionary").values()  # type: ignore[union-attr]
    parts = RequestParts(method=method, authority=fields[b"host"][0], path=path, query=query, fields=fields)
    return signature_base(parts, read_parameters(member))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["section"])
def test_the_signatures_of_rfc_9421_verify_over_the_bases_it_prints(case: dict[str, str]) -> None:
    check_recorded(case["base"].encode(), signature_of(case), case["alg"], key_of(case))
    with pytest.raises(SignatureBaseError):
        check_recorded(case["base"].encode() + b" ", signature_of(case), case["alg"], key_of(case))
    with pytest.raises(SignatureBaseError):
        check_recorded(case["base"].encode(), signature_of(case), "rsa-v1_5-sha256", key_of(case))


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["section"] not in OTHER_COMPONENTS], ids=lambda case: case["section"]
)
def test_the_bases_of_rfc_9421_come_out_of_its_requests(case: dict[str, str]) -> None:
    assert (rebuilt(case) == case["base"].encode()) == (case["section"] not in CHANGED)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["section"] in OTHER_COMPONENTS], ids=lambda case: case["section"]
)
def test_what_rfc_9421_knows_and_we_do_not_is_refused(case: dict[str, str]) -> None:
    request = case["request"] or VECTORS["request"]
    with pytest.raises(SignatureBaseError, match=r"@query-param|@status"):
        rebuilt({**case, "request": request})


def test_ed25519_gives_the_signature_that_rfc_9421_prints() -> None:
    """B.2.6; the other algorithms sign differently every time."""
    case = next(case for case in CASES if case["section"] == "B.2.6")
    der = base64.b64decode(VECTORS["keys"]["test-key-ed25519"]["private_pkcs8_base64"])
    key: Any = load_der_private_key(der, None)
    assert sign(key, case["base"].encode()) == signature_of(case)


INDEPENDENT = {
    "ecdsa-p256-sha256": independent.algorithms.ECDSA_P256_SHA256,
    "ecdsa-p384-sha384": independent.algorithms.ECDSA_P384_SHA384,
    "ed25519": independent.algorithms.ED25519,
    "rsa-pss-sha512": independent.algorithms.RSA_PSS_SHA512,
}


class Keys(independent.HTTPSignatureKeyResolver):
    def __init__(self, by: Caller) -> None:
        self._by = by

    def resolve_public_key(self, key_id: str) -> Any:
        assert key_id == self._by.keyid
        return self._by.key.public_key()

    def resolve_private_key(self, key_id: str) -> Any:
        assert key_id == self._by.keyid
        return self._by.key


def theirs(request: Request) -> requests.PreparedRequest:
    """The request as the library `requests` holds it."""
    query = b"?" + request.query if request.query else b""
    url = b"https://" + request.value(b"host") + request.path + query
    headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
    return requests.Request(request.method, url.decode(), headers=headers, data=request.body or None).prepare()


def ours(request: requests.PreparedRequest, body: bytes) -> Request:
    path, _, query = str(request.path_url).encode().partition(b"?")
    headers = tuple((name.lower().encode(), str(value).encode("latin-1")) for name, value in request.headers.items())
    assert request.method is not None
    return Request(request.method, path, query, headers, body)


def fresh() -> int:
    """The other implementation looks at the clock of the machine."""
    return int(datetime.now(UTC).timestamp())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("request_", [Request(), QUESTION], ids=["full", "smallest"])
def test_another_implementation_verifies_what_we_sign(algorithm: str, request_: Request) -> None:
    by = caller(algorithm)
    signed = theirs(request_.signed(by, created=fresh()))
    verifier = independent.HTTPMessageVerifier(signature_algorithm=INDEPENDENT[algorithm], key_resolver=Keys(by))
    required = (*MINIMUM, "content-digest") if request_.body else MINIMUM
    (result,) = verifier.verify(
        signed, expect_tag="datong", max_age=timedelta(seconds=60), require_components=required, body=request_.body
    )
    assert result.parameters["keyid"] == by.keyid


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_we_verify_what_another_implementation_signs(algorithm: str) -> None:
    by, now, request = caller(algorithm), fresh(), Request()
    message = theirs(request)
    signer = independent.HTTPMessageSigner(signature_algorithm=INDEPENDENT[algorithm], key_resolver=Keys(by))
    signer.sign(
        message,
        key_id=by.keyid,
        created=datetime.fromtimestamp(now, UTC),
        expires=datetime.fromtimestamp(now + 30, UTC),
        nonce="0123456789abcdef",
        tag="datong",
        label="sig1",
        covered_component_ids=[
            *MINIMUM,
            "@query",
            *(name.decode() for name, _ in request.headers[3:] if name != b"datong-subject"),
        ],
        body=request.body,
    )
    signature = ours(message, request.body).verified(by, now=now)
    assert (signature.label, signature.alg) == ("sig1", algorithm)
    assert bound_by(signature.base).content_digest
    with pytest.raises(RequestSignatureError):
        replace(ours(message, request.body), path=b"/r1").verified(by, now=now)


def test_a_value_in_chinese_is_understood_by_another_implementation() -> None:
    by = caller("ed25519")
    request = QUESTION.with_headers((b"datong-purpose", "公租房".encode()))
    verifier = independent.HTTPMessageVerifier(signature_algorithm=INDEPENDENT["ed25519"], key_resolver=Keys(by))
    message = theirs(request.signed(by, created=fresh()))
    (result,) = verifier.verify(message, expect_tag="datong", require_components=('"datong-purpose";bs',))
    assert result.parameters["tag"] == "datong"


# What nobody thought of

ANY = st.binary(max_size=300)
LIKELY = st.text(alphabet='()"=;:,@ \t?-abcdxyz019*.\\', max_size=120).map(str.encode)
FRAGMENTS = st.lists(
    st.sampled_from(
        ['datong=', '("@method"', ' "@path"', '"x-road-client";bs', ')', ';created=1800000000', ';created=-1', ';tag="datong"',
         ';nonce="0123456789abcdef"', ';keyid="x"', ';alg="ed25519"',
         ', ', 'sig=', '(', ';', ':AAAA:', '"', '@', '?1', '%"x"', '@1']
    ),
    max_size=14,
).map(lambda parts: "".join(parts).encode())  # fmt: skip


@given(signature_input=ANY | LIKELY | FRAGMENTS, signature=ANY | LIKELY | FRAGMENTS)
def test_whatever_the_headers_hold_is_refused_and_never_a_crash(signature_input: bytes, signature: bytes) -> None:
    request = QUESTION.with_headers((b"signature-input", signature_input), (b"signature", signature))
    with pytest.raises((RequestSignatureError, InvalidRequestError)):
        request.verified()


@given(
    headers=st.lists(st.tuples(st.sampled_from([b"host", b"x-road-client", b"x-road-\xff", b"datong-a", b"signature",
                                                b"content-digest", b"accept"]), ANY | LIKELY), max_size=8),
    method=st.text(max_size=8),
    path=ANY,
    query=ANY,
    body=ANY,
)  # fmt: skip
def test_whatever_surrounds_a_good_signature_is_refused_or_the_same(
    headers: list[tuple[bytes, bytes]], method: str, path: bytes, query: bytes, body: bytes
) -> None:
    signed = QUESTION.signed(nonce="0123456789abcdef")
    other = replace(signed, headers=(*signed.headers, *headers), method=method, path=path, query=query, body=body)
    try:
        signature = other.verified()
    except (RequestSignatureError, InvalidRequestError):
        return
    assert signature.base == signed.verified().base


@given(ANY | LIKELY | st.text(alphabet=string.printable, max_size=200).map(str.encode))
def test_whatever_a_recorded_base_holds_is_read_or_refused(base: bytes) -> None:
    for candidate in (
        base,
        base + b'\n"@signature-params": ' + base,
        b'"@path": ' + base + b'\n"@signature-params": ("@path")',
    ):
        try:
            bound = bound_by(candidate)
        except SignatureBaseError:
            continue
        assert bound.parameters.text.encode() in candidate


@pytest.mark.parametrize(
    "spoil",
    [
        lambda base: base + b"\n",
        lambda base: b"\n" + base,
        lambda base: base.replace(b"\n", b"\r\n"),
        lambda base: base.replace(b'"@method": POST\n', b""),
        lambda base: base.replace(b'"@method": POST\n', b'"@method": POST\n"@method": GET\n'),
        lambda base: base.replace(b'"@path": ', b'"@path":  ').replace(b'"@path":  /', b'"@path":/'),
        lambda base: base.replace(b'("@method" ', b"("),
        lambda base: base.replace(b'("@method" "@authority"', b'("@authority" "@method"'),
        lambda base: base.replace(b'("@method" ', b'("@method"  '),
        lambda base: base.replace(b";created=", b"; created="),
        lambda base: base.replace(b";created=", b";created=0"),
        lambda base: base.replace(b"x-road-client", b"x-road-server"),
        lambda base: base.replace(b"tax", "税".encode()),
        lambda base: base.split(b"\n")[-1],
        lambda base: base.rsplit(b"\n", 1)[0],
        lambda base: b"a" * 40_000,
    ],
)
def test_a_recorded_base_has_one_form(spoil: Any) -> None:
    base = Request().signed().verified().base
    assert bound_by(base).created == NOW
    with pytest.raises(SignatureBaseError):
        bound_by(spoil(base))
