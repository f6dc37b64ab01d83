"""One-time codes that entitle to a certificate: how they look, and what is kept of them. Pure but for the randomness.

A code is 34 characters of Crockford's base 32 in groups, `K3M7Q-...`: 8 name it (they may be stored and shown), 26 are the
secret (130 random bits; only their SHA-256 is stored, which for so much randomness needs no slow hash).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LOOKS_LIKE: Final = str.maketrans("OIL", "011")
_NAME = 8
_SECRET = 26
_NO_HASH: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class EnrolmentCode:
    """A code in its parts. `repr` keeps the secret to itself."""

    name: str
    secret: str

    @classmethod
    def new(cls) -> EnrolmentCode:
        """A code nobody has seen."""
        drawn = "".join(secrets.choice(_ALPHABET) for _ in range(_NAME + _SECRET))
        return cls(drawn[:_NAME], drawn[_NAME:])

    @classmethod
    def parse(cls, text: str) -> EnrolmentCode | None:
        """Read a code as people type it: any case, with or without separators, O for 0; None if it cannot be one."""
        plain = "".join(text[:200].upper().replace("-", " ").split()).translate(_LOOKS_LIKE)
        if len(plain) != _NAME + _SECRET or not set(plain) <= set(_ALPHABET):
            return None
        return cls(plain[:_NAME], plain[_NAME:])

    @property
    def secret_hash(self) -> bytes:
        """What is stored: SHA-256 of name and secret."""
        return hashlib.sha256(f"datong enrolment code\n{self.name}{self.secret}".encode()).digest()

    def text(self) -> str:
        """The code as it is handed over."""
        plain = self.name + self.secret
        return "-".join(plain[start : start + 5] for start in range(0, len(plain), 5))

    def opens(self, stored: bytes | None) -> bool:
        """Whether it is the code of which `stored` was kept; takes as long when there is none (None)."""
        same = hmac.compare_digest(self.secret_hash, stored if stored is not None else _NO_HASH)
        return same and stored is not None

    def __repr__(self) -> str:
        return f"EnrolmentCode({self.name}, ...)"
