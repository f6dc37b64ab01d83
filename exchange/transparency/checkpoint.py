"""The signed statement of tree size and root hash: C2SP signed notes (Ed25519), checkpoints, and proofs that carry one.

Rules:
1. Formats are those of c2sp.org/signed-note, /tlog-checkpoint and /tlog-proof, so that software of others reads them.
2. Parsing is strict: one text has one reading. Base64 is padded and canonical, numbers have no leading zeros.
3. A signature by a key we know must verify; one by a key we do not know counts for nothing. Without a good signature by
   the log itself there is no checkpoint.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from exchange.transparency.merkle import HASH_SIZE

_ED25519 = b"\x01"
_MAX_NOTE = 1 << 20
_PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_NAME = re.compile(r"[^\s+]+")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_ID = re.compile(r"[0-9a-f]{8}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteError(ValueError):
    """The text is not a note, checkpoint, proof or key, or no trusted key signed it."""


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A public key that signs notes under a name."""

    name: str
    key_id: bytes
    _key: Ed25519PublicKey = field(repr=False)

    @classmethod
    def from_vkey(cls, vkey: str) -> NoteVerifier:
        """Parse `name+id+key`; raises NoteError."""
        name, key_id, data = split_vkey(vkey)
        if data[:1] != _ED25519 or len(data) != 33:
            raise NoteError("not an Ed25519 verifier key of the form name+id+key")
        return cls(name, key_id, Ed25519PublicKey.from_public_bytes(data[1:]))

    @property
    def vkey(self) -> str:
        """The key as text, for key lists."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(_ED25519 + self.public_key).decode()}"

    @property
    def public_key(self) -> bytes:
        """The key's own 32 bytes."""
        return self._key.public_bytes_raw()

    def check(self, signature: bytes, text: bytes) -> None:
        """Return if `signature` is this key's over `text`; raises NoteError otherwise."""
        try:
            self._key.verify(signature, text)
        except InvalidSignature as error:
            raise NoteError(f"the signature of {self.name} does not verify") from error


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """The private key of a log, in the text form of Go's note package: `PRIVATE+KEY+name+id+key`."""

    verifier: NoteVerifier
    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> NoteSigner:
        """A fresh key under `name`, the origin of the log; a name has no spaces and no `+`."""
        return cls._of(name, Ed25519PrivateKey.generate())

    @classmethod
    def from_skey(cls, skey: str) -> NoteSigner:
        """Parse the text form; raises NoteError."""
        name, key_id, data = split_skey(skey)
        if data[:1] != _ED25519 or len(data) != 33:
            raise NoteError("not an Ed25519 note signer key")
        signer = cls._of(name, Ed25519PrivateKey.from_private_bytes(data[1:]))
        if signer.verifier.key_id != key_id:
            raise NoteError("the id of the note signer key does not belong to its key")
        return signer

    @classmethod
    def _of(cls, name: str, key: Ed25519PrivateKey) -> NoteSigner:
        check_key_name(name)
        public = key.public_key()
        return cls(NoteVerifier(name, key_id_of(name, _ED25519 + public.public_bytes_raw()), public), key)

    @property
    def skey(self) -> str:
        """The key as text: a secret."""
        data = _ED25519 + self._key.private_bytes_raw()
        return f"PRIVATE+KEY+{self.verifier.name}+{self.verifier.key_id.hex()}+{b64encode(data).decode()}"

    def sign(self, text: str) -> str:
        """The note: `text`, which ends in a newline, an empty line, and our signature line."""
        if not text.endswith("\n") or _CONTROL.search(text):
            raise NoteError("the text of a note ends in a newline and has no control characters")
        signature = self.verifier.key_id + self._key.sign(text.encode())
        return f"{text}\n— {self.verifier.name} {b64encode(signature).decode()}\n"


def open_note(note: str, verifiers: Iterable[NoteVerifier]) -> tuple[str, list[str]]:
    """Return the text of a note and the names of the keys among `verifiers` whose signature verifies.

    Raises:
        NoteError: Not a note, a known key's signature does not verify, or no known key signed it.
    """
    text, signatures = split_note(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    signed: list[str] = []
    for name, key_id, signature in signatures:
        verifier = known.get((name, key_id))
        if verifier is not None:
            verifier.check(signature, text.encode())
            signed.append(name)
    if not signed:
        raise NoteError("no key on the list has signed the note")
    return text, signed


def split_note(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text of a note, and (key name, key id, signature) of each line under it; no signature is verified.

    Raises:
        NoteError: Not a note.
    """
    if len(note) > _MAX_NOTE or _CONTROL.search(note) or not note.endswith("\n"):
        raise NoteError("not a signed note")
    head, separator, signatures = note[:-1].rpartition("\n\n")
    if not separator:
        raise NoteError("the note has no signatures")
    found = []
    for line in signatures.split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        data = decode_base64(encoded)
        if dash != "—" or not _NAME.fullmatch(name) or len(data) < 5:
            raise NoteError("a signature line is malformed")
        found.append((name, data[:4], data[4:]))
    return head + "\n", found


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: so many entries, this root hash."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @classmethod
    def from_text(cls, text: str) -> Checkpoint:
        """Parse a note's text; raises NoteError. Extension lines are refused: our logs write none."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise NoteError("a checkpoint has three lines")
        return cls(_origin(lines[0]), _number(lines[1]), _hash(lines[2]))

    def signed(self, signer: NoteSigner) -> str:
        """The checkpoint as a note."""
        return signer.sign(self.text)


def open_checkpoint(note: str, verifiers: Iterable[NoteVerifier]) -> Checkpoint:
    """Return the checkpoint in a note that the log it speaks of has signed; raises NoteError."""
    text, signed = open_note(note, verifiers)
    checkpoint = Checkpoint.from_text(text)
    if checkpoint.origin not in signed:
        raise NoteError("the log itself has not signed the checkpoint")
    return checkpoint


@dataclass(frozen=True, slots=True)
class TlogProof:
    """An inclusion proof and the checkpoint it leads to, as one text that is verified offline."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes = b""
    """Opaque, and not authenticated by anything."""

    @property
    def text(self) -> str:
        """The proof in the format of c2sp.org/tlog-proof."""
        lines = [_PROOF_HEADER]
        if self.extra:
            lines.append(f"extra {b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines += [b64encode(node).decode() for node in self.hashes]
        return "\n".join(lines) + "\n\n" + self.checkpoint

    @classmethod
    def from_text(cls, text: str) -> TlogProof:
        """Parse a proof; raises NoteError. The checkpoint in it is not verified here."""
        head, _, checkpoint = text.partition("\n\n")
        lines = head.split("\n")
        extra = b""
        if lines[1:2] and lines[1].startswith("extra "):
            extra = decode_base64(lines.pop(1)[6:])
        if len(lines) < 2 or lines[0] != _PROOF_HEADER or not lines[1].startswith("index ") or not checkpoint:
            raise NoteError("not a log proof (c2sp.org/tlog-proof@v1)")
        return cls(_number(lines[1][6:]), _hashes(lines[2:]), checkpoint, extra)


def split_vkey(vkey: str) -> tuple[str, bytes, bytes]:
    """(name, id, type byte and key) of a verifier key, `name+id+key`; raises NoteError if they do not belong together."""
    name, _, rest = vkey.partition("+")
    key_id, _, encoded = rest.partition("+")
    check_key_name(name)
    data = decode_base64(encoded)
    if key_id != key_id_of(name, data).hex():
        raise NoteError("the id of the verifier key does not belong to its key, or it has not the form name+id+key")
    return name, bytes.fromhex(key_id), data


def split_skey(skey: str) -> tuple[str, bytes, bytes]:
    """(name, id, type byte and key) of `PRIVATE+KEY+name+id+key`; raises NoteError. Whether they belong together is not checked."""
    parts = skey.strip().split("+", 4)
    if len(parts) != 5 or parts[:2] != ["PRIVATE", "KEY"] or not _KEY_ID.fullmatch(parts[3]):
        raise NoteError("not a note signer key (PRIVATE+KEY+name+id+key)")
    return parts[2], bytes.fromhex(parts[3]), decode_base64(parts[4])


def check_key_name(name: str) -> None:
    """Return if a key may have this name; raises NoteError."""
    if not _NAME.fullmatch(name) or _CONTROL.search(name):
        raise NoteError("the name of a key is not empty and has no spaces and no plus sign")


def key_id_of(name: str, typed_key: bytes) -> bytes:
    """The four bytes that stand for a key in the signature lines of its name; `typed_key` begins with the type byte."""
    return hashlib.sha256(name.encode() + b"\n" + typed_key).digest()[:4]


def decode_base64(text: str) -> bytes:
    """Decode canonical base64, or raise NoteError: `b64decode` alone takes several texts for the same bytes."""
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise NoteError("not base64") from error
    if b64encode(data).decode() != text:
        raise NoteError("not canonical base64")
    return data


def _hash(text: str) -> bytes:
    data = decode_base64(text)
    if len(data) != HASH_SIZE:
        raise NoteError("a hash has the wrong length")
    return data


def _hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    return tuple([_hash(line) for line in lines])


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise NoteError("not a decimal number without leading zeros")
    return int(text)


def _origin(text: str) -> str:
    if not text:
        raise NoteError("the origin is empty")
    return text
