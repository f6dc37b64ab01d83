"""A time-stamping authority for tests. Its tokens are written with asn1crypto and so by other code than reads them.

What it does right unless told otherwise, it can do wrong in every way that a test wants.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

POLICY = "1.2.156.10197.9.9"
TEXT = b"log.example/test\n42\nq3Kq9yW6cTSMz0iXVfO2m2dHNQXhvQ4mKJ0P2p3yU8E=\n"
DAY = timedelta(days=1)

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def name(common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA."""

    certificate: x509.Certificate
    key: Key

    @classmethod
    def root(cls, common_name: str = "时间根", **changes: Any) -> Issuer:
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(certify(common_name, key, None, key, ca=True, **changes), key)

    def sub(self, common_name: str, **changes: Any) -> Issuer:
        key = ec.generate_private_key(ec.SECP256R1())
        return Issuer(certify(common_name, key, self.certificate, self.key, ca=True, **changes), key)


def certify(
    common_name: str,
    key: Key,
    issuer: x509.Certificate | None,
    issuer_key: Key,
    *,
    ca: bool = False,
    purposes: Sequence[x509.ObjectIdentifier] | None = None,
    critical: bool = True,
    usage: bool = True,
    begins: datetime | None = None,
    ends: datetime | None = None,
    digest: hashes.HashAlgorithm | None = None,
    path_length: int | None = None,
) -> x509.Certificate:
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(issuer.subject if issuer is not None else name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - DAY)
        .not_valid_after(ends or now + DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(
            x509.KeyUsage(usage and not ca, False, not usage and not ca, False, False, ca, ca, False, False),
            critical=True,
        )
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=critical)
    return builder.sign(issuer_key, digest or hashes.SHA256())


@dataclass(kw_only=True)
class Tsa:
    """One authority: a key, its certificate, and what it writes. Fields are what it does; a test changes them."""

    key: Key
    certificate: x509.Certificate
    above: Sequence[x509.Certificate] = ()
    """Sent along."""
    policy: str = POLICY
    digest: str = "sha256"
    """Of the signature."""
    pss: bool = False
    by_key_identifier: bool = False
    reference: Literal["v2", "v1", "both", "other", ""] = "v2"
    drop: Sequence[str] = ()
    """Signed attributes that it forgets."""
    clock: timedelta = timedelta(0)
    nonce: Literal["same", "other", "none"] = "same"
    status: str = "granted"
    text: bytes | None = None
    """What it stamps instead of what it is asked to."""
    keep_certificates: bool = True
    tst: dict[str, Any] = field(default_factory=dict)
    """Further fields of TSTInfo."""
    tail: bytes = b""
    """More in TSTInfo, which nobody knows."""
    mask_digest: str = ""
    """Of PSS's mask; empty: that of the signature."""
    asked: list[tsp.TimeStampReq] = field(default_factory=list)

    def respond(self, request: bytes) -> bytes:
        """A TimeStampResp."""
        asked = tsp.TimeStampReq.load(request, strict=True)
        self.asked.append(asked)
        status: dict[str, Any] = {"status": self.status}
        if self.status not in ("granted", "granted_with_mods"):
            status |= {"status_string": ["今天不盖章\x07"], "fail_info": {"time_not_available"}}
            # asn1crypto does not know that the token may be missing.
            return core.SequenceOf([tsp.PKIStatusInfo(status)], spec=tsp.PKIStatusInfo).dump()
        imprint = asked["message_imprint"]
        algorithm = imprint["hash_algorithm"]["algorithm"].native
        digest = imprint["hashed_message"].native
        if self.text is not None:
            digest = hashlib.new(algorithm, self.text).digest()
        nonce = {"same": asked["nonce"].native, "other": secrets.randbits(63), "none": None}[self.nonce]
        token = self.token(digest, algorithm=algorithm, nonce=nonce)
        return tsp.TimeStampResp({"status": status, "time_stamp_token": cms.ContentInfo.load(token)}).dump()

    def stamp(self, text: bytes = TEXT, *, algorithm: str = "sha256", nonce: int | None = None) -> bytes:
        """A token over a text."""
        return self.token(hashlib.new(algorithm, text).digest(), algorithm=algorithm, nonce=nonce)

    def token(self, digest: bytes, *, algorithm: str = "sha256", nonce: int | None = None) -> bytes:
        info: dict[str, Any] = {
            "version": "v1",
            "policy": self.policy,
            "message_imprint": {"hash_algorithm": {"algorithm": algorithm}, "hashed_message": digest},
            "serial_number": secrets.randbits(64),
            "gen_time": (datetime.now(UTC) + self.clock).replace(microsecond=0),
            "accuracy": {"seconds": 1, "millis": 500},
            "nonce": nonce,
            **self.tst,
        }
        read = tsp.TSTInfo({name: value for name, value in info.items() if value is not None})
        content = core.Sequence(contents=read.dump()[len(read.dump()) - len(read.contents) :] + self.tail).dump()
        attributes = self._attributes(content)
        return cms.ContentInfo(
            {
                "content_type": "signed_data",
                "content": {
                    "version": "v3",
                    "digest_algorithms": [{"algorithm": self.digest}],
                    "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(content)},
                    "certificates": self._certificates(),
                    "signer_infos": [self._signer_info(attributes)],
                },
            }
        ).dump()

    def _certificates(self) -> list[cms.CertificateChoices]:
        if not self.keep_certificates:
            return []
        return [
            cms.CertificateChoices(
                name="certificate", value=asn1_x509.Certificate.load(each.public_bytes(Encoding.DER))
            )
            for each in (self.certificate, *self.above)
        ]

    def _attributes(self, content: bytes) -> cms.CMSAttributes:
        der = self.certificate.public_bytes(Encoding.DER)
        if self.reference == "other":
            der += b"\x00"
        found: dict[str, Any] = {
            "content_type": "tst_info",
            "message_digest": hashlib.new(self.digest, content).digest(),
            "signing_time": core.UTCTime(datetime.now(UTC)),
        }
        if self.reference in ("v1", "both"):
            found["signing_certificate"] = tsp.SigningCertificate(
                {"certs": [{"cert_hash": hashlib.sha1(der).digest()}]}
            )
        if self.reference in ("v2", "both", "other"):
            found["signing_certificate_v2"] = tsp.SigningCertificateV2(
                {"certs": [{"hash_algorithm": {"algorithm": "sha256"}, "cert_hash": hashlib.sha256(der).digest()}]}
            )
        return cms.CMSAttributes(
            [
                cms.CMSAttribute({"type": kind, "values": [value]})
                for kind, value in found.items()
                if kind not in self.drop
            ]
        )

    def _signer_info(self, attributes: cms.CMSAttributes) -> cms.SignerInfo:
        algorithm, signature = self._sign(attributes.untag().dump())
        loaded = asn1_x509.Certificate.load(self.certificate.public_bytes(Encoding.DER))
        sid = (
            cms.SignerIdentifier(name="subject_key_identifier", value=loaded.key_identifier)
            if self.by_key_identifier
            else cms.SignerIdentifier(
                name="issuer_and_serial_number",
                value=cms.IssuerAndSerialNumber({"issuer": loaded.issuer, "serial_number": loaded.serial_number}),
            )
        )
        return cms.SignerInfo(
            {
                "version": "v3" if self.by_key_identifier else "v1",
                "sid": sid,
                "digest_algorithm": {"algorithm": self.digest},
                "signed_attrs": attributes,
                "signature_algorithm": algorithm,
                "signature": signature,
            }
        )

    def _sign(self, message: bytes) -> tuple[algos.SignedDigestAlgorithm, bytes]:
        hashed = _HASHES[self.digest]
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            algorithm = algos.SignedDigestAlgorithm({"algorithm": f"{self.digest}_ecdsa"})
            return algorithm, self.key.sign(message, ec.ECDSA(hashed))
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return algos.SignedDigestAlgorithm({"algorithm": "ed25519"}), self.key.sign(message)
        if not self.pss:
            algorithm = algos.SignedDigestAlgorithm({"algorithm": "rsassa_pkcs1v15"})
            return algorithm, self.key.sign(message, padding.PKCS1v15(), hashed)
        named, mask = {"algorithm": self.digest}, self.mask_digest or self.digest
        parameters = {
            "hash_algorithm": named,
            "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": {"algorithm": mask}},
            "salt_length": hashed.digest_size,
        }
        algorithm = algos.SignedDigestAlgorithm({"algorithm": "rsassa_pss", "parameters": parameters})
        pss = padding.PSS(padding.MGF1(_HASHES[mask]), salt_length=hashed.digest_size)
        return algorithm, self.key.sign(message, pss, hashed)


def make_tsa(issuer: Issuer, key: Key | None = None, *, above: Sequence[x509.Certificate] = (), **changes: Any) -> Tsa:
    """An authority under a CA. `changes` are those of its certificate."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    settings: dict[str, Any] = {"purposes": [ExtendedKeyUsageOID.TIME_STAMPING], **changes}
    certificate = certify("国家时间", key, issuer.certificate, issuer.key, **settings)
    return Tsa(key=key, certificate=certificate, above=above)
