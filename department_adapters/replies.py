"""What sources that speak JSON answer with, and how they read what they are asked: paths and query strings.

Problems are RFC 9457, in the caller's language: Chinese if `accept-language` begins with it, else English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from department_adapters.source import SourceAnswer, SourceRequest

_PARAMETER = re.compile(r"\{([^{}]*)\}")
_SEGMENT_SAFE = "!$&'()*+,;=:@-._~/"
"""As the gateway writes paths, so that a template in other scripts meets them."""
# Decimals as text keep their digits; what JSON has no form for is told as text.
encode = msgspec.json.Encoder(decimal_format="string", enc_hook=str).encode


class CallerError(Exception):
    """The request cannot be answered as it is; the texts are for the caller."""

    def __init__(self, status: int, en: str, zh: str, errors: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(en)
        self.status = status
        self.en, self.zh = en, zh
        self.errors = errors
        """What is wrong with single members, each with `pointer` (RFC 6901) or `parameter`."""


def json_answer(status: int, value: object) -> SourceAnswer:
    """An answer whose body is `value` as JSON."""
    return SourceAnswer(status, [(b"content-type", b"application/json")], encode(value))


def problem_answer(request: SourceRequest, error: CallerError, *headers: tuple[bytes, bytes]) -> SourceAnswer:
    """The problem that tells a caller of an error."""
    chinese = dict(request.headers).get(b"accept-language", b"").lower().startswith(b"zh")
    problem = {"type": "about:blank", "status": error.status, "detail": error.zh if chinese else error.en}
    if error.errors:
        problem["errors"] = list(error.errors)
    described = [(b"content-type", b"application/problem+json"), (b"content-language", b"zh-CN" if chinese else b"en")]
    return SourceAnswer(error.status, [*described, *headers], encode(problem))


def not_allowed(request: SourceRequest, methods: str) -> SourceAnswer:
    """405; `methods` as the Allow header names them."""
    error = CallerError(405, f"Only {methods} are offered here.", f"此处仅支持 {methods}。")
    return problem_answer(request, error, (b"allow", methods.encode()))


def without_body(answer: SourceAnswer) -> SourceAnswer:
    """The same to a HEAD."""
    return SourceAnswer(answer.status, answer.headers, b"")


def path_of(request: SourceRequest) -> str:
    """The path that is asked for, still percent-encoded; `/` where there is none."""
    return request.target.partition(b"?")[0].decode("latin-1") or "/"


def path_parameters(template: str) -> tuple[str, ...]:
    """Names of the parameters in braces; raises ValueError if a brace belongs to none or a name is twice."""
    names = tuple(_PARAMETER.findall(template))
    if "{" in _PARAMETER.sub("", template) or "}" in _PARAMETER.sub("", template):
        raise ValueError(f"the path {template!r} has a brace that belongs to no parameter")
    if len(set(names)) < len(names):
        raise ValueError(f"the path {template!r} names a parameter twice")
    return names


def path_pattern(template: str) -> re.Pattern[str]:
    """What matches the paths of a template, still percent-encoded: one group a parameter, in their order."""
    parts = _PARAMETER.split(template)
    return re.compile(
        "".join(
            "([^/]+)" if index % 2 else re.escape(quote(part, safe=_SEGMENT_SAFE)) for index, part in enumerate(parts)
        )
    )


def decoded(segment: str) -> str:
    """A segment of a path as text; raises CallerError."""
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise CallerError(400, "The path is not UTF-8.", "路径不是 UTF-8 编码。") from error


def query_pairs(request: SourceRequest) -> list[tuple[str, str]]:
    """Names and values of the query string, at most 100; raises CallerError."""
    query = request.target.partition(b"?")[2].decode("latin-1")
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=100)
    except UnicodeDecodeError as error:
        raise CallerError(400, "A parameter is not UTF-8.", "参数不是 UTF-8 编码。") from error
    except ValueError as error:
        raise CallerError(400, "There are too many parameters.", "参数过多。") from error


def unknown_parameter(name: str) -> CallerError:
    """A filter that is misspelt must not answer with everything."""
    shown = name[:40]
    return CallerError(
        400,
        f"The query parameter {shown!r} is not known here.",
        f"不支持查询参数 {shown!r}。",
        [{"parameter": shown, "detail": "unknown"}],
    )
