"""A document without the addresses of the department's own systems: what callers are shown. Pure.

Rules:
1. Of the URL of a server only its path is left, wherever a server stands. One with variables stays as it is, as in X-Road.
2. Nothing else changes: YAML keeps every other character, JSON keeps every other value.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from registry.descriptions.document import Document, Place, at, below
from registry.descriptions.grammar import Kind, members
from registry.descriptions.yaml_reading import yaml_spans

_HOLDING: dict[Kind, str] = {"document": "servers", "path item": "servers", "operation": "servers", "link": "server"}


def without_hosts(document: Document) -> str | None:
    """The document's text as callers are shown it; None if that is how it is."""
    changes = {place: path for place, url, path in _urls(document.tree) if url != path}
    if not changes:
        return None
    if document.format == "json":
        tree = copy.deepcopy(document.tree)
        for place, path in changes.items():
            at(tree, place[:-1])[place[-1]] = path
        return json.dumps(tree, ensure_ascii=False, indent=2)
    text = document.text
    spans = yaml_spans(text, changes.keys())
    for place, (start, end) in sorted(spans.items(), key=lambda item: item[1], reverse=True):
        written = text[start:end]
        ending = written[len(written.rstrip()) :]  # a block ends with its line
        text = text[:start] + json.dumps(changes[place], ensure_ascii=False) + ending + text[end:]
    return text


def _urls(tree: dict[str, Any]) -> Iterator[tuple[Place, str, str]]:
    """Where the URL of a server stands, it, and what is shown instead."""
    waiting: list[tuple[Place, Any, Kind]] = [((), tree, "document")]
    while waiting:
        place, value, kind = waiting.pop()
        if not isinstance(value, dict):
            continue
        waiting += [((*place, *inner), found, inner_kind) for inner, found, inner_kind in members(value, kind)]
        key = _HOLDING.get(kind)
        if key is None or key not in value:
            continue
        servers = below(value[key]) if isinstance(value[key], list) else [(None, value[key])]
        for part, server in servers:
            url = server.get("url") if isinstance(server, dict) else None
            if isinstance(url, str):
                where = (*place, key, "url") if part is None else (*place, key, part, "url")
                yield where, url, _shown(url)


def _shown(url: str) -> str:
    if "{" in url and "}" in url:
        return url
    try:
        return urlsplit(url).path
    except ValueError:
        return ""  # whatever it is, it is no path
