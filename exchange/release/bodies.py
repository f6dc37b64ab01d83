"""Release terms applied to the body of an answer: JSON in, JSON out.

Rules:
1. What the terms release is passed on byte for byte, numbers and escapes included. Only the objects and lists on the way there
   are written anew, without white space. Of a key that comes twice in one of those the last one counts and is written once.
2. What no term releases is withheld, known or not. A null on the way to a released item stays: it says that there is none.
3. What cannot be judged is not released: ReleaseError for a body that is not JSON in UTF-8, or is nested deeper than 64.
4. An answer that is not a success has other members than the items the terms speak of: of it, only those of RFC 9457
   and `code`, `error`, `message` pass, if they hold no object or list. If it is no JSON object, all of it is withheld.
5. To apply terms twice is to apply them once: that is how the gateway sees whether an adapter kept to them.
6. What is told of withheld items goes into records that last, so it must not be content: a key that may be data instead of a
   name (long, or with five digits and more) is told as `?`. Paths of masked items come from the terms.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Raw, UnsetType

from exchange.messages.envelope import Headers
from exchange.release.masks import Mask
from exchange.release.terms import EVERYTHING, Node, Terms, item_path

Told = tuple[str, ...] | UnsetType
"""Paths as a statement on an answer holds them."""

MAX_DEPTH = 64
LARGE = 256 << 10
"""Bytes of a body that takes milliseconds to go through."""
MAX_TOLD = 32
"""Paths in one list."""
MAX_TOLD_BYTES = 1000
"""UTF-8, of one list: three times as many in a header."""
WITHHELD = b"datong-withheld"
MASKED = b"datong-masked"

NOT_WITH_TERMS = frozenset(
    b"etag content-digest repr-digest digest content-md5 content-length content-range content-encoding "
    b"accept-ranges signature signature-input".split()
)
"""Headers that speak of the whole body: they would contradict what is left of it, or let somebody try what was withheld."""

_OF_A_PROBLEM = frozenset(("type", "title", "status", "detail", "instance", "code", "error", "message"))
_UNTOLD = "?"
_LONGEST_NAME = 40
_MOST_DIGITS = 4

_NOTHING: Final = object()
_OBJECT, _LIST, _NULL, _TEXT = b'{[n"'
"""How values of these kinds begin."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND = bytes.maketrans(b"[]", b"{}")
_read_object = msgspec.json.Decoder(dict[str, Raw]).decode
_read_list = msgspec.json.Decoder(list[Raw]).decode
_read_text = msgspec.json.Decoder(str).decode
_read_raw = msgspec.json.Decoder(Raw).decode
_write = msgspec.json.Encoder().encode


class ReleaseError(ValueError):
    """Terms cannot be applied to an answer, or an answer does not keep to them. The message holds nothing of the answer."""


@dataclass(frozen=True, slots=True)
class Released:
    """What may leave."""

    body: bytes
    withheld: tuple[str, ...]
    """Item paths, sorted and bounded; `*` is the whole body, and `+N` at the end says that there are N more."""
    masked: tuple[str, ...]


def apply(terms: Terms, body: bytes, status: int = 200) -> Released:
    """What of an answer's body the terms release.

    Raises:
        ReleaseError: The answer is a success, and its body cannot be judged.
    """
    if not body:
        return Released(b"", (), ())
    success = 200 <= status <= 299
    try:
        body = body.removeprefix(_BYTE_ORDER_MARK)
        _check_encoding_and_depth(body)
        return _apply(terms, body) if success else _apply_to_problem(body)
    except (msgspec.MsgspecError, ReleaseError) as error:
        if not success:
            return Released(b"", (EVERYTHING,), ())
        raise ReleaseError(f"no terms can be applied to the body: {error}") from error


def check(terms: Terms, body: bytes, status: int = 200) -> None:
    """Return if the body holds nothing but what the terms release; raises ReleaseError."""
    if apply(terms, body, status).body != body:
        raise ReleaseError("the answer holds more than the release terms allow")


async def apply_aside(terms: Terms, body: bytes, status: int) -> Released:
    """`apply`, beside the event loop if the body is large."""
    return apply(terms, body, status) if len(body) <= LARGE else await asyncio.to_thread(apply, terms, body, status)


async def check_answer(
    terms: Terms, status: int, headers: Headers, body: bytes, *, withheld: Told = UNSET, masked: Told = UNSET
) -> None:
    """Return if an answer keeps to the terms, and its headers tell what its statement says; raises ReleaseError."""
    told = [pair for pair in headers if pair[0] in (MASKED, WITHHELD)]
    if told != told_headers(withheld, masked) or any(name in NOT_WITH_TERMS for name, _ in headers):
        raise ReleaseError("the headers do not fit an answer under release terms")
    if len(body) <= LARGE:
        check(terms, body, status)
    else:
        await asyncio.to_thread(check, terms, body, status)


def told_headers(withheld: Told, masked: Told) -> Headers:
    """The headers of an answer that tell what of it was masked and withheld: percent-encoded paths, joined by commas."""
    return [
        (name, ",".join([quote(path, safe="*+?") for path in paths]).encode())
        for name, paths in ((MASKED, masked), (WITHHELD, withheld))
        if paths is not UNSET and paths
    ]


def _apply(terms: Terms, body: bytes) -> Released:
    pass_ = _Pass()
    kept = pass_.item(_read_raw(body), terms.root)
    return Released(_write(None if kept is _NOTHING else kept), _told(pass_.withheld()), _told(pass_.masked))


def _apply_to_problem(body: bytes) -> Released:
    kept: dict[str, Raw] = {}
    lost: set[str] = set()
    for key, value in _read_object(body).items():
        if key in _OF_A_PROBLEM and _first(value) not in (_OBJECT, _LIST):
            kept[key] = value
        else:
            lost.add(_name_of(key))
    return Released(_write(kept), _told(lost), ())


def _check_encoding_and_depth(body: bytes) -> None:
    """Return if the body is UTF-8 and, should it be JSON, nested no deeper than it may be; raises ReleaseError."""
    try:
        body.decode()  # what is passed on as it is, no decoder looks into
    except UnicodeDecodeError:
        raise ReleaseError("it is not UTF-8") from None  # the cause would show some of it
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return
    # First escapes go, then all but quotes and brackets, then what stands in quotes; as bodies can be large, at C speed.
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    nested = b"".join(body.translate(_ONE_KIND, _NO_STRUCTURE).replace(b'""', b"").split(b'"')[::2])
    for _ in range(MAX_DEPTH):  # each round takes the innermost away
        nested = nested.replace(b"{}", b"")
        if not nested:
            return
    raise ReleaseError(f"it is nested deeper than {MAX_DEPTH}")


class _Pass:
    """One pass through a body, and what was found on the way."""

    __slots__ = ("_lost", "_lost_whole", "masked")

    def __init__(self) -> None:
        self._lost: defaultdict[str, set[str]] = defaultdict(set)
        """Path of an object on the way -> keys in it that were withheld."""
        self._lost_whole: set[str] = set()
        """Paths on the way at which there was no object."""
        self.masked: set[str] = set()

    def item(self, raw: Raw, node: Node) -> Any:
        """What is kept of a value at a node, or _NOTHING."""
        if not node.below:
            if node.mask is not None:
                return self._mask(raw, node, node.mask)
            return raw if node.granted else _NOTHING
        first = _first(raw)
        if first == _OBJECT:
            return self._object(raw, node)
        if first == _LIST:
            elements = [self.item(element, node) for element in _read_list(raw)]
            kept = [element for element in elements if element is not _NOTHING]
            if len(kept) != len(elements):
                self._lost_whole.add(node.path)
            return kept
        if node.granted:
            return raw if node.mask is None else self._mask(raw, node, node.mask)
        if first == _NULL:
            return None
        self._lost_whole.add(node.path)
        return _NOTHING

    def _object(self, raw: Raw, node: Node) -> dict[str, Any]:
        below, granted, mask = node.below, node.granted, node.mask
        kept: dict[str, Any] = {}
        lost = self._lost[node.path]
        for key, value in _read_object(raw).items():
            child = below.get(key)
            if child is not None:
                item = self.item(value, child)
                if item is not _NOTHING:
                    kept[key] = item
            elif not granted:
                lost.add(key)
            else:
                kept[key] = value if mask is None else self._mask(value, node, mask)
        return kept

    def _mask(self, raw: Raw, node: Node, mask: Mask) -> Any:
        first = _first(raw)
        if first == _OBJECT:
            return {key: self._mask(value, node, mask) for key, value in _read_object(raw).items()}
        if first == _LIST:
            return [self._mask(value, node, mask) for value in _read_list(raw)]
        if first == _NULL:
            return None
        self.masked.add(node.mask_path)
        if first == _TEXT:
            return mask.of(_read_text(raw))
        literal = bytes(raw).decode()
        return mask.of(literal) if literal.removeprefix("-").isdigit() else None

    def withheld(self) -> set[str]:
        """The paths of what was withheld, as they may be told."""
        told = {path or EVERYTHING for path in self._lost_whole}
        for path, keys in self._lost.items():
            told |= {f"{path}.{name}" if path else name for name in map(_name_of, keys)}
        return told


def _first(raw: Raw) -> int:
    return memoryview(raw)[0]


def _name_of(key: str) -> str:
    """A key of an object as it may be told."""
    tellable = len(key) <= _LONGEST_NAME and key.isprintable() and not key.startswith("+")
    return item_path([key]) if tellable and sum(map(str.isdigit, key)) <= _MOST_DIGITS else _UNTOLD


def _told(paths: Iterable[str]) -> tuple[str, ...]:
    """Paths, sorted and bounded."""
    every = sorted(paths)
    shown, size = 0, 0
    for path in every[:MAX_TOLD]:
        size += len(path.encode())
        if size > MAX_TOLD_BYTES:
            break
        shown += 1
    return (*every[:shown], f"+{len(every) - shown}") if shown < len(every) else tuple(every)
