"""Seals: one signature for all statements finished together (`exchange.turns`).

Rules:
1. The statements are the leaves of an RFC 9162 tree; only its root is signed. A seal carries the signature, the
   leaf's index, the tree's size and the inclusion path. One statement alone is a tree of one leaf: a plain signature.
   Index and size say how to walk the path, and are no claims: what is proven is that the statement is under the root.
2. What is signed is `context || root`. The context separates questions from answers: one can never pass for the other.
3. A seal never names its signer. The statement does (by certificate fingerprint), so the signer is under the signature.
4. A verified root is remembered, bounded, together with the key that signed it: the other leaves of that tree cost hashes only.

Layout of a seal, big-endian: version 0x01, index u16, size u16, signature length u8, signature, path (32 bytes each).
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from exchange.transparency.merkle import ProofError, hash_leaf, inclusion_proofs, root_from_inclusion_proof

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

QUERY_CONTEXT = b"datong/query-seal/1\n"
ANSWER_CONTEXT = b"datong/answer-seal/1\n"
OPENING_CONTEXT = b"datong/opening-seal/1\n"

_HEAD = struct.Struct(">BHHB")
_ECDSA_SHA256 = ec.ECDSA(hashes.SHA256())
MAX_BATCH = 1024


class SealError(ValueError):
    """The seal is malformed, or does not prove that the key's holder sealed the statement."""


def sign(key: PrivateKey, message: bytes) -> bytes:
    """Sign with the algorithm of the key: ECDSA with SHA-256 on a NIST curve (DER), or Ed25519."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    return key.sign(message, _ECDSA_SHA256)


def check_signature(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Return if `signature` is the key's over `message`; raises SealError otherwise."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, _ECDSA_SHA256)
    except InvalidSignature as error:
        raise SealError("the signature does not verify") from error


def seal_all(key: PrivateKey, context: bytes, statements: Sequence[bytes]) -> list[bytes]:
    """Seal 1 to MAX_BATCH statements with one signature; one seal for each, in order."""
    root, proofs = inclusion_proofs([hash_leaf(statement) for statement in statements])
    signature = sign(key, context + root)
    size, length = len(proofs), len(signature)
    return [_HEAD.pack(1, index, size, length) + signature + proof for index, proof in enumerate(proofs)]


def open_seal(seal: bytes, statement: bytes) -> tuple[bytes, bytes]:
    """Return (root, signature) that the seal claims for the statement; raises SealError if it is malformed.

    The signature is not checked here.
    """
    try:
        version, index, size, length = _HEAD.unpack_from(seal)
    except struct.error as error:
        raise SealError("the seal is too short") from error
    start = _HEAD.size + length
    rest = len(seal) - start
    if version != 1 or rest < 0 or rest % 32 or size > MAX_BATCH:
        raise SealError("the seal is malformed")
    path = [seal[at : at + 32] for at in range(start, len(seal), 32)]
    try:
        root = root_from_inclusion_proof(hash_leaf(statement), index, size, path)
    except ProofError as error:
        raise SealError("the seal's path does not fit") from error
    return root, seal[_HEAD.size : start]


def check_seal(key: PublicKey, context: bytes, seal: bytes, statement: bytes) -> None:
    """Return if the seal proves that the key's holder sealed the statement; raises SealError otherwise."""
    root, signature = open_seal(seal, statement)
    check_signature(key, signature, context + root)


class SealVerifier:
    """Checks seals, each signed root once."""

    def __init__(self, context: bytes, remember: int = 4096) -> None:
        self._context = context
        self._remember = remember
        self._verified: OrderedDict[tuple[str, bytes, bytes], None] = OrderedDict()

    def check(self, signer: str, key: PublicKey, seal: bytes, statement: bytes) -> None:
        """Return if the seal proves that the holder of `key` sealed the statement; raises SealError otherwise.

        Args:
            signer: Names the key in the memory of verified roots; a fingerprint. The caller pairs it with `key`.
        """
        root, signature = open_seal(seal, statement)
        entry = (signer, root, signature)
        if entry in self._verified:
            return
        check_signature(key, signature, self._context + root)
        self._verified[entry] = None
        if len(self._verified) > self._remember:
            self._verified.popitem(last=False)
