"""What a time-stamp token says, and the error for one that does not count. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class StampError(ValueError):
    """The bytes are no time-stamp token, or not one over this text, or of nobody who is believed."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.zh = zh


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a time-stamp token says. From `read_token` it is a claim, from `check_token` an authority has signed it."""

    gen_time: datetime
    """Aware, UTC; a fraction finer than microseconds is cut off."""
    accuracy: timedelta | None
    """How far `gen_time` may be off, to both sides; None if the authority does not say."""
    serial: int
    policy: str
    """Object identifier of the authority's policy, numbers with dots."""
    algorithm: str
    """Of the imprint: sha256, sha384 or sha512."""
    imprint: bytes
    """Digest of what was stamped."""
    nonce: int | None
    authority: str
    """Subject of the certificate in the token that its signer is named by (RFC 4514); empty if it holds none."""

    @property
    def gen_ms(self) -> int:
        """`gen_time` in unix milliseconds, cut off: what stands as `at_ms` beside a stored token."""
        return int((self.gen_time - _EPOCH) / timedelta(milliseconds=1))
