"""Signed requests: what is accepted, what is refused by which rule, and that nothing covered can be changed."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca_auth.request_signing.http_signatures import CallerKey, carries_our_signature, verify_request
from ca_auth.request_signing.http_signing import Signer, sign_request
from ca_auth.request_signing.signature_refusals import RequestSignatureError, nonce_used
from exchange import InvalidRequestError
from exchange.signatures.recorded_signatures import (
    bound_by,
    check_evidence,
    check_recorded,
    evidence_digest,
    split_evidence,
)
from exchange.signatures.signature_algorithms import UnsuitableKeyError
from exchange.signatures.signature_base import SignatureBaseError
from tests.ca_auth.signed_requests import (
    ALGORITHMS,
    MINIMUM,
    NOW,
    QUESTION,
    Caller,
    Request,
    caller,
    make_key,
    request_recorder,
    self_signed,
)


def rule_of(request: Request, by: Caller | None = None, *, now: float = NOW) -> str:
    """The rule that refuses; its text exists in both languages and says what to do."""
    with pytest.raises((RequestSignatureError, InvalidRequestError)) as caught:
        request.verified(by, now=now)
    error = caught.value
    assert error.status == (401 if isinstance(error, RequestSignatureError) else 400)
    for text in (error.detail_in, error.next_in):
        assert text("en") != text("zh")
        assert "?" not in (text("en"), text("zh"))  # what a template says for a value that nobody gave
    return error.rule


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_request_verifies_and_so_does_its_record_years_later(algorithm: str) -> None:
    by = caller(algorithm)
    signature = Request().signed(by).verified(by)
    assert (signature.alg, signature.keyid, signature.created, signature.label) == (algorithm, by.keyid, NOW, "datong")
    check_recorded(signature.base, signature.signature, signature.alg, by.verifying.key)
    bound = bound_by(signature.base)
    assert (bound.method, bound.path, bound.query) == ("POST", Request().path.decode(), Request().query.decode())
    assert (bound.client, bound.purpose, bound.case) == (
        "CN/GOV/11990000000000000X/housing",
        "public-rental-housing",
        "2026-0001",
    )
    assert bound.authority == "gateway.example:8443"
    assert bound.content_digest.startswith("sha-256=:")
    assert (bound.created, bound.nonce, bound.keyid) == (NOW, signature.nonce, by.keyid)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_evidence_and_certificate_alone_prove_who_asked_what(algorithm: str) -> None:
    by = caller(algorithm)
    signature = Request().signed(by).verified(by)
    evidence = signature.evidence
    assert split_evidence(evidence) == (signature.base, signature.signature)
    assert check_evidence(evidence, by.der).case == "2026-0001"
    assert len(evidence_digest(b"salt", evidence)) == 64
    assert evidence_digest(b"salt", evidence) != evidence_digest(b"tlas", evidence)
    renewed = self_signed(by.key).public_bytes(Encoding.DER)
    for bad, certificate in (
        (evidence.replace(b"2026-0001", b"2026-0002"), by.der),
        (evidence, caller(algorithm, 1).der),
        (evidence, renewed),  # the same key, and not the certificate it was signed for
        (evidence, b"no certificate"),
        (signature.base, by.der),
        (evidence[:-1], by.der),
        (evidence + b"\n", by.der),
        (b"", by.der),
    ):
        with pytest.raises(SignatureBaseError):
            check_evidence(bad, certificate)


def test_a_purpose_that_a_grant_would_supply_can_be_demanded_of_the_signature() -> None:
    signed = QUESTION.signed()
    arguments = {**signed.arguments, "caller": caller().verifying, "now": NOW}
    with pytest.raises(RequestSignatureError, match="datong-purpose"):
        verify_request(**arguments, also_covered=["datong-purpose"])
    named = QUESTION.with_headers((b"datong-purpose", b"housing")).signed()
    verify_request(**{**arguments, **named.arguments}, also_covered=["datong-purpose"])


def test_only_a_signature_meant_for_us_is_looked_at_unasked() -> None:
    assert carries_our_signature(QUESTION.signed().headers)
    assert not carries_our_signature(QUESTION.headers)
    assert not carries_our_signature(QUESTION.signed_with(*MINIMUM, tag="proxy").headers)


def test_the_smallest_request_needs_no_query_and_no_digest() -> None:
    signature = QUESTION.signed().verified()
    assert b"@query" not in signature.base
    assert bound_by(signature.base).content_digest == ""
    assert bound_by(signature.base).purpose == ""


def test_a_purpose_in_chinese_is_signed_as_bytes_and_read_back() -> None:
    """RFC 9421 wants a base in ASCII; such a value is covered with ;bs."""
    request = QUESTION.with_headers(
        (b"datong-purpose", "公租房资格审核".encode()), (b"x-road-issue", "沪房〔2026〕1号".encode())
    )
    signature = request.signed().verified()
    assert b'"datong-purpose";bs: :' in signature.base
    bound = bound_by(signature.base)
    assert (bound.purpose, bound.case) == ("公租房资格审核", "沪房〔2026〕1号")
    assert rule_of(request.signed_with(*MINIMUM, "x-road-issue;bs", "datong-purpose;bs").with_headers(
        (b"datong-purpose", "公租房资格审查".encode())
    )) == "signature-verify"  # fmt: skip
    with pytest.raises(SignatureBaseError, match=";bs"):
        request.signed_with(*MINIMUM, "x-road-issue", "datong-purpose")


def _changed(value: bytes) -> list[bytes]:
    """The value with each of its bytes changed, one at a time."""
    return [value[:at] + bytes([byte ^ 1]) + value[at + 1 :] for at, byte in enumerate(value)]


COVERED = (b"host", b"x-road-client", b"x-road-issue", b"x-road-userid", b"datong-purpose")


COVERABLE = [name.decode() for name, _ in Request().headers[2:] if name != b"datong-subject"]


@pytest.mark.parametrize("name", [*COVERED, b"content-type"])
def test_no_byte_of_a_covered_header_can_be_changed(name: bytes) -> None:
    request = Request().signed()
    for value in _changed(request.value(name)):
        # Host: a changed port or name; white space at an end is not part of a value.
        if value.strip() == value and value.lower() != request.value(name).lower():
            assert rule_of(request.with_headers((name, value))) in ("signature-verify", "signature-coverage")


@pytest.mark.parametrize("part", ["method", "path", "query", "body"])
def test_no_byte_of_method_path_query_and_body_can_be_changed(part: str) -> None:
    request = Request().signed()
    value = getattr(request, part)
    raw = value.encode() if isinstance(value, str) else value
    for other in _changed(raw):
        changes: dict[str, Any] = {part: other.decode() if isinstance(value, str) else other}
        assert rule_of(replace(request, **changes)) in ("signature-verify", "content-digest", "signature-coverage")


def test_no_byte_of_the_signature_and_its_input_can_be_changed() -> None:
    request = Request().signed()
    for name in (b"signature-input", b"signature", b"content-digest"):
        for value in _changed(request.value(name)):
            assert rule_of(request.with_headers((name, value))) in {
                "signature-form",
                "signature-coverage",
                "signature-key",
                "signature-nonce",
                "signature-time",
                "signature-verify",
                "content-digest",
            }


@pytest.mark.parametrize("name", [b"signature", b"signature-input"])
def test_an_unsigned_request_is_told_how_to_sign(name: bytes) -> None:
    assert rule_of(Request().signed().without(name)) == "signature-missing"


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"datong",
        b"datong=1",
        b"datong=x",
        b'datong=("@method"',
        b'datong=("@method")),',
        b'datong=("@method");created=1, datong=("@method");created=1',
        b'datong=("@method");created=1;created=1',
        b'datong=("@method");created=1.5;tag="datong"',
        b'datong=("@method");created="1";tag="datong"',
        b'datong=("@method");created=?1;tag="datong"',
        b'datong=("@method");nonce=token;tag="datong"',
        b'datong=("@method");nonce=:AAAA:;tag="datong"',
        b'datong=("@method");nonce="a\\"b";tag="datong"',
        b'datong=("@method");context="x";tag="datong"',
        b'datong=("@Method");tag="datong"',
        b'datong=("X-Road-Client");tag="datong"',
        b'datong=("x road client");tag="datong"',
        b'datong=("");tag="datong"',
        b'datong=("@");tag="datong"',
        b"datong=(x-road-client)",
        b"datong=(:AAAA:)",
        b"datong=(1 2)",
        b"datong=((1))",
        b'datong=("x-road-client";sf);tag="datong"',
        b'datong=("x-road-client";key="a");tag="datong"',
        b'datong=("x-road-client";req);tag="datong"',
        b'datong=("x-road-client";tr);tag="datong"',
        b'datong=("x-road-client";bs=?0);tag="datong"',
        b'datong=("x-road-client";bs;sf);tag="datong"',
        b'datong=("@path";bs);tag="datong"',
        b'datong=("@query-param";name="a");tag="datong"',
        b'datong=();tag="other"',
        b"a=(), b=()",
        b'a=();tag="datong", b=();tag="datong"',
        b"a=(), b=(), c=(), d=(), e=()",
        b"datong=(" + b'"a" ' * 70 + b");created=1",
        b"datong=(" + b" ".join(b'"a%d"' % number for number in range(65)) + b")",
        b"datong=()" + b";x" * 2050,
        b"\xff=()",
        b"datong=()\x00",
        b"datong=()\x0b;created=1",
    ],
)
def test_what_is_no_signature_input_is_refused_before_anything_is_computed(lines: bytes) -> None:
    request = QUESTION.signed().with_headers((b"signature-input", lines))
    assert rule_of(request) in ("signature-form", "signature-coverage")


@pytest.mark.parametrize(
    "line", [b"", b"datong", b"datong=1", b'datong="x"', b"other=:AAAA:", b"datong=:AA-A:", b"datong=(:AAAA:)"]
)
def test_what_is_no_signature_is_refused(line: bytes) -> None:
    assert rule_of(QUESTION.signed().with_headers((b"signature", line))) == "signature-form"


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\xff" * 64, b"x" * 63, b"x" * 65, b"x" * 4000])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signature_of_another_form_is_refused(algorithm: str, signature: bytes) -> None:
    line = b"datong=:%b:" % base64.b64encode(signature)
    rule = rule_of(QUESTION.signed(caller(algorithm)).with_headers((b"signature", line)), caller(algorithm))
    assert rule == ("signature-form" if len(line) > 4096 else "signature-verify")


@pytest.mark.parametrize("left_out", ["@method", "@authority", "@path", "@query", "x-road-client", "x-road-issue",
                                      "x-road-userid", "datong-purpose", "content-type", "content-digest"])  # fmt: skip
def test_what_is_not_covered_is_refused_by_name(left_out: str) -> None:
    request = Request().signed()
    names = ["@method", "@authority", "@path", "@query", *COVERABLE, "content-digest"]
    kept = [name for name in names if name != left_out]
    assert request.signed_with(*kept, left_out).verified().keyid == caller().keyid
    with pytest.raises(RequestSignatureError, match=left_out) as caught:
        request.signed_with(*kept).verified()
    assert caught.value.rule == "signature-coverage"


def test_a_header_added_on_the_way_is_refused_unless_it_cannot_change_what_is_asked() -> None:
    request = QUESTION.signed()
    ours = (b"x-road-issue", b"datong-channel", b"x-road-represented-party", b"x-road-anything")
    for name in (*ours, b"x-http-method-override", b"if-match", b"content-type", b"cookie", b"x-anything"):
        assert rule_of(request.with_headers((name, b"x"))) == "signature-coverage"
    request.with_headers((b"forwarded", b"for=192.0.2.1"), (b"x-request-id", b"1"), (b"accept", b"*/*")).verified()


def test_the_person_asked_about_is_not_signed_since_signatures_are_kept() -> None:
    """Datong-Subject is kept as a keyed hash only; a base would hold it as it was sent."""
    request = QUESTION.with_headers((b"datong-subject", b"91990000000000000X"))
    assert b"subject" not in request.signed().verified().base
    assert rule_of(request.signed_with(*MINIMUM, "datong-subject")) == "signature-coverage"


def test_a_query_added_to_a_signed_request_is_refused() -> None:
    assert rule_of(replace(QUESTION.signed(), query=b"all=true")) == "signature-coverage"
    covering = QUESTION.signed_with(*MINIMUM, "@query")
    assert b'"@query": ?\n' in covering.verified().base
    assert rule_of(replace(covering, query=b"all=true")) == "signature-verify"


def test_a_body_put_under_a_signed_request_without_one_is_refused() -> None:
    assert rule_of(replace(QUESTION.signed(), body=b"{}")) == "signature-coverage"


def test_a_digest_that_does_not_match_is_refused_even_if_it_was_signed() -> None:
    request = Request().with_headers((b"content-digest", b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"))
    signed = request.signed_with("@method", "@authority", "@path", "@query", *COVERABLE, "content-digest")
    signed.verified()
    assert rule_of(replace(signed, body=b'{"hello": "w0rld"}')) == "content-digest"
    assert rule_of(replace(signed, body=b"")) == "content-digest"


@pytest.mark.parametrize("name", [b"x-road-client", b"datong-purpose", b"content-digest", b"content-type"])
def test_a_covered_header_that_came_twice_is_refused(name: bytes) -> None:
    """The gateway would take the last, another reader the first."""
    request = Request().signed()
    twice = replace(request, headers=(*request.headers, (name, request.value(name))))
    assert rule_of(twice) == "signature-coverage"


@pytest.mark.parametrize("components", [("x-road-client",), ("@path",), ("x-road-client;bs",)])
def test_a_component_covered_twice_is_refused(components: tuple[str, ...]) -> None:
    assert rule_of(QUESTION.signed_with(*MINIMUM, *components)) == "signature-coverage"


def test_two_hosts_are_no_authority() -> None:
    request = QUESTION.signed()
    assert rule_of(replace(request, headers=(*request.headers, (b"host", b"gateway.example")))) == "signature-coverage"
    assert rule_of(request.without(b"host")) == "signature-coverage"


def test_a_covered_header_that_is_not_there_is_refused() -> None:
    request = QUESTION.with_headers((b"date", b"now")).signed_with(*MINIMUM, "date")
    request.verified()
    assert rule_of(request.without(b"date")) == "signature-coverage"
    assert rule_of(QUESTION.signed().without(b"x-road-client")) == "signature-coverage"


@pytest.mark.parametrize("value", [b"a\x01b", b"a\x7fb", b"a\nb", b"a\xe4b"])
def test_a_value_that_cannot_stand_in_a_base_is_refused_without_bs(value: bytes) -> None:
    request = QUESTION.signed().with_headers((b"datong-purpose", b"x")).signed_with(*MINIMUM, "datong-purpose")
    assert rule_of(request.with_headers((b"datong-purpose", value))) == "signature-coverage"


def test_white_space_around_a_value_is_not_part_of_it() -> None:
    request = QUESTION.with_headers((b"datong-purpose", b"housing")).signed()
    request.with_headers((b"datong-purpose", b" \thousing ")).verified()
    assert rule_of(request.with_headers((b"datong-purpose", b"hou sing"))) == "signature-verify"


@pytest.mark.parametrize(("created", "accepted"), [(-61, False), (-60, True), (0, True), (60, True), (61, False)])
def test_a_signature_counts_for_a_minute_either_way(created: int, accepted: bool) -> None:
    request = QUESTION.signed(created=NOW + created)
    if accepted:
        assert request.verified().created == NOW + created
    else:
        assert rule_of(request) == "signature-time"


def test_time_passes_between_signing_and_arrival() -> None:
    request = QUESTION.signed()
    request.verified(now=NOW + 60.0)
    assert rule_of(request, now=NOW + 60.5) == "signature-time"
    assert rule_of(request, now=NOW - 60.5) == "signature-time"


@pytest.mark.parametrize(
    ("expires", "rule"), [(NOW + 10, ""), (NOW, ""), (NOW - 1, "signature-time"), (0, "signature-time")]
)
def test_an_expiry_is_honoured(expires: int, rule: str) -> None:
    request = QUESTION.signed_with(*MINIMUM, created=NOW - 5, expires=expires)
    assert not rule or rule_of(request) == rule
    if not rule:
        request.verified()


def test_a_signature_without_time_is_refused() -> None:
    assert rule_of(QUESTION.signed_with(*MINIMUM, created=None)) == "signature-time"


@pytest.mark.parametrize(
    ("nonce", "accepted"),
    [
        ("0" * 15, False),
        ("0" * 16, True),
        ("~" * 64, True),
        ("0" * 65, False),
        ("", False),
        ("0123456789 abcdef", False),
        (None, False),
    ],
)
def test_a_nonce_has_16_to_64_visible_characters(nonce: str | None, accepted: bool) -> None:
    request = QUESTION.signed_with(*MINIMUM, nonce=nonce)
    if accepted:
        assert request.verified().nonce == nonce
    else:
        assert rule_of(request) == "signature-nonce"


def test_every_signature_has_a_nonce_of_its_own() -> None:
    assert len({QUESTION.signed().verified().nonce for _ in range(50)}) == 50
    assert nonce_used().rule == "signature-nonce"


def test_the_key_is_that_of_the_connection() -> None:
    other = caller(number=1)
    assert rule_of(QUESTION.signed(other)) == "signature-key"
    assert rule_of(QUESTION.signed_with(*MINIMUM, by=other, keyid=caller().keyid)) == "signature-verify"
    assert rule_of(QUESTION.signed_with(*MINIMUM, keyid=None)) == "signature-key"
    assert rule_of(QUESTION.signed_with(*MINIMUM, keyid=caller().keyid.upper())) == "signature-key"


@pytest.mark.parametrize("alg", ["ed25519", "rsa-v1_5-sha256", "hmac-sha256", "ecdsa-p384-sha384", "none", ""])
def test_an_algorithm_that_is_not_the_key_s_is_refused(alg: str) -> None:
    assert rule_of(QUESTION.signed_with(*MINIMUM, alg=alg)) == "signature-key"


def test_alg_may_be_left_out() -> None:
    assert QUESTION.signed_with(*MINIMUM).verified().alg == "ecdsa-p256-sha256"


def test_a_certificate_whose_key_has_no_algorithm_cannot_sign() -> None:
    key = make_key("p521")
    certificate = self_signed(key)
    with pytest.raises(RequestSignatureError) as caught:
        CallerKey.of(Caller(key, certificate).der)
    assert caught.value.rule == "signature-key"
    with pytest.raises(UnsuitableKeyError):
        sign_request(key, "0" * 64, **QUESTION.arguments, created=NOW)
    with pytest.raises(RequestSignatureError):
        CallerKey.of(b"no certificate")


def test_other_signatures_may_stand_beside_ours() -> None:
    """A proxy's, or one for somebody else; ours is told apart by its tag, whatever its label."""
    request = QUESTION.signed_with(*MINIMUM, label="sig1")
    both = request.with_headers(
        (b"signature-input", request.value(b"signature-input") + b', proxy=("@method");created=1;tag="proxy"'),
        (b"signature", b"proxy=:AAAA:, " + request.value(b"signature")),
    )
    assert both.verified().label == "sig1"
    split = replace(
        request,
        headers=(
            *request.headers,
            (b"signature-input", b'proxy=("@method";req);created=1'),
            (b"signature", b"proxy=:AAAA:"),
        ),
    )
    assert split.verified().label == "sig1"
    moved = request.with_headers((b"signature", request.value(b"signature").replace(b"sig1", b"sig2")))
    assert rule_of(moved) == "signature-form"


def test_a_signature_without_a_tag_counts_if_it_is_the_only_one() -> None:
    request = QUESTION.signed_with(*MINIMUM, tag=None)
    request.verified()
    beside = request.with_headers((b"signature-input", request.value(b"signature-input") + b", b=()"))
    assert rule_of(beside) == "signature-form"
    assert rule_of(QUESTION.signed_with(*MINIMUM, tag="web-bot-auth")) == "signature-form"


def test_host_is_compared_as_a_host() -> None:
    """RFC 9421 section 2.2.3: lower case, the default port unsaid."""
    request = QUESTION.with_headers((b"host", b"Gateway.Example:443"))
    assert bound_by(request.signed().verified().base).authority == "gateway.example"
    request.signed().with_headers((b"host", b"gateway.example")).verified()
    assert rule_of(request.signed().with_headers((b"host", b"gateway.example:8443"))) == "signature-verify"


def test_other_components_of_the_request_may_be_covered_too() -> None:
    request = replace(QUESTION, query=b"a=1").signed_with(
        *MINIMUM, "@query", "@target-uri", "@scheme", "@request-target"
    )
    base = request.verified().base
    assert b'"@target-uri": https://gateway.example' + QUESTION.path + b"?a=1\n" in base
    assert b'"@request-target": ' + QUESTION.path + b"?a=1\n" in base
    assert b'"@scheme": https\n' in base


def test_the_base_the_gateway_saw_is_told_to_whoever_signed_another() -> None:
    """The usual mistake of a first integration is one character; this shows which."""
    with pytest.raises(RequestSignatureError) as caught:
        replace(QUESTION.signed(), path=b"/r1/other").verified()
    assert '"@path": /r1/other' in caught.value.next_in("en")
    assert "/r1/other" not in str(caught.value)  # the detail goes to logs


class TestSigner:
    def test_httpx_sends_what_verifies(self) -> None:
        by = caller()
        signer = Signer(by.key, by.certificate, clock=lambda: NOW + 0.9)
        with request_recorder() as recorder, httpx.Client(auth=signer, trust_env=False) as client:
            client.get(f"{recorder.url}/r1/CN/GOV/a/b/c", headers={"X-Road-Client": "CN/GOV/a/b"})
            client.post(
                f"{recorder.url}/r1/CN/GOV/a/b/c/税?年=2026",
                headers=[(b"X-Road-Client", b"CN/GOV/a/b"), (b"Datong-Purpose", "公租房".encode())],
                json={"a": 1},
            )
        bound = [bound_by(request.verified().base) for request in recorder.requests]
        assert [each.path for each in bound] == ["/r1/CN/GOV/a/b/c", "/r1/CN/GOV/a/b/c/%E7%A8%8E"]
        assert [each.purpose for each in bound] == ["", "公租房"]

    def test_a_key_that_is_not_the_certificate_s_is_noticed_at_once(self) -> None:
        with pytest.raises(ValueError, match="not the certificate's"):
            Signer(caller(number=1).key, caller().certificate)

    def test_a_request_without_client_cannot_be_signed(self) -> None:
        with pytest.raises(SignatureBaseError, match="x-road-client"):
            QUESTION.without(b"x-road-client").signed()
