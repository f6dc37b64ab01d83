"""A key with its certificate: what a gateway or an adapter seals with, and is known by on the bus."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from exchange.signatures.seal import PrivateKey, PublicKey

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


class IdentityError(ValueError):
    """A certificate or key file cannot be used; the message names the file."""


@dataclass(frozen=True, slots=True)
class SigningIdentity:
    """A private key and the certificate that names its holder."""

    key: PrivateKey
    certificate: x509.Certificate
    fingerprint: str
    """SHA-256 of the certificate's DER, lower-case hex."""
    uri: str
    """The holder's URI in the subject alternative name: its name on the bus."""


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER, lower-case hex."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def sealing_key(certificate: x509.Certificate) -> PublicKey:
    """The certificate's public key, if it is of a kind that seals (a NIST curve or Ed25519); raises IdentityError."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"the certificate's key is of no known kind: {error}") from error
    if isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)
    ):
        return key
    raise IdentityError("only keys on NIST curves and Ed25519 keys seal")


def load_identity(certificate: Path, key: Path) -> SigningIdentity:
    """Read a PEM certificate (the first of the file) and its PEM key.

    Raises:
        IdentityError: A file is missing or not PEM, the two do not belong together, or the certificate names nobody.
    """
    cert = _read_certificates(certificate)[0]
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{key}: {error}") from error
    try:
        public = sealing_key(cert)
    except IdentityError as error:
        raise IdentityError(f"{certificate}: {error}") from error
    if (
        not isinstance(private, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
        or private.public_key() != public
    ):
        raise IdentityError(f"{key} is not the key of {certificate}")
    return SigningIdentity(private, cert, fingerprint_of(cert), _uri_of(cert, certificate))


def certificate_uri(certificate: Path) -> str:
    """The URI that names the holder of a PEM certificate; raises IdentityError."""
    return _uri_of(_read_certificates(certificate)[0], certificate)


def _read_certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IdentityError(f"{path}: {error}") from error


def _uri_of(certificate: x509.Certificate, path: Path) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)[0]
    except (x509.ExtensionNotFound, IndexError) as error:
        raise IdentityError(f"{path} has no URI in its subject alternative name") from error
    except (ValueError, x509.DuplicateExtension) as error:
        raise IdentityError(f"{path}: {error}") from error


def load_sealing_keys(bundle: Path) -> dict[str, PublicKey]:
    """Fingerprint -> key of each certificate in a PEM bundle; raises IdentityError."""
    certificates = _read_certificates(bundle)
    try:
        return {fingerprint_of(certificate): sealing_key(certificate) for certificate in certificates}
    except IdentityError as error:
        raise IdentityError(f"{bundle}: {error}") from error


def bus_tls(certificate: Path, key: Path, trust_anchors: Path) -> ssl.SSLContext:
    """TLS 1.3 towards the bus, both sides with certificates; raises IdentityError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(trust_anchors)
        context.load_cert_chain(certificate, key, password="")  # or OpenSSL asks on the terminal
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(f"{certificate}, {key}, {trust_anchors}: {error}") from error
    return context
