"""From the number of a person or company to what the mesh keeps of it. Pure, with nothing but the standard library.

    number  --DATONG_SUBJECT_KEY-->  pseudonym  --the subject's own random key-->  hash on record

Rules:
1. A number is one subject however it was typed: compatibility characters, case and surrounding spaces do not matter.
2. The pseudonym finds the subject's own key and never stands in a record: whoever holds DATONG_SUBJECT_KEY can compute it from a
   guessed number, for ever. Records made before subjects had keys of their own hold it.
3. What stands in a record is the hash. Without the subject's own key nobody can tell whose it was.
"""

from __future__ import annotations

import hmac
import unicodedata


def normal_form(text: str) -> str:
    """The one spelling of a number that is hashed: NFKC, no spaces around it, upper case."""
    return unicodedata.normalize("NFKC", text).strip().upper()


def pseudonym_of(subject_key: bytes, text: str) -> str:
    """What the mesh knows a person or company by, whether a caller or a certificate named it: HMAC-SHA-256, 64 hex digits."""
    return hmac.digest(subject_key, normal_form(text).encode(), "sha256").hex()


def hash_under(own_key: bytes, pseudonym: str) -> str:
    """What stands in a record: HMAC-SHA-256 of the pseudonym's 32 bytes under the subject's own key, 64 hex digits."""
    return hmac.digest(own_key, bytes.fromhex(pseudonym), "sha256").hex()
