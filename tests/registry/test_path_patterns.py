"""Path patterns: our templates, X-Road's globs, and that no input makes matching expensive or wrong."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.patterns import compile_pattern, path_of


def matches(pattern: str, path: str) -> bool:
    """As the gateway would ask: the decoded segments of `path`, which begins with a slash."""
    assert path.startswith("/")
    segments = tuple(path[1:].split("/")) if path != "/" else ()
    spelled = path_of(segments)
    return spelled is not None and compile_pattern(pattern).matches(segments, spelled)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        # Templates.
        ("/", "/", True),
        ("/", "/a", False),
        ("/enterprises/{uscc}", "/enterprises/9111", True),
        ("/enterprises/{uscc}", "/enterprises/", False),
        ("/enterprises/{uscc}", "/enterprises", False),
        ("/enterprises/{uscc}", "/enterprises/9111/arrears", False),
        ("/enterprises/{uscc}", "/Enterprises/9111", False),
        ("/enterprises/{uscc}/", "/enterprises/9111/", True),
        ("/a/{x}/{y}", "/a/1/2", True),
        ("/files/{id}.pdf", "/files/7.pdf", True),
        ("/files/{id}.pdf", "/files/.pdf", False),
        ("/files/{id}.pdf", "/files/a/b.pdf", False),
        ("/a/**", "/a", False),
        ("/a/**", "/a/", True),
        ("/a/**", "/ab/c", False),
        ("/a/{b}/**", "/a/1/2/3", True),
        ("/a/{b}/**", "/a//x", False),
        ("/**", "/", True),
        ("/***", "/", True),
        ("/居民/{number}", "/居民/张三", True),
        (r"/\{name}", "/{name}", True),
        (r"/\{name}", "/other", False),
        # X-Road's globs; its cases without a leading slash are restated with one, as its paths have it.
        ("**", "/", True),
        ("***", "/match/anything/*", True),
        ("**", "/a/b/c", True),
        ("/*/", "/a/", True),
        ("/*/", "/a/b/", False),
        ("/.^$+{[]|()", "/.^$+{[]|()", True),
        ("**/bar/**", "/a/b/c/bar/e/f", True),
        ("**/bar/**", "/a/b/c/foo/e/f", False),
        (r"**\*", "/what/ever*", True),
        (r"**\*", "/what/ever!", False),
        ("/simple", "/simple", True),
        ("/simple", "/prefix.simple.suffix", False),
        ("**/*/**", "/something/bar/something/else", True),
        ("**/*/**", "/bar/", True),
        ("**/*/**", "//", True),
        ("**/*/**", "/something", False),
        (r"/\A", r"/\A", True),
        (r"/\*", "/*", True),
        (r"/\*", r"/\*", False),
        (r"/\\", "/\\", True),
        ("/aa\\", "/aa\\", True),
        # A wildcard inside a segment, and where greed would go wrong.
        ("/a*", "/a", True),
        ("/a*", "/ab/c", False),
        ("/*a", "/aba", True),
        (r"/*a\*", "/aa*", True),
        ("/**{a}", "/p/q", True),
        ("/**/x", "/a/x/b/x", True),
    ],
)
def test_patterns_match_what_they_say(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


_WILDCARDS = {"*": "[^/]*", "**": ".*", "{x}": "[^/]+", r"\*": r"\*"}
_PIECES = st.lists(st.sampled_from(["a", "b", "/", *_WILDCARDS]), max_size=9)


@given(_PIECES, st.text("ab/*", max_size=10))
@example(["*", "a", r"\*"], "aa*")
@example(["**", "a", "*", "b", "**", "a"], "aab/aba")
def test_the_bounded_matcher_agrees_with_the_plain_translation(pieces: list[str], text: str) -> None:
    """The plain translation is obviously right and can take for ever; the one in use must decide the same."""
    joined = "/" + "".join(pieces)
    # Stars that meet become one wildcard when read: translate what was written, not what was drawn.
    plain = "".join(
        _WILDCARDS.get("**" if token.startswith("**") else token, re.escape(token))
        for token in re.findall(r"\\\*|\*+|\{x\}|.", joined)
    )
    path = "/" + text
    assert matches(joined, path) is (re.fullmatch(plain, path) is not None)


_SEGMENT = st.text(min_size=1, max_size=9).filter(lambda text: "/" not in text and text not in (".", ".."))


@given(st.lists(_SEGMENT, max_size=4))
def test_a_path_matches_itself_written_as_a_pattern_and_every_template_of_its_shape(segments: list[str]) -> None:
    path = path_of(tuple(segments))
    assert path is not None
    printable = tuple(quote(segment, safe="") for segment in segments)
    literal = "/" + "/".join(printable)
    assert compile_pattern(literal).matches(printable, literal)
    template = compile_pattern("/" + "/".join("{x}" for _ in segments))
    assert template.matches(tuple(segments), path)
    assert not template.matches((*segments, "more"), path + "/more")
    assert compile_pattern("**").matches(tuple(segments), path)


@given(st.lists(_SEGMENT, max_size=3), st.sampled_from([".", "..", "a/b", "/", "../x"]), st.lists(_SEGMENT, max_size=3))
def test_a_dot_segment_or_a_slash_in_a_segment_matches_nothing(
    before: list[str], forbidden: str, after: list[str]
) -> None:
    assert path_of((*before, forbidden, *after)) is None


@pytest.mark.parametrize(
    "pattern",
    ["", "enterprises", "{x}/a", "/a\x00b", "/a\nb", "/a?b=c", "/a#b", "/a/../b", "/./a", "/" + "a" * 500],
)
def test_what_cannot_be_a_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="a path pattern"):
        compile_pattern(pattern)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", ["/**a**a**a**a**a**b", "/*a*a*a*a*a*a*b", "/**/*/**/*/**/x", "/**{a}*{b}a*b"])
def test_no_path_makes_matching_expensive(pattern: str) -> None:
    """With the plain translation each of these would outlive the test's timeout by far."""
    for path in ("/" + "a" * 8000, "/" + "a/" * 4000):
        matches(pattern, path)
