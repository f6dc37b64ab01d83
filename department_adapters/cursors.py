"""Cursors of paged answers: where the next page begins, in a form that only the adapter can read or make.

Rules:
1. A cursor tells nothing: the key of a row may be what a grant masks. AES-SIV (RFC 5297), so the same place is the same cursor.
2. It holds for the question it was made for, filters included; for any other it is refused like one that was made up.
3. Instances that share a secret understand each other's cursors. The secret is random: callers hold what is sealed with it,
   and could try out a password at their leisure.
"""

from __future__ import annotations

import base64
import os
import secrets
from binascii import Error as Base64Error
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SHORTEST_SECRET = 32
"""Characters."""

_LONGEST = 4096
_KEY_BYTES = 64


class Cursors:
    """Makes and opens cursors."""

    def __init__(self, secret: bytes = b"") -> None:
        """
        Args:
            secret: What instances share, hard to guess; empty: a secret of this process, and cursors that end with it.
        """
        key = HKDF(SHA512(), _KEY_BYTES, salt=None, info=b"datong adapter cursor").derive(secret) if secret else None
        self._cipher = AESSIV(key or secrets.token_bytes(_KEY_BYTES))

    def seal(self, place: bytes, question: Sequence[bytes]) -> str:
        """The cursor of a place in the answer to a question; characters fit into a URL.

        Args:
            place: Not empty.
            question: The operation and its parameters.
        """
        return base64.urlsafe_b64encode(self._cipher.encrypt(place, list(question))).rstrip(b"=").decode()

    def open(self, cursor: str, question: Sequence[bytes]) -> bytes:
        """The place; raises ValueError if this adapter made no such cursor for this question."""
        if len(cursor) > _LONGEST:
            raise ValueError("the cursor is too long")
        try:
            sealed = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            return self._cipher.decrypt(sealed, list(question))
        except (Base64Error, UnicodeEncodeError, InvalidTag, ValueError) as error:
            raise ValueError("the cursor is not of this question") from error


def kept_secret(file: Path) -> bytes:
    """The secret that a file holds; made if missing, for its owner only. Raises OSError, or ValueError if it holds none."""
    if not file.exists():
        draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as unfinished:
            unfinished.write(secrets.token_hex(32) + "\n")
        try:
            os.link(draft, file)
        except FileExistsError:  # another instance was quicker
            pass
        finally:
            draft.unlink()
    secret = file.read_bytes().strip()
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(f"{file} holds no secret of {SHORTEST_SECRET} characters")
    return secret
