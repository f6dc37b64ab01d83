"""CMS SignedData (RFC 5652) as time-stamp tokens are: one signer over one content, with signed attributes. Pure.

Rules:
1. DER, read strictly. Sets are not compared with their sorted form – OpenSSL 3.0 writes the certificates it adds in any
   order –, but the signed attributes are: their bytes are what is signed.
2. The signed attributes name the content's type, its digest, and the signer's certificate by its digest: by SHA-2 (RFC 5035
   signing-certificate-v2, as RFC 5816 has it), or, if that is missing, by SHA-1 (signing-certificate, RFC 2634), as OpenSSL 3.0
   does unless told otherwise. Both only say which of the certificates with the signer's own key is meant, and for that a
   second certificate for a given digest would have to be found, which nobody can for SHA-1 either.
3. Revocation lists in the token and unsigned attributes are not looked at.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from exchange.receipts.certificate_path import UNREADABLE
from exchange.timestamps import der
from exchange.timestamps.algorithms import Algorithm, verify
from exchange.timestamps.der import DerError, Reader, expect
from exchange.timestamps.stamp import StampError

_MOST_CERTIFICATES: Final = 16
_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.12"
_SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"
_VERSION: Final = 3
_KEY_IDENTIFIER: Final = der.context(0, constructed=False)

SignerId = tuple[bytes, int] | bytes
"""(Issuer's name, serial number) or key identifier of the signer's certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedData:
    """The parts of a SignedData that count."""

    content: bytes
    certificates: tuple[bytes, ...]
    signer: SignerId
    digest: Algorithm
    attributes: dict[str, bytes]
    """Signed attributes: object identifier -> the one value, whole."""
    signed: bytes
    """The signed attributes as the set that the signature is over."""
    signature_algorithm: Algorithm
    signature: bytes

    @classmethod
    def read(cls, data: bytes, content_type: str) -> SignedData:
        """Read a ContentInfo that holds a SignedData over a content of a type; raises DerError."""
        outermost = Reader(data)
        outer = outermost.inside(der.SEQUENCE)
        outermost.end()
        expect(outer.identifier() == _SIGNED_DATA, "no signed data")
        inside = outer.only(der.context(0)).inside(der.SEQUENCE)
        outer.end()
        expect(inside.integer() == _VERSION, "another version of signed data")
        declared = Algorithm.read(inside.only(der.SET))
        encapsulated = inside.inside(der.SEQUENCE)
        expect(encapsulated.identifier() == content_type, "signed data with another content")
        content = encapsulated.only(der.context(0)).value(der.OCTET_STRING)
        encapsulated.end()
        certificates: list[bytes] = []
        if inside.next_is(der.context(0)):
            certificates = inside.inside(der.context(0)).all(der.SEQUENCE)
        expect(len(certificates) <= _MOST_CERTIFICATES, "too many certificates")
        if inside.next_is(der.context(1)):
            inside.value(der.context(1))
        signer = inside.only(der.SET).inside(der.SEQUENCE)
        inside.end()
        version, signer_id = signer.integer(), _signer_id(signer)
        expect(version == (3 if isinstance(signer_id, bytes) else 1), "another version of signer information")
        digest = Algorithm.read(signer)
        expect(declared.digest == digest.digest, "the signer's digest algorithm is not the one that was declared")
        signed = der.write(der.SET, signer.value(der.context(0)))
        signature_algorithm, signature = Algorithm.read(signer), signer.value(der.OCTET_STRING)
        if signer.next_is(der.context(1)):
            signer.value(der.context(1))
        signer.end()
        return cls(
            content=content,
            certificates=tuple(certificates),
            signer=signer_id,
            digest=digest,
            attributes=_attributes(signed),
            signed=signed,
            signature_algorithm=signature_algorithm,
            signature=signature,
        )

    def named(self) -> x509.Certificate | None:
        """The certificate that the signer information names, if it is there; raises StampError if one cannot be read."""
        return next((each for each in map(load, self.certificates) if _is_named(each, self.signer)), None)

    def check(self, content_type: str) -> tuple[x509.Certificate, list[x509.Certificate]]:
        """Check the signature (RFC 5652 section 5.6).

        Returns:
            The signer's certificate and the others; whether they are believed is for the caller to find out.

        Raises:
            StampError: It does not verify, or the signer's certificate is not there.
        """
        signer, others = self._signer()
        if self.attributes.get(_CONTENT_TYPE) != der.write_identifier(content_type):
            raise StampError(
                "the signature does not say what it is over (content-type)", "签名未声明其对象（content-type）"
            )
        digest = hashlib.new(self.digest.digest, self.content).digest()
        if self.attributes.get(_MESSAGE_DIGEST) != der.write(der.OCTET_STRING, digest):
            raise StampError(
                "the signature is over something else (message-digest)", "签名针对其他内容（message-digest）"
            )
        try:
            key = signer.public_key()
        except (ValueError, *UNREADABLE) as error:
            raise StampError("the signer's key cannot be read", "签发者的密钥无法读取") from error
        verify(key, self.signature_algorithm, self.digest.digest, self.signature, self.signed)
        return signer, others

    def _signer(self) -> tuple[x509.Certificate, list[x509.Certificate]]:
        algorithm, digest = self._reference()
        others = list(self.certificates)
        for certificate in self.certificates:
            if hmac.compare_digest(hashlib.new(algorithm, certificate).digest(), digest):
                others.remove(certificate)
                loaded = load(certificate)
                if _is_named(loaded, self.signer):
                    return loaded, [load(each) for each in others]
        raise StampError("the token does not hold its signer's certificate", "该时间戳令牌不含签发者的证书")

    def _reference(self) -> tuple[str, bytes]:
        """Digest algorithm and digest of the signer's certificate, as the signed attributes have it."""
        newer, older = (self.attributes.get(each) for each in (_SIGNING_CERTIFICATE_V2, _SIGNING_CERTIFICATE))
        try:
            if newer is not None:
                first = _first_reference(newer)
                algorithm = Algorithm.read(first).digest if first.next_is(der.SEQUENCE) else "sha256"
                return algorithm, first.value(der.OCTET_STRING)
            if older is not None:
                return "sha1", _first_reference(older).value(der.OCTET_STRING)
        except DerError as error:
            raise StampError(f"signing-certificate: {error}", f"signing-certificate：{error}") from error
        raise StampError(
            "the signature does not name its signer's certificate (signing-certificate-v2)",
            "签名未指明签发者的证书（signing-certificate-v2）",
        )


def load(certificate: bytes) -> x509.Certificate:
    """Raises StampError for what is no certificate, or has names that cannot be read."""
    try:
        loaded = x509.load_der_x509_certificate(certificate)
        _ = loaded.subject, loaded.issuer  # read when they are first asked for
    except (ValueError, *UNREADABLE) as error:
        raise StampError("a certificate in the token cannot be read", "时间戳令牌中的证书无法读取") from error
    return loaded


def _first_reference(attribute: bytes) -> Reader:
    """ESSCertID or ESSCertIDv2 of the signer; those that follow would be of its CAs."""
    return Reader(attribute).inside(der.SEQUENCE).inside(der.SEQUENCE).inside(der.SEQUENCE)


def _signer_id(signer: Reader) -> SignerId:
    if signer.next_is(_KEY_IDENTIFIER):
        return signer.value(_KEY_IDENTIFIER)
    named = signer.inside(der.SEQUENCE)
    found = (named.whole(der.SEQUENCE), named.integer())
    named.end()
    return found


def _attributes(signed: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    before = b""
    for whole in Reader(signed).inside(der.SET).all(der.SEQUENCE):
        expect(before < whole, "the signed attributes are not in order")
        before = whole
        attribute = Reader(whole).inside(der.SEQUENCE)
        identifier, values = attribute.identifier(), attribute.only(der.SET)
        attribute.end()
        expect(identifier not in found, "a signed attribute stands there twice")
        found[identifier] = values.any_whole()
    return found


def _is_named(certificate: x509.Certificate, signer: SignerId) -> bool:
    """Whether a certificate is the one that the signer information names."""
    if isinstance(signer, tuple):
        return (certificate.issuer.public_bytes(), certificate.serial_number) == signer
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError, *UNREADABLE):
        return False
    return identifier.value.digest == signer
