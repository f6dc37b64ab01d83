"""What is taken from a certificate signing request (PKCS #10, RFC 2986): its public key, and the proof of possession. Pure.

Rules:
1. Nothing else: names and extensions in it are ignored, since whoever sends it wrote them. Who the certificate is for
   comes from the operator of the CA, or from the certificate that is being renewed.
2. Its signature verifies with its own key and is made with SHA-256 or better, or Ed25519.
3. Keys: RSA of 2048 to 8192 bits in whole bytes with a usual exponent, P-256, P-384, P-521, Ed25519.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ca_auth.issuing.issuance import LeafKey
from exchange import UnprocessableError

LONGEST_CSR: Final = 16_384
"""Bytes of the longest request that is looked at; one with RSA-8192 takes 5 KB as PEM."""

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def read_request(content: bytes) -> LeafKey:
    """Return the public key of a signing request whose holder has proven to have the private key.

    Args:
        content: PEM or DER.

    Raises:
        UnprocessableError: With rule `csr-form`, `csr-key` or `csr-signature`.
    """
    if len(content) > LONGEST_CSR:
        raise _refused("csr-form", "The signing request is too long.", "签名请求过长。")
    try:
        pem = content.lstrip().startswith(b"-----BEGIN")
        request = x509.load_pem_x509_csr(content) if pem else x509.load_der_x509_csr(content)
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _refused("csr-form", "This is not a PKCS #10 signing request.", "不是 PKCS #10 证书签名请求。") from error
    checked = check_key(key)
    try:
        proven = request.is_signature_valid
        algorithm = request.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _refused(
            "csr-signature",
            "The signing request is signed with an unknown algorithm.",
            "签名请求使用了未知的签名算法。",
        ) from error
    if not proven:
        raise _refused(
            "csr-signature",
            "The signing request was not signed with the key it names.",
            "签名请求不是用其所含密钥签名的。",
        )
    if algorithm is not None and not isinstance(algorithm, _HASHES):
        raise _refused(
            "csr-signature",
            "The signing request must be signed with SHA-256 or better.",
            "签名请求须使用 SHA-256 或更强的算法。",
        )
    return checked


def check_key(key: object) -> LeafKey:
    """Return `key` if a certificate of the mesh may carry it; raises UnprocessableError (rule `csr-key`)."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 8192 and not key.key_size % 8:
        exponent = key.public_numbers().e
        if exponent % 2 and 65_537 <= exponent < 1 << 256:
            return key
    raise _refused(
        "csr-key",
        "Certificates are issued for RSA keys of 2048 bits and more, P-256, P-384, P-521 and Ed25519.",
        "仅为 2048 位以上的 RSA、P-256、P-384、P-521 与 Ed25519 密钥签发证书。",
    )


def key_hash(key: LeafKey) -> str:
    """Lower-case hex SHA-256 of the key's SubjectPublicKeyInfo."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _refused(rule: str, english: str, chinese: str) -> UnprocessableError:
    return UnprocessableError(rule, problem=english, problem_zh=chinese)
