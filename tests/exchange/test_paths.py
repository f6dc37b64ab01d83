"""One path for the decision and for the department, and no second reading of it anywhere behind us."""

from __future__ import annotations

import posixpath
from urllib.parse import quote, unquote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchange import InvalidRequestError
from exchange.messages.paths import check_query, parse_path

SERVICE = "CN/GOV/11990000000000000X/tax/enterprises"
PREFIX = f"/r1/{SERVICE}".encode()

UNRESERVED = "ABCXYZabcxyz0189-._~"
SUB_DELIMITERS = "!$&'()*+,;=:@"


def rule_of(raw_path: bytes) -> str:
    with pytest.raises(InvalidRequestError) as refusal:
        parse_path(raw_path)
    return refusal.value.rule


@pytest.mark.parametrize(
    ("rest", "segments", "path"),
    [
        pytest.param(b"", (), b"", id="nothing"),
        pytest.param(b"/", ("",), b"/", id="a-slash"),
        pytest.param(b"/a", ("a",), b"/a", id="one-segment"),
        pytest.param(b"/a/b/c", ("a", "b", "c"), b"/a/b/c", id="several"),
        pytest.param(b"/a/", ("a", ""), b"/a/", id="trailing-slash"),
        pytest.param(b"/%61%62", ("ab",), b"/ab", id="needless-escapes-go"),
        pytest.param(b"/%e4%ba%ac", ("京",), b"/%E4%BA%AC", id="escapes-in-capitals"),
        pytest.param(b"/a%20b", ("a b",), b"/a%20b", id="space"),
        pytest.param(b"/a+b", ("a+b",), b"/a+b", id="plus-is-a-plus"),
        pytest.param(b"/a%3Fb%23c", ("a?b#c",), b"/a%3Fb%23c", id="question-mark-and-hash-stay-escaped"),
        pytest.param(b"/100%25", ("100%",), b"/100%25", id="percent"),
        pytest.param(b"/%252e%252e", ("%2e%2e",), b"/%252e%252e", id="double-encoding-is-decoded-once"),
        pytest.param(b"/%252F", ("%2F",), b"/%252F", id="double-encoded-slash-stays-literal"),
        pytest.param(b"/...", ("...",), b"/...", id="three-dots-are-a-name"),
        pytest.param(b"/.well-known/x", (".well-known", "x"), b"/.well-known/x", id="hidden-file"),
        pytest.param(b"/a..b", ("a..b",), b"/a..b", id="dots-inside"),
        pytest.param(b"/a;v=1", ("a;v=1",), b"/a;v=1", id="matrix-parameter"),
        pytest.param(b"/*/>", None, None, id="greater-than-must-be-escaped"),
        pytest.param(b"/*/%3E", ("*", ">"), b"/*/%3E", id="nats-wildcards-are-plain-characters-here"),
        pytest.param(b"/" + b"x" * 5000, ("x" * 5000,), b"/" + b"x" * 5000, id="five-kilobytes"),
    ],
)
def test_a_path_is_decoded_and_normalised_once(
    rest: bytes, segments: tuple[str, ...] | None, path: bytes | None
) -> None:
    if segments is None:
        assert rule_of(PREFIX + rest) == "path-encoding"
        return
    assert parse_path(PREFIX + rest) == (SERVICE, segments, path)


DOT_SEGMENTS = [
    ".", "..", "%2e", "%2E", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "..;", "..;x=1", ".;x", "%2e%2e;x", "..%3b", "..%3Bx",
]  # fmt: skip
CHARACTERS = [
    "a%2fb", "a%2Fb", "..%2f", "..%2F..", "%2f", "%2e%2e%2f", "a%5cb", "a%5Cb", "..%5c", "%00", "a%00b", "..%00", "%0a",
    "%0d%0a", "%1f", "%7f", "%09",
]  # fmt: skip
ENCODINGS = [
    "%", "a%", "%2", "%zz", "%2 e", "%u002e", "%c0%ae", "%c0%ae%c0%ae", "%e0%80%ae", "%c0%af", "%f0%80%80%af", "%ff",
    "%fe", "%ed%a0%80", "%f4%90%80%80", "%80", "%e4%ba", "\\", "..\\", "a|b", "a^b", "a b", "a<b", 'a"b', "{a}", "[a]",
]  # fmt: skip


@pytest.mark.parametrize(
    ("segment", "rule"),
    [(segment, "path-dot-segment") for segment in DOT_SEGMENTS]
    + [(segment, "path-character") for segment in CHARACTERS]
    + [(segment, "path-encoding") for segment in ENCODINGS],
)
@pytest.mark.parametrize("around", ["/{}", "/a/{}", "/{}/a", "/a/{}/b", "/a/{}/"])
def test_what_somebody_could_read_as_another_path_is_refused(segment: str, rule: str, around: str) -> None:
    assert rule_of(PREFIX + around.format(segment).encode()) == rule


@pytest.mark.parametrize("rest", [b"//", b"//a", b"/a//b", b"/a//", b"///"])
def test_an_empty_segment_is_refused_unless_it_is_the_last(rest: bytes) -> None:
    assert rule_of(PREFIX + rest) == "path-empty-segment"


@pytest.mark.parametrize("raw_path", [b"/r1/", b"/r1/CN", b"/r1/CN/GOV/1/tax", b"/r1/CN/GOV/11990000000000000X/tax"])
def test_all_five_parts_are_needed(raw_path: bytes) -> None:
    assert rule_of(raw_path) == "path-form"


@pytest.mark.parametrize(
    "service",
    [
        pytest.param("CN/GOV/1//enterprises", id="empty-part"),
        pytest.param("CN/GOV/1/tax/", id="empty-service"),
        pytest.param("CN/GOV/1/tax/..", id="dot-segment"),
        pytest.param("CN/GOV/1/tax/%2e%2e", id="encoded-dot-segment"),
        pytest.param("CN/GOV/../tax/enterprises", id="dot-segment-inside"),
        pytest.param("CN/GOV/1/tax/a%2Fb", id="encoded-slash"),
        pytest.param("CN/GOV/1%2Ftax/enterprises/x", id="parts-joined-by-an-encoded-slash"),
        pytest.param("CN/GOV/1/tax/*", id="star"),
        pytest.param("CN/GOV/1/tax/%3E", id="greater-than"),
        pytest.param("CN/GOV/1/*/>", id="nats-wildcards"),
        pytest.param("CN/GOV/1/tax/a b", id="space"),
        pytest.param("CN/GOV/1/tax/a%20b", id="encoded-space"),
        pytest.param("CN/GOV/1/tax/a%0Ab", id="line-feed"),
        pytest.param("CN/GOV/1/tax/a%0A", id="line-feed-at-the-end"),
        pytest.param("CN/GOV/1/tax/%E7%A8%8E", id="another-script"),
        pytest.param("CN/GOV/1/tax/%E7", id="not-utf-8"),
        pytest.param("CN/GOV/1/tax/%", id="broken-escape"),
        pytest.param("CN/GOV/1/tax/%4", id="half-an-escape"),
        pytest.param("CN/GOV/1/tax/%uff0e", id="another-escape"),
        pytest.param("CN/GOV/1/tax/$SYS", id="dollar"),
        pytest.param("CN/GOV/1/tax/" + "x" * 65, id="too-long"),
        pytest.param("CN/GOV/1/tax/" + "x" * 5000, id="five-kilobytes"),
        pytest.param("CN/GOV/" + "x" * 5000 + "/tax/enterprises", id="five-kilobytes-of-member"),
    ],
)
def test_what_is_no_identifier_is_refused(service: str) -> None:
    assert rule_of(f"/r1/{service}".encode()) == "path-identifier"
    assert rule_of(f"/r1/{service}/more".encode()) in ("path-identifier", "path-form")


def test_a_non_ascii_byte_in_an_identifier_is_refused() -> None:
    assert rule_of(b"/r1/CN/GOV/1/tax/\xe7\xa8\x8e") == "path-identifier"


def test_identifiers_may_be_percent_encoded_part_by_part() -> None:
    service, segments, path = parse_path(b"/r1/%43N/GOV/1/it%27s(1+1)=2%3F/v1.2/rest")
    assert (service, segments, path) == ("CN/GOV/1/it's(1+1)=2?/v1.2", ("rest",), b"/rest")


def some_segments(characters: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(characters, max_size=6)


SPELLINGS = st.lists(
    st.one_of(
        st.sampled_from(UNRESERVED + SUB_DELIMITERS + "/%"),
        st.integers(0, 255).map(lambda byte: f"%{byte:02x}"),
        st.sampled_from(["%2e", "%2F", "..", ".", "/../", "%25", "%252e", "%c0%ae", "%5c", ";", "京", " ", "\\", "\n"]),
        st.text(max_size=3),
    ),
    max_size=20,
).map("".join)


@given(SPELLINGS)
@example("/%2e%2e/%2e%2e/etc/passwd")
@example("/a;/../b")
def test_any_bytes_are_refused_or_read_one_way_only(rest: str) -> None:
    """Whatever comes, a path that passes means the same to a decoder, to a normaliser and to us at a second reading."""
    try:
        service, segments, path = parse_path(PREFIX + b"/" + rest.encode())
    except InvalidRequestError:
        return
    assert service == SERVICE
    assert path.isascii()
    decoded = unquote_to_bytes(path).decode("utf-8")
    assert decoded == "/" + "/".join(segments), "decoding what is forwarded gives what was matched"
    assert decoded == "/" + unquote(rest, errors="strict"), "and what the caller wrote, decoded once"
    assert posixpath.normpath(decoded).rstrip("/") == decoded.rstrip("/"), "there is nothing left to normalise"
    assert parse_path(PREFIX + path) == (service, segments, path), "it is read the same again"


@given(some_segments(st.text(st.characters(exclude_characters="/\\", exclude_categories=("Cs", "Cc")), min_size=1)))
def test_every_honest_path_arrives_as_it_was_meant(segments: list[str]) -> None:
    if any(segment.partition(";")[0] in (".", "..") for segment in segments):
        return
    raw = "".join("/" + quote(segment, safe="") for segment in segments)
    service, parsed, path = parse_path(PREFIX + raw.encode())
    assert (service, parsed) == (SERVICE, tuple(segments))
    assert unquote(path.decode()) == "".join("/" + segment for segment in segments)


@pytest.mark.parametrize(
    "query",
    [
        b"a=1&b=2", b"a=%E4%BA%AC", b"a=%2e%2e%2f", b"a", b"a==", b"a=%", b"a=100%&b", b"a[]=1", b"q={x}|y", b"/../?",
        b"x=" + b"y" * 5000, b"redirect=https://example.org/?a=b", b"a=^`\\~",
    ],
)  # fmt: skip
def test_a_query_string_passes_as_it_is(query: bytes) -> None:
    check_query(query)


@pytest.mark.parametrize("query", [b"a=\xe4", b"a b", b"a=1\r\nX: y", b"a=\x00", b"a#b", b'a="b"', b"a=<b>", b"a=1\n"])
def test_a_query_string_that_is_none_is_refused(query: bytes) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        check_query(query)
    assert refusal.value.rule == "query-form"
