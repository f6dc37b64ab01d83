"""Content-Digest (RFC 9530), with the RFC's own values."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import InvalidRequestError
from exchange.messages.digest_fields import check_content_digest, content_digest_field

BODY = b'{"hello": "world"}'
SHA_256 = b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
SHA_512 = b"sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
"""RFC 9421 appendix B.2 prints this one, drafts of RFC 9530 the other."""


def refused(*lines: bytes, body: bytes = BODY) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        check_content_digest(lines, body)
    assert (caught.value.status, caught.value.rule) == (400, "content-digest")
    assert caught.value.detail_in("zh") != caught.value.detail_in("en")
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (SHA_256, BODY),
        (SHA_512, BODY),
        # RFC 9530 appendices B.1, B.2 and B.3: a line feed ends the content; no content; part of it.
        (b"sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:", BODY + b"\n"),
        (b"sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", b""),
        (b"sha-256=:jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ=:", b'"world"}\n'),
    ],
)
def test_the_digests_of_the_rfcs_match(line: bytes, body: bytes) -> None:
    check_content_digest([line], body)
    refused(line, body=body + b" ")


def test_a_digest_we_send_is_the_one_we_accept() -> None:
    assert content_digest_field(BODY).encode() == SHA_256
    both = content_digest_field(BODY, ("sha-256", "sha-512"))
    assert both.encode() == SHA_256 + b", " + SHA_512
    check_content_digest([both.encode()], BODY)
    with pytest.raises(KeyError):
        content_digest_field(BODY, ("md5",))


def test_several_digests_may_come_in_one_line_or_in_several() -> None:
    check_content_digest([SHA_256 + b", " + SHA_512], BODY)
    check_content_digest([SHA_256 + b"\t,  " + SHA_512], BODY)
    check_content_digest([SHA_512, SHA_256], BODY)


def test_every_known_digest_must_match() -> None:
    wrong = content_digest_field(b"other").encode()
    assert "sha-256" in refused(wrong + b", " + SHA_512)
    assert "sha-512" in refused(SHA_256, content_digest_field(b"other", ("sha-512",)).encode())


def test_unknown_digests_are_ignored_beside_a_known_one_and_refused_alone() -> None:
    check_content_digest([b"md5=:AAAA:, unixsum=:AAAA:, " + SHA_256 + b", sha3-256=:AAAA:"], BODY)
    assert "neither" in refused(b"md5=:XrY7u+Ae7tCTyyK7j1rNww==:, sha=:AAAA:")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"sha-256",
        b"sha-256=",
        b"sha-256=1",
        b'sha-256="X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="',
        b"sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=",
        b"SHA-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
        b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBP:",
        b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:,",
        b"sha-256=:X48E9qOokqqrvdts8nOJRJN3 OWDUoyWxBf7kbu9DBPE=:",
        b"sha-256=(:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:)",
        b"sha-256=::",
        SHA_256 + b", " + SHA_256,
        SHA_256 + b", md5=1",
        b"sha-256=:5f8f04f6a3a892aaabbddb6cf273894493773960d4a325b105fee46eef4304f1:",
        SHA_256 + b"x",
        b"\xff" + SHA_256,
        SHA_256 + b", x=:" + b"A" * 1000 + b":",
    ],
)
def test_what_is_no_digest_of_this_body_is_refused(line: bytes) -> None:
    refused(line)


@given(st.binary(max_size=400) | st.text(alphabet="sha-256=:, ();?AB\t1", max_size=60).map(str.encode))
def test_whatever_the_field_holds_is_refused_and_never_a_crash(line: bytes) -> None:
    refused(line)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_digest_stands_for_one_body(one: bytes, other: bytes) -> None:
    line = content_digest_field(one, ("sha-256", "sha-512")).encode()
    check_content_digest([line], one)
    if hashlib.sha256(one).digest() != hashlib.sha256(other).digest():
        refused(line, body=other)
