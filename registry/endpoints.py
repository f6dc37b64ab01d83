"""What can be called of a service, and what of it is granted, as lists to read. Pure.

Rules:
1. A placeholder of a path is written `*`: what it is called is nothing that a list of addresses says, and X-Road's clients
   know the star.
2. Where a grant covers all of an operation, the operation is listed. Where it covers a part, what is granted is listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from registry.grants.coverings import Covering
from registry.grants.overlaps import common_path
from registry.patterns import ANY, LITERAL, NAME, STAR, compile_pattern, path_of, tokens_of
from registry.records import Operation, Service

Endpoint = tuple[str, str]
"""Method and path."""

_STRANGER = "\ue000"
"""A character that no pattern can hold: what matches it matches anything."""
_SAMPLES = ({NAME: _STRANGER, STAR: "", ANY: ""}, {NAME: _STRANGER, STAR: _STRANGER, ANY: f"{_STRANGER}/{_STRANGER}"})


def endpoints_offered(service: Service) -> list[Endpoint]:
    """Every operation of a service."""
    return _listed((each.method, each.path) for each in service.operations)


def endpoints_granted(service: Service, coverings: Iterable[Covering], now: float) -> list[Endpoint]:
    """What of a service's operations is granted at `now` (Unix seconds)."""
    valid = [each for each in coverings if each.valid_from <= now < each.valid_to]
    return _listed(endpoint for operation in service.operations for endpoint in _granted(operation, valid))


def _granted(operation: Operation, coverings: Iterable[Covering]) -> Iterator[Endpoint]:
    parts = []
    for covering in coverings:
        if covering.method not in (None, operation.method):
            continue
        if _covers_all(covering, operation):
            yield operation.method, operation.path
            return
        template = compile_pattern(operation.path)
        patterns = [covering.pattern, *([covering.also] if covering.also else [])]
        if all(common_path(pattern, template) is not None for pattern in patterns):
            parts.append((operation.method, covering.pattern.text))
    yield from parts


def _covers_all(covering: Covering, operation: Operation) -> bool:
    """Whether every call of an operation is covered: told by calls in which all that is free is a character of no pattern's."""
    for filling in _SAMPLES:
        text = "".join(value if kind == LITERAL else filling[kind] for kind, value in tokens_of(operation.path))
        segments = tuple(text.removeprefix("/").split("/"))
        if segments == ("",):
            segments = ()
        path = path_of(segments)
        if path is None or not covering.covers(operation.method, segments, path):
            return False
    return True


def _listed(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Each once, as X-Road writes them."""
    return list(dict.fromkeys((method, _starred(path)) for method, path in endpoints))


def _starred(path: str) -> str:
    wildcards = {NAME: "*", STAR: "*", ANY: "**"}
    return "".join(
        re.sub(r"[*{\\]", r"\\\g<0>", value) if kind == LITERAL else wildcards[kind] for kind, value in tokens_of(path)
    )
