r"""Patterns for paths, in operations and in grants. Pure.

A pattern is matched against the whole decoded path after the service code, `/` when there is none.

Rules:
1. `{name}` stands for one segment, or a part of one, and is never empty: `/enterprises/{uscc}`, `/files/{id}.pdf`.
2. `*` stands for any characters inside one segment, also none; `**` for any characters, also slashes (X-Road's glob).
3. `\` before `*`, `{` or `\` takes its meaning away; before anything else it is a backslash (X-Road's rule again).
4. Everything else stands for itself, capital letters included. A trailing slash is part of the path.
5. Segments come decoded and normalised from the gateway. One that is `.` or `..` or holds a slash matches nothing,
   whatever the pattern: that it got here means somebody forgot to refuse it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_LENGTH = 500
_TOKEN = re.compile(r"\\(?P<escaped>[*{\\])|(?P<any>\*{2,})|(?P<star>\*)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}")
LITERAL, NAME, STAR, ANY = "literal", "name", "star", "any"
"""Kinds of tokens a pattern consists of."""


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A compiled pattern: a template, compared segment by segment, or else a regular expression."""

    text: str
    template: tuple[str | None, ...] | None
    """Segments, None for a placeholder; None when the pattern needs the regular expression."""
    open_ended: bool
    """Whether any path below the template matches, as in `/a/{b}/**`."""
    expression: re.Pattern[str] | None
    """Set when `template` is not; both are None for `**`, which matches every path."""
    specificity: tuple[int, int, int]
    """Sorts the more specific first: fewer `**`, fewer `*` and placeholders, more literal characters."""

    @property
    def matches_all(self) -> bool:
        """Whether there is no path that it does not match."""
        return self.template is None and self.expression is None

    def matches(self, segments: tuple[str, ...], path: str) -> bool:
        """Whether the path fits; `path` is `path_of(segments)`, which refused rule 5 already."""
        template = self.template
        if template is not None:
            if not (len(segments) > len(template) if self.open_ended else len(segments) == len(template)):
                return False
            for expected, segment in zip(template, segments):  # noqa: B905  # what is below the template is free
                if (segment != expected) if expected is not None else not segment:
                    return False
            return True
        return self.expression is None or self.expression.fullmatch(path) is not None


def path_of(segments: tuple[str, ...]) -> str | None:
    """The path that `segments` spell, or None when they break rule 5."""
    path = "/" + "/".join(segments)
    if "." in segments or ".." in segments or path.count("/") > (len(segments) or 1):
        return None
    return path


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> PathPattern:
    """Return the pattern that `text` writes.

    Raises:
        ValueError: It begins with neither `/` nor `*`, is too long, holds a control character, or has a segment
            `.` or `..`, which no path has.
    """
    if not text.startswith(("/", "*")):
        raise ValueError("a path pattern begins with / (or is **)")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a path pattern has at most {MAX_LENGTH} characters")
    if not text.isprintable() or {"?", "#"} & set(text):
        raise ValueError("a path pattern holds no control characters, no ? and no #")
    if {".", ".."} & set(text.split("/")):
        raise ValueError("a path pattern has no segment . or ..")
    tokens = tokens_of(text)
    kinds = [kind for kind, _ in tokens]
    literal = "".join(value for kind, value in tokens if kind == LITERAL)
    specificity = (kinds.count(ANY), kinds.count(STAR) + kinds.count(NAME), -len(literal))
    if kinds == [ANY] or (kinds == [LITERAL, ANY] and literal == "/"):
        return PathPattern(text, None, False, None, specificity)
    # `/a/**` is the template `/a` and at least one more segment, which may be empty: `/a/`.
    open_ended = kinds[-1] == ANY and text.rstrip("*").endswith("/")
    template = _template(tokens[:-1] if open_ended else tokens)
    if template is not None and open_ended:
        template = template[:-1]  # the empty segment after the slash
    expression = None if template is not None else _expression(tokens)
    return PathPattern(text, template, open_ended, expression, specificity)


def tokens_of(text: str) -> list[tuple[str, str]]:
    """Wildcards and, between them, literals; neighbouring literals are one."""
    tokens: list[tuple[str, str]] = []
    literal = ""
    position = 0
    for match in _TOKEN.finditer(text):
        literal += text[position : match.start()] + (match["escaped"] or "")
        position = match.end()
        if match["escaped"]:
            continue
        if literal:
            tokens.append((LITERAL, literal))
            literal = ""
        tokens.append((ANY if match["any"] else STAR if match["star"] else NAME, ""))
    literal += text[position:]
    return [*tokens, (LITERAL, literal)] if literal else tokens


def _template(tokens: list[tuple[str, str]]) -> tuple[str | None, ...] | None:
    """The segments, if each is either a literal or one placeholder."""
    marked = ""
    for kind, value in tokens:
        if kind in (STAR, ANY):
            return None
        marked += value if kind == LITERAL else "\0"  # no pattern holds a control character
    if marked == "/":
        return ()
    segments: list[str | None] = []
    for segment in marked[1:].split("/"):
        if "\0" in segment and segment != "\0":
            return None
        segments.append(None if segment == "\0" else segment)
    return tuple(segments)


def _expression(tokens: list[tuple[str, str]]) -> re.Pattern[str]:
    """The regular expression of a glob, in a form that does not try every way to share characters among wildcards.

    Paths are chosen by callers, so the plain translation (`**` to `.*`) would let one request burn seconds. The first
    place where the next piece fits is always good enough when a wildcard follows that can take the rest, so each
    wildcard but the last of its kind is an atomic group: at worst the time grows with the square of the path's length.
    """
    pieces: list[list[tuple[str, str]]] = [[]]
    for token in tokens:
        if token[0] == ANY:
            pieces.append([])
        else:
            pieces[-1].append(token)
    first, *rest = (_piece(piece, last=position == len(pieces) - 1) for position, piece in enumerate(pieces))
    for position, piece in enumerate(rest, start=2):
        first += f".*?{piece}" if position == len(pieces) else f"(?>.*?{piece})"
    # DOTALL: a decoded line feed in a path is a character like any other.
    return re.compile(first, re.DOTALL)


def _piece(tokens: list[tuple[str, str]], *, last: bool) -> str:
    """What stands between two `**`. In the last piece the last wildcard must be free to stretch up to the end."""
    wildcards = [position for position, (kind, _) in enumerate(tokens) if kind != LITERAL]
    expression = ""
    position = 0
    while position < len(tokens):
        kind, value = tokens[position]
        position += 1
        if kind == LITERAL:
            expression += re.escape(value)
            continue
        literal = re.escape(tokens[position][1]) if position < len(tokens) and tokens[position][0] == LITERAL else ""
        step = f"[^/]{'+' if kind == NAME else '*'}?{literal}"
        expression += step if last and position - 1 == wildcards[-1] else f"(?>{step})"
        position += bool(literal)
    return expression
