"""What a gateway and its search process say to each other over their socket pair.

Rules:
1. A message is its length (u32, big-endian) and that many bytes of msgpack, as between a gateway and its log writer.
2. The gateway's first question is `begin`: where the log and its index are. They come over the socket because arguments of
   a process are readable by others.
3. Each question gets one `Result`, in any order; one that is called off may get none.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

Act = Literal["begin", "page", "numbers", "chunk", "statistics", "status", "call_off"]


class Question(msgspec.Struct, array_like=True, frozen=True):
    """One question, or that question `number` is called off."""

    number: int
    act: Act
    arguments: dict[str, Any] = {}


class Result(msgspec.Struct, array_like=True, frozen=True):
    """What became of a question."""

    number: int
    content: msgspec.Raw
    """msgpack."""
    refusal: tuple[str, str, str, str] | None = None
    """Code of a MeshError, its rule, and the problem in both languages."""


NOTHING: Final = msgspec.Raw(b"\xc0")

_encode = msgspec.msgpack.Encoder().encode


def packed(content: Question | Result) -> bytes:
    """One message, ready to be sent."""
    data = _encode(content)
    return len(data).to_bytes(4, "big") + data
