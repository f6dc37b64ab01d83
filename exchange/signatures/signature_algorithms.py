"""The algorithms of RFC 9421 section 3.3 that the mesh accepts, one for each kind of key. Pure.

Rules:
1. The key decides the algorithm: P-256 `ecdsa-p256-sha256`, P-384 `ecdsa-p384-sha384`, Ed25519 `ed25519`, RSA
   `rsa-pss-sha512`. A record that holds signature and certificate can therefore mean one thing only.
2. `rsa-v1_5-sha256` would be a second reading of an RSA key, with the weaker proof: refused. `hmac-sha256` proves
   nothing to a third party: refused. RFC 9421 has no algorithm for P-521.
3. An ECDSA signature is `r || s`, each of the curve's length, never DER.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
VerifyingKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

ALGORITHMS: Final = ("ecdsa-p256-sha256", "ecdsa-p384-sha384", "ed25519", "rsa-pss-sha512")

_ECDSA: Final[dict[str, tuple[str, int, ec.ECDSA]]] = {
    "secp256r1": ("ecdsa-p256-sha256", 32, ec.ECDSA(hashes.SHA256())),
    "secp384r1": ("ecdsa-p384-sha384", 48, ec.ECDSA(hashes.SHA384())),
}
_SHA512: Final = hashes.SHA512()
_PSS: Final = padding.PSS(mgf=padding.MGF1(_SHA512), salt_length=64)
_RSA_BITS: Final = range(2048, 8193)


class UnsuitableKeyError(ValueError):
    """The key has no algorithm here."""


class SignatureMismatchError(ValueError):
    """The signature is not the key's over the message."""


def algorithm_of(key: object) -> str:
    """The name of the one algorithm for a public or private key; raises UnsuitableKeyError."""
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        if key.curve.name in _ECDSA:
            return _ECDSA[key.curve.name][0]
        raise UnsuitableKeyError(f"RFC 9421 has no algorithm for the curve {key.curve.name}")
    if isinstance(key, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        if key.key_size in _RSA_BITS:
            return "rsa-pss-sha512"
        raise UnsuitableKeyError(f"an RSA key of {key.key_size} bits; 2048 to 8192 sign requests")
    raise UnsuitableKeyError("only P-256, P-384, Ed25519 and RSA keys sign requests")


def sign(key: SigningKey, message: bytes) -> bytes:
    """Sign with the algorithm of the key; raises UnsuitableKeyError."""
    algorithm_of(key)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        _, size, ecdsa = _ECDSA[key.curve.name]
        r, s = decode_dss_signature(key.sign(message, ecdsa))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    return key.sign(message, _PSS, _SHA512)


def verify(key: VerifyingKey, signature: bytes, message: bytes) -> None:
    """Return if the signature is the key's over the message.

    Raises:
        SignatureMismatchError: It is not, or not of this form.
        UnsuitableKeyError: The key has no algorithm here.
    """
    algorithm_of(key)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            _, size, ecdsa = _ECDSA[key.curve.name]
            if len(signature) != 2 * size:
                raise SignatureMismatchError(f"an ECDSA signature on {key.curve.name} has {2 * size} bytes: r || s")
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(encode_dss_signature(r, s), message, ecdsa)
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, _PSS, _SHA512)
    except InvalidSignature as error:
        raise SignatureMismatchError("the signature does not verify") from error
