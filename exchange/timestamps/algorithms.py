"""The algorithms of time-stamp tokens that count here, and verifying with them. Pure.

Rules:
1. SHA-256, SHA-384 and SHA-512; RSA of 2048 to 8192 bits (PKCS #1 v1.5 and PSS), ECDSA on P-256, P-384 and P-521.
2. The signer's digest algorithm, the one inside the signature's name and PSS's two are one and the same.
3. Parameters are absent or NULL where there are none (RFC 5754), and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from exchange.timestamps import der
from exchange.timestamps.der import DerError, Reader, expect
from exchange.timestamps.stamp import StampError

DIGESTS: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
"""Object identifier -> name in `hashlib`."""

_RSA_BITS: Final = range(2048, 8193)
_CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_RSA: Final = "1.2.840.113549.1.1.1"
_RSA_PSS: Final = "1.2.840.113549.1.1.10"
_MGF1: Final = "1.2.840.113549.1.1.8"
_RSA_WITH: Final = {
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
}
_ECDSA_WITH: Final = {"1.2.840.10045.4.3.2": "sha256", "1.2.840.10045.4.3.3": "sha384", "1.2.840.10045.4.3.4": "sha512"}
_HASHES: Final[dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_NULL_VALUE: Final = bytes([der.NULL, 0])
_LONGEST_SALT: Final = 64
_SALT_UNSAID: Final = 20


@dataclass(frozen=True, slots=True)
class Algorithm:
    """AlgorithmIdentifier: which, and its parameters as they stand; empty if there are none."""

    identifier: str
    parameters: bytes

    @classmethod
    def read(cls, reader: Reader) -> Algorithm:
        """The next value; raises DerError."""
        inside = reader.inside(der.SEQUENCE)
        algorithm = cls(inside.identifier(), inside.any_whole() if inside.more else b"")
        inside.end()
        return algorithm

    @property
    def digest(self) -> str:
        """The name in `hashlib`; raises StampError if it is no digest that counts."""
        if self.identifier not in DIGESTS or self.parameters not in (b"", _NULL_VALUE):
            raise _uncounted(self.identifier)
        return DIGESTS[self.identifier]


def digest_size(name: str) -> int:
    """Bytes of a digest."""
    return _HASHES[name].digest_size


def verify(key: object, algorithm: Algorithm, digest: str, signature: bytes, message: bytes) -> None:
    """Return if the signature is the key's over the message.

    Args:
        algorithm: The signature algorithm of the signer information.
        digest: Name of its digest algorithm.

    Raises:
        StampError: It is not, or the algorithm does not count.
    """
    hashed = _HASHES[digest]
    try:
        if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS:
            key.verify(signature, message, _padding(algorithm, digest), hashed)
        elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
            if _ECDSA_WITH.get(algorithm.identifier) != digest or algorithm.parameters:
                raise _uncounted(algorithm.identifier)
            key.verify(signature, message, ec.ECDSA(hashed))
        else:
            raise StampError("the signer's key does not count here", "不接受签发者的密钥")
    except (InvalidSignature, UnsupportedAlgorithm) as error:
        raise StampError("the signature of the token does not verify", "时间戳令牌的签名验证失败") from error


def _padding(algorithm: Algorithm, digest: str) -> padding.PKCS1v15 | padding.PSS:
    if algorithm.identifier == _RSA_PSS:
        return _pss(algorithm.parameters, digest)
    # With the bare name of RSA the digest stands beside it only.
    named = digest if algorithm.identifier == _RSA else _RSA_WITH.get(algorithm.identifier)
    if named != digest or algorithm.parameters not in (b"", _NULL_VALUE):
        raise _uncounted(algorithm.identifier)
    return padding.PKCS1v15()


def _pss(parameters: bytes, digest: str) -> padding.PSS:
    """RSASSA-PSS-params (RFC 4055)."""
    try:
        outer = Reader(parameters)
        inside = outer.inside(der.SEQUENCE)
        outer.end()
        names = [Algorithm.read(inside.only(der.context(0))).digest]
        mask = inside.only(der.context(1)).inside(der.SEQUENCE)
        expect(mask.identifier() == _MGF1, "another mask generation function")
        names.append(Algorithm.read(mask).digest)
        mask.end()
        salt = inside.only(der.context(2)).integer() if inside.next_is(der.context(2)) else _SALT_UNSAID
        if inside.next_is(der.context(3)):
            expect(inside.only(der.context(3)).integer() == 1, "another trailer")
        inside.end()
    except DerError as error:
        raise StampError(f"RSASSA-PSS parameters: {error}", f"RSASSA-PSS 参数：{error}") from error
    if names != [digest, digest] or not 0 <= salt <= _LONGEST_SALT:
        raise _uncounted(_RSA_PSS)
    return padding.PSS(mgf=padding.MGF1(_HASHES[digest]), salt_length=salt)


def _uncounted(identifier: str) -> StampError:
    return StampError(f"the algorithm {identifier} does not count here", f"不接受算法 {identifier}")
