"""What a witness says of a checkpoint: C2SP tlog-cosignature lines, Ed25519 (type 0x04) and ML-DSA-44 (type 0x06).

Rules:
1. A cosignature says: at this time, this was the largest tree of the log that I have seen, and it continues every tree of the
   log that I have seen before. It says nothing of what the entries mean.
2. A line whose name and key id we know must verify; one by a key we do not know counts for nothing.
3. Only `cryptography` and the standard library are imported: receipts are verified with this.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from exchange.transparency.checkpoint import (
    Checkpoint,
    NoteError,
    check_key_name,
    key_id_of,
    split_note,
    split_skey,
    split_vkey,
)

ED25519, ML_DSA_44 = b"\x04", b"\x06"
"""Type bytes of the two algorithms. Ed25519 is what software of others knows; ML-DSA-44 outlives quantum computers."""

_SIGNATURE_SIZE = {ED25519: 64, ML_DSA_44: 2420}
_LATEST = (1 << 63) - 1
_LABEL = b"subtree/v1\n\0"


class _PublicKey(Protocol):
    def verify(self, signature: bytes, data: bytes, /) -> None: ...

    def public_bytes_raw(self) -> bytes: ...


class _PrivateKey(Protocol):
    def sign(self, data: bytes, /) -> bytes: ...

    def private_bytes_raw(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class CosignatureVerifier:
    """The public key of a witness."""

    name: str
    key_id: bytes
    algorithm: bytes
    """ED25519 or ML_DSA_44."""
    _key: _PublicKey = field(repr=False)

    @classmethod
    def from_vkey(cls, vkey: str) -> CosignatureVerifier:
        """Parse `name+id+key`; raises NoteError, also for a key that signs notes and not as a witness."""
        name, key_id, data = split_vkey(vkey)
        algorithm = data[:1]
        if algorithm == ED25519 and len(data) == 33:
            return cls(name, key_id, algorithm, Ed25519PublicKey.from_public_bytes(data[1:]))
        if algorithm == ML_DSA_44 and len(data) == 1313 and len(name.encode()) < 256:
            return cls(name, key_id, algorithm, MLDSA44PublicKey.from_public_bytes(data[1:]))
        raise NoteError("not the verifier key of a witness (Ed25519, type 4, or ML-DSA-44, type 6)")

    @property
    def vkey(self) -> str:
        """The key as text, for policies."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(self.algorithm + self.public_key).decode()}"

    @property
    def public_key(self) -> bytes:
        """The key's own bytes: two verifier keys with the same ones are one witness under two names."""
        return self._key.public_bytes_raw()

    def check(self, signature: bytes, checkpoint_text: str) -> int:
        """POSIX time, in seconds, at which this witness cosigned a checkpoint; raises NoteError if it did not.

        Args:
            signature: What follows the key id in the line: the time and the signature itself.
            checkpoint_text: The note's text, without signatures.
        """
        at = int.from_bytes(signature[:8], "big")
        if len(signature) != 8 + _SIGNATURE_SIZE[self.algorithm] or not 0 < at <= _LATEST:
            raise NoteError(f"the cosignature of {self.name} is malformed")
        try:
            self._key.verify(signature[8:], _message(self.algorithm, self.name, checkpoint_text, at))
        except InvalidSignature as error:
            raise NoteError(f"the cosignature of {self.name} does not verify") from error
        return at


@dataclass(frozen=True, slots=True)
class Cosigner:
    """The private key of a witness, in the text form of Go's note package: `PRIVATE+KEY+name+id+key`."""

    verifier: CosignatureVerifier
    _key: _PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, name: str, algorithm: bytes = ED25519) -> Cosigner:
        """A fresh key under `name`, which has no spaces and no `+`; raises NoteError for another name."""
        key = MLDSA44PrivateKey.generate() if algorithm == ML_DSA_44 else Ed25519PrivateKey.generate()
        return cls._of(name, key)

    @classmethod
    def from_skey(cls, skey: str) -> Cosigner:
        """Parse the text form; raises NoteError."""
        name, key_id, data = split_skey(skey)
        if len(data) != 33 or data[:1] not in _SIGNATURE_SIZE:
            raise NoteError("not the signer key of a witness")
        kind = Ed25519PrivateKey.from_private_bytes if data[:1] == ED25519 else MLDSA44PrivateKey.from_seed_bytes
        cosigner = cls._of(name, kind(data[1:]))
        if cosigner.verifier.key_id != key_id:
            raise NoteError("the id of the signer key does not belong to its key")
        return cosigner

    @classmethod
    def _of(cls, name: str, key: Ed25519PrivateKey | MLDSA44PrivateKey) -> Cosigner:
        check_key_name(name)
        if len(name.encode()) > 255:
            raise NoteError("the name of a witness is at most 255 bytes long")
        algorithm = ED25519 if isinstance(key, Ed25519PrivateKey) else ML_DSA_44
        public = key.public_key()
        key_id = key_id_of(name, algorithm + public.public_bytes_raw())
        return cls(CosignatureVerifier(name, key_id, algorithm, public), key)

    @property
    def skey(self) -> str:
        """The key as text: a secret. The key of either algorithm is a seed of 32 bytes."""
        data = self.verifier.algorithm + self._key.private_bytes_raw()
        return f"PRIVATE+KEY+{self.verifier.name}+{self.verifier.key_id.hex()}+{b64encode(data).decode()}"

    def cosign(self, checkpoint_text: str, at: int) -> str:
        """One signature line, with its newline, over a checkpoint.

        Args:
            checkpoint_text: The note's text, without signatures.
            at: POSIX time in seconds, more than 0.

        Raises:
            NoteError: The text is no checkpoint.
        """
        if not 0 < at <= _LATEST:
            raise NoteError("a cosignature says when it was made")
        signature = self._key.sign(_message(self.verifier.algorithm, self.verifier.name, checkpoint_text, at))
        data = self.verifier.key_id + at.to_bytes(8, "big") + signature
        return f"— {self.verifier.name} {b64encode(data).decode()}\n"


def check_cosignatures(note: str, verifiers: Iterable[CosignatureVerifier]) -> dict[str, int]:
    """Which of the witnesses have cosigned the checkpoint in a note: name of the key -> POSIX time.

    Of several lines of one key the earliest counts. The log's own signature is not checked (`open_checkpoint`).

    Raises:
        NoteError: Not a note, or a line with the name and id of one of the keys does not verify.
    """
    text, signatures = split_note(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    found: dict[str, int] = {}
    for name, key_id, signature in signatures:
        if verifier := known.get((name, key_id)):
            at = verifier.check(signature, text)
            found[name] = min(at, found.get(name, at))
    return found


def read_checkpoint(text: str) -> Checkpoint:
    """The first three lines of a checkpoint's text, of which alone a witness speaks; raises NoteError.

    Extension lines may follow. Our logs write none, those of others may.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise NoteError("a checkpoint has at least three lines, none of them empty")
    return Checkpoint.from_text("\n".join(lines[:3]) + "\n")


def _message(algorithm: bytes, name: str, checkpoint_text: str, at: int) -> bytes:
    """What is signed."""
    checkpoint = read_checkpoint(checkpoint_text)
    if algorithm == ED25519:
        return f"cosignature/v1\ntime {at}\n{checkpoint_text}".encode()
    # This algorithm signs the parts, not the text: an extension line would not be covered.
    if checkpoint.text != checkpoint_text:
        raise NoteError("an ML-DSA-44 cosignature does not cover the extension lines of this checkpoint")
    parts = [_LABEL, _short(name), at.to_bytes(8, "big"), _short(checkpoint.origin), bytes(8)]
    return b"".join([*parts, checkpoint.size.to_bytes(8, "big"), checkpoint.root])


def _short(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise NoteError("an ML-DSA-44 cosignature covers names of at most 255 bytes")
    return bytes([len(data)]) + data
