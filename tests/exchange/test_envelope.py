"""Statements and messages of the bus: one form, one reading, and nothing else is read."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from exchange import (
    AnswerHead,
    AnswerStatement,
    EnvelopeError,
    Headers,
    PartHead,
    QueryHead,
    QueryStatement,
    content_digest,
    header_block,
    pack,
    read_answer_statement,
    read_query_statement,
    read_record,
    request_digest,
    statement_bytes,
    unpack,
)
from exchange.messages.envelope import MAX_STATEMENT, check_headers

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
"""All of Unicode but lone surrogates, which no UTF-8 can hold."""
COUNT = st.integers(0, 2**53 - 1)
KIND: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    bool: st.booleans(),
    str | UnsetType: TEXT | st.just(UNSET),
    tuple[str, ...] | UnsetType: st.lists(TEXT, max_size=3).map(tuple) | st.just(UNSET),
}


def statements(kind: type[Any]) -> st.SearchStrategy[Any]:
    fields = msgspec.structs.fields(kind)
    return st.builds(kind, **{each.name: KIND.get(each.type, COUNT) for each in fields})


def filled(kind: type[Any], text: str, number: int) -> Any:
    """A statement with something in every field."""
    values: dict[Any, object] = {
        str: text,
        bool: True,
        str | UnsetType: text,
        tuple[str, ...] | UnsetType: (text, text),
    }
    return kind(**{each.name: values.get(each.type, number) for each in msgspec.structs.fields(kind)})


QUERY: QueryStatement = filled(QueryStatement, "证", 7)
ANSWER: AnswerStatement = filled(AnswerStatement, "答", 200)
READERS: dict[str, tuple[Any, Callable[[bytes], Any]]] = {
    "query": (QUERY, read_query_statement),
    "answer": (ANSWER, read_answer_statement),
}


@given(statement=statements(QueryStatement) | statements(AnswerStatement))
def test_a_statement_is_written_as_rfc_8785_says(
    statement: QueryStatement | AnswerStatement,
) -> None:
    written = statement_bytes(statement)
    assert written == rfc8785.dumps(msgspec.to_builtins(statement))
    read = read_query_statement if isinstance(statement, QueryStatement) else read_answer_statement
    assert read(written) == statement


@pytest.mark.parametrize("text", ["\u0000\u001f\b\t\n\f\r\u007f", '"\\/', "\u2028\u2029", "😀𠀀", "\ufeff\uffff", "é"])
def test_characters_with_a_history_of_trouble_are_written_as_rfc_8785_says(text: str) -> None:
    statement = msgspec.structs.replace(QUERY, case=text)
    assert statement_bytes(statement) == rfc8785.dumps(msgspec.to_builtins(statement))


def change(statement: QueryStatement | AnswerStatement, **values: object) -> bytes:
    return json.dumps(
        msgspec.to_builtins(statement) | values, ensure_ascii=False, separators=(",", ":"), sort_keys=True
    ).encode()


def test_statements_of_what_is_not_restricted_are_as_they_always_were() -> None:
    """Records that were sealed before there were release terms stay what they are, byte for byte."""
    for statement, read in READERS.values():
        fields = msgspec.structs.fields(type(statement))
        plain = msgspec.structs.replace(statement, **{each.name: UNSET for each in fields if not each.required})
        data = statement_bytes(plain)
        assert not {"release", "withheld", "masked"} & json.loads(data).keys()
        assert read(data) == plain


def test_the_helper_of_these_tests_writes_the_canonical_form() -> None:
    assert change(QUERY) == statement_bytes(QUERY)


@pytest.mark.parametrize("which", READERS)
def test_only_the_canonical_bytes_are_read(which: str) -> None:
    statement, read = READERS[which]
    data = statement_bytes(statement)
    members = list(msgspec.to_builtins(statement).items())
    first, value = members[0]
    hostile = {
        "white space": data.replace(b",", b", ", 1),
        "white space behind": data + b"\n",
        "another order": json.dumps(dict(reversed(members)), ensure_ascii=False, separators=(",", ":")).encode(),
        "another escape": data.replace("证".encode(), b"\\u8bc1").replace("答".encode(), b"\\u7b54"),
        "the same key twice": data.replace(b"{", b"{" + json.dumps(first).encode() + b':"other",', 1),
        "the same key twice with the same value": data.replace(
            b"{", f'{{"{first}":{json.dumps(value, ensure_ascii=False)},'.encode(), 1
        ),
        "an unknown key": change(statement, zzz="more"),
        "a missing key": json.dumps(dict(members[1:]), ensure_ascii=False, separators=(",", ":")).encode(),
        "a number for a text": change(statement, id=7),
        "a text for a number": change(statement, request_size="7", body_size="7"),
        "a fraction": data.replace(b":7,", b":7.0,").replace(b":200,", b":200.0,"),
        "an exponent": data.replace(b":7,", b":7e0,").replace(b":200,", b":2e2,"),
        "a list of others": data.replace(b'["', b'[7,"'),
        "a text for a list": change(statement, release="x", withheld="x"),
        "white space in a list": data.replace(b'","', b'", "'),
        "a negative count": change(statement, **{"request_size" if which == "query" else "status": -1}),
        "a number beyond 2^53": change(statement, **{"request_size" if which == "query" else "status": 2**53}),
        "a number beyond 2^64": change(statement, **{"request_size" if which == "query" else "status": 2**70}),
        "not an object": b"[]",
        "nothing": b"",
        "not UTF-8": data.replace("证".encode(), b"\xff\xfe").replace("答".encode(), b"\xff\xfe"),
        "a lone surrogate": data.replace("证".encode(), b"\\ud800").replace("答".encode(), b"\\ud800"),
        "a byte order mark": b"\xef\xbb\xbf" + data,
        "nesting without end": b'{"zz":' + b"[" * 8000 + b"]" * 8000 + b"}",
        "more bytes than any statement has": change(statement, id="x" * MAX_STATEMENT),
        "the other kind": statement_bytes(ANSWER if which == "query" else QUERY),
    }
    for how, changed in hostile.items():
        assert changed != data, how
        try:
            read(changed)
        except EnvelopeError:
            continue
        pytest.fail(f"read with {how}")
    assert read(data) == statement


HEADERS: st.SearchStrategy[Headers] = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=5)
HEADS = st.one_of(
    st.builds(
        QueryHead,
        *[st.binary(max_size=50) for _ in range(4)],
        HEADERS,
        st.integers(-(2**63), 2**64 - 1),
        st.integers(0, 99),
        st.binary(max_size=50),
        st.binary(max_size=50),
    ),
    st.builds(AnswerHead, st.binary(max_size=50), st.binary(max_size=50), HEADERS, st.integers(-9, 99), TEXT),
    st.builds(PartHead, TEXT, st.integers(-9, 99), st.booleans()),
)


def _unpack(kind: type[Any], message: bytes) -> tuple[Any, bytes]:
    return unpack(kind, message)


@given(head=HEADS, body=st.binary(max_size=200))
def test_what_is_packed_is_unpacked(head: QueryHead | AnswerHead | PartHead, body: bytes) -> None:
    assert _unpack(type(head), pack(head, body)) == (head, body)


@given(head=HEADS, body=st.binary(max_size=20), data=st.data())
def test_a_message_cut_anywhere_in_its_head_is_refused(
    head: QueryHead | AnswerHead | PartHead, body: bytes, data: st.DataObject
) -> None:
    message = pack(head, body)
    cut = data.draw(st.integers(0, len(message) - len(body) - 1))
    with pytest.raises(EnvelopeError):
        _unpack(type(head), message[:cut])


@given(kind=st.sampled_from([QueryHead, AnswerHead, PartHead]), message=st.binary(max_size=300))
def test_any_bytes_are_a_message_or_an_envelope_error(kind: type[Any], message: bytes) -> None:
    with suppress(EnvelopeError):
        unpack(kind, message)
    framed = struct.pack(">I", len(message)) + message
    with suppress(EnvelopeError):
        unpack(kind, framed)


@given(head=HEADS, data=st.data())
def test_a_message_with_one_byte_changed_is_a_message_or_an_envelope_error(
    head: QueryHead | AnswerHead | PartHead, data: st.DataObject
) -> None:
    message = bytearray(pack(head, b"body"))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with suppress(EnvelopeError):
        _unpack(type(head), bytes(message))


@pytest.mark.parametrize(
    "head",
    [
        b"\x91" * 100_000 + b"\x01",  # an array in an array in an array ...
        b"\x94\xa1x\x01\xc3" + b"\x91" * 100_000 + b"\x01",  # a fourth field, which is skipped
        b"\x93\xa2\xff\xfe\x01\xc3",  # text that is not UTF-8
        b"\xdd\xff\xff\xff\xff",  # an array of four thousand million
        b"\xc6\xff\xff\xff\xff",  # so many bytes
        b"",
    ],
)
def test_a_hostile_head_is_an_envelope_error(head: bytes) -> None:
    with pytest.raises(EnvelopeError):
        unpack(PartHead, struct.pack(">I", len(head)) + head)


def test_a_head_of_another_kind_is_refused() -> None:
    with pytest.raises(EnvelopeError):
        unpack(QueryHead, pack(PartHead("id", 0, True)))


def test_the_header_block_is_that_of_the_request_hash() -> None:
    assert header_block([(b"accept", b"*/*"), (b"x-empty", b"")]) == b"accept:*/*\r\nx-empty:\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"1\r\nset-cookie: a=b")],
        [(b"x", b"1\nset-cookie: a=b")],
        [(b"x", b"1\r")],
        [(b"x", b"\0")],
        [(b"x\r\ny", b"1")],
        [(b"x:y", b"1")],
        [(b"x y", b"1")],
        [(b"x ", b"1")],
        [(b"", b"1")],
        [(b"a", b"1"), (b"", b"1")],
        [(b"Content-Length", b"5")],
        [("名".encode(), b"1")],
    ],
)
def test_headers_that_would_be_read_as_others_are_refused(headers: Headers) -> None:
    with pytest.raises(EnvelopeError):
        check_headers(headers, header_block(headers))


@pytest.mark.parametrize(
    "headers",
    [[], [(b"x-name", "姓名 \t é".encode())], [(b"a", b""), (b"a", b":\x01")], [(b"!#$%&'*+-.^_`|~9z", b"\xff")]],
)
def test_other_headers_pass(headers: Headers) -> None:
    check_headers(headers, header_block(headers))


def test_every_part_of_a_request_is_under_its_digest() -> None:
    salt, headers = bytes(16), [(b"a", b"b")]
    digests = {
        request_digest(salt, "GET", b"/x", headers, b""),
        request_digest(bytes(15) + b"\1", "GET", b"/x", headers, b""),
        request_digest(salt, "PUT", b"/x", headers, b""),
        request_digest(salt, "GET", b"/y", headers, b""),
        request_digest(salt, "GET", b"/x", [(b"a", b"c")], b""),
        request_digest(salt, "GET", b"/x", [], b""),
        request_digest(salt, "GET", b"/x", [(b"a", b"b"), (b"a", b"b")], b""),
        request_digest(salt, "GET", b"/x", headers, b"body"),
    }
    assert len(digests) == 8
    assert content_digest(b"salt", b"text") != content_digest(b"salt", b"texts")
    assert content_digest(b"salt", b"text") == content_digest(b"", b"salttext")  # plain SHA-256 of one after the other


@pytest.mark.parametrize("data", [b"", b"{}", b'{"v":1}', b'{"zz":' + b"[" * 50_000, b'{"id":"\xff"}', b"\xff", b"[1]"])
def test_what_is_no_record_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a record"):
        read_record(data)
