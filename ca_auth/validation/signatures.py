"""Signatures on certificates, CRLs and OCSP answers: which kinds are known, and whether one is right. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import ObjectIdentifier, SignatureAlgorithmOID

_FAMILIES: Final[tuple[tuple[str, Literal["rsa", "ecdsa", "dsa"]], ...]] = (
    ("1.2.840.113549.1.1.", "rsa"),
    ("1.3.14.3.2.29", "rsa"),
    ("1.2.840.10045.4.", "ecdsa"),
    ("1.2.840.10040.4.", "dsa"),
    ("2.16.840.1.101.3.4.3.", "dsa"),
)
_STRONG: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_BROKEN: Final = (hashes.MD5,)
"""A signature with these proves nothing to anybody."""
MAX_RSA_BITS: Final = 16384
MAX_RSA_EXPONENT_BITS: Final = 64
MAX_DSA_BITS: Final = 3072
"""Beyond these a single verification takes long enough to be an attack."""


class SignatureKindError(Exception):
    """The signature or key is of a kind that is not accepted or not supported."""


class Signed(Protocol):
    """What `cryptography` says of any signature."""

    @property
    def signature_algorithm_oid(self) -> ObjectIdentifier: ...
    @property
    def signature_hash_algorithm(self) -> hashes.HashAlgorithm | None: ...


class SignedWithParameters(Signed, Protocol):
    """And of one on a certificate or CRL."""

    @property
    def signature_algorithm_parameters(self) -> object: ...


@dataclass(frozen=True, slots=True)
class SignatureKind:
    """How something is signed."""

    family: Literal["rsa", "ecdsa", "dsa", "ed25519", "ed448"]
    digest: hashes.HashAlgorithm | None
    pss: padding.PSS | None = None

    @classmethod
    def of(cls, signed: SignedWithParameters) -> SignatureKind:
        """Return the kind of the signature on a certificate or CRL.

        Raises:
            SignatureKindError: It is not supported, or rests on a broken hash.
        """
        try:
            parameters = signed.signature_algorithm_parameters
        except (UnsupportedAlgorithm, ValueError, TypeError) as error:
            raise SignatureKindError(f"signature algorithm {signed.signature_algorithm_oid.dotted_string}") from error
        pss = parameters if isinstance(parameters, padding.PSS) else None
        return cls.named(signed, pss)

    @classmethod
    def named(cls, signed: Signed, pss: padding.PSS | None = None) -> SignatureKind:
        """As `of`, for an OCSP answer, of which the parameters are not known: RSASSA-PSS is refused.

        Raises:
            SignatureKindError: It is not supported, or rests on a broken hash.
        """
        identifier = signed.signature_algorithm_oid
        if identifier == SignatureAlgorithmOID.ED25519:
            return cls("ed25519", None)
        if identifier == SignatureAlgorithmOID.ED448:
            return cls("ed448", None)
        try:
            digest = signed.signature_hash_algorithm
        except (UnsupportedAlgorithm, ValueError) as error:
            raise SignatureKindError(f"signature algorithm {identifier.dotted_string}") from error
        for beginning, family in _FAMILIES:
            if identifier.dotted_string.startswith(beginning) and digest is not None:
                if isinstance(digest, _BROKEN):
                    raise SignatureKindError(f"a signature with {digest.name}")
                if identifier == SignatureAlgorithmOID.RSASSA_PSS and pss is None:
                    raise SignatureKindError("RSASSA-PSS with parameters that cannot be read")
                return cls(family, digest, pss)
        raise SignatureKindError(f"signature algorithm {identifier.dotted_string}")

    @property
    def is_strong(self) -> bool:
        """Whether the key policy accepts it: SHA-256, SHA-384 or SHA-512 with RSA or ECDSA, or Ed25519."""
        return self.family == "ed25519" or (self.family in ("rsa", "ecdsa") and isinstance(self.digest, _STRONG))


def is_signed_by(key: CertificatePublicKeyTypes, kind: SignatureKind, signature: bytes, signed: bytes) -> bool:
    """Whether `key` made `signature` over `signed`.

    Raises:
        SignatureKindError: The algorithm is not one for this kind of key, or the key cannot be used.
    """
    try:
        match kind.family, key:
            case "rsa", rsa.RSAPublicKey() if kind.digest is not None:
                if key.key_size > MAX_RSA_BITS or key.public_numbers().e.bit_length() > MAX_RSA_EXPONENT_BITS:
                    raise SignatureKindError("an RSA key with numbers that are too large")
                key.verify(signature, signed, kind.pss or padding.PKCS1v15(), kind.digest)
            case "ecdsa", ec.EllipticCurvePublicKey() if kind.digest is not None:
                key.verify(signature, signed, ec.ECDSA(kind.digest))
            case "dsa", dsa.DSAPublicKey() if kind.digest is not None:
                if key.key_size > MAX_DSA_BITS:
                    raise SignatureKindError("a DSA key with numbers that are too large")
                key.verify(signature, signed, kind.digest)
            case "ed25519", ed25519.Ed25519PublicKey():
                key.verify(signature, signed)
            case "ed448", ed448.Ed448PublicKey():
                key.verify(signature, signed)
            case _:
                raise SignatureKindError(f"{kind.family} signature, another kind of key")
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise SignatureKindError(str(error)) from error
    return True
