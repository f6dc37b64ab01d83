"""A department's side of enrolment and renewal: a key made here, a signing request out, a checked certificate back.

Rules:
1. The key never leaves; what is sent is a signing request, and for enrolment the code.
2. Enrolment trusts a root by its fingerprint alone. The root is fetched first, over a connection that proves nothing and
   carries nothing; if its fingerprint is not the pinned one, nothing else is sent. Then TLS is verified with that root.
3. A certificate is taken only if it is for the key made here, leads to the pinned root (or, renewed, to one that is trusted
   already and to the same names as before) and is valid now.

Calls block: off the event loop with them.
"""

from __future__ import annotations

import hmac
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca_auth.edge.client_cert import fingerprint_of
from ca_auth.issuing.ca_errors import EnrolmentError
from ca_auth.issuing.durable_files import PUBLIC, replace_file
from ca_auth.issuing.held_certificate import HeldCertificate
from exchange import Language

CA_PATH: Final = "/v1/certificates/ca"
ENROLMENTS_PATH: Final = "/v1/certificates/enrolments"
RENEWALS_PATH: Final = "/v1/certificates/renewals"
_MOST_CERTIFICATES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What came of an enrolment."""

    held: HeldCertificate
    trust_anchors: Path
    certificate: x509.Certificate


def enrol(
    url: str, code: str, root_fingerprint: str, folder: Path, *, name: str = "client", language: Language = "en"
) -> Enrolled:
    """Exchange a one-time code for a certificate: `<name>.key`, `<name>.crt` (with its chain) and `ca.pem` in `folder`.

    If it fails or is interrupted, the same call again is safe, and gets the same certificate if one was issued.

    Args:
        url: https address of the CA or of a gateway that speaks for it.
        root_fingerprint: SHA-256 of the root's DER, hex, with or without colons; from the operator, by another way.

    Raises:
        EnrolmentError: With the CA's rule if it refused; `root-fingerprint` if the CA shows another root.
        OSError: A file cannot be written.
    """
    from ca_auth.issuing.ca_http import CaConnection

    pinned = root_fingerprint.replace(":", "").replace(" ", "").lower()
    if len(pinned) != 64 or not set(pinned) <= set("0123456789abcdef"):
        raise EnrolmentError(
            "root-fingerprint",
            "The root's fingerprint is 64 hexadecimal digits (SHA-256).",
            "根证书指纹应为 64 位十六进制数（SHA-256）。",
        )
    held = HeldCertificate(folder / f"{name}.crt", folder / f"{name}.key")
    anchors = folder / "ca.pem"
    folder.mkdir(parents=True, exist_ok=True)
    with held.locked():
        if held.finish():  # the call before this one ended after all had arrived
            return Enrolled(held=held, trust_anchors=anchors, certificate=held.read())
        if held.certificate.exists() or held.key.exists():
            raise EnrolmentError(
                "already-enrolled",
                f"{held.certificate} or {held.key} exists: renew it with datong ca renew, or choose another --name.",
                f"{held.certificate} 或 {held.key} 已存在：请用 datong ca renew 续期，或另选 --name。",
            )
        root = _pinned_root(url, pinned)
        _keep_anchor(anchors, root)
        key = held.next_key()
        with CaConnection(url, anchors, language=language) as ca:
            answer = ca.post(ENROLMENTS_PATH, {"code": code, "csr": _request(key)})
        chain = _chain(answer)
        _check(chain, key, [root])
        held.install(key, _pem(chain))
    return Enrolled(held=held, trust_anchors=anchors, certificate=chain[0])


def renew(
    url: str,
    held: HeldCertificate,
    trust_anchors: Path,
    *,
    replacing: str | None = None,
    language: Language = "en",
) -> x509.Certificate:
    """Replace a certificate that is still good by the next one, with a new key, and return it.

    Args:
        trust_anchors: PEM bundle; the server and the new certificate must lead to one of them.
        replacing: Fingerprint of the certificate to be replaced: if another process was quicker, nothing is done, and
            what it got is returned. None: whatever is there is replaced.

    Raises:
        EnrolmentError: With the CA's rule if it refused.
        OSError, ValueError: A file cannot be read or written.
    """
    from ca_auth.issuing.ca_http import CaConnection

    with held.locked():
        held.finish()
        present = held.read()
        if replacing is not None and fingerprint_of(present.public_bytes(serialization.Encoding.DER)) != replacing:
            return present
        anchors = x509.load_pem_x509_certificates(trust_anchors.read_bytes())
        key = held.next_key()
        with CaConnection(url, trust_anchors, held, language=language) as ca:
            answer = ca.post(RENEWALS_PATH, {"csr": _request(key)})
        chain = _chain(answer)
        _check(chain, key, anchors)
        if _names(chain[0]) != _names(present):
            raise EnrolmentError(
                "certificate-names",
                "The CA answered with a certificate for another holder; it was not installed. Tell its operator.",
                "CA 返回了其他持有者的证书，未予安装。请通知 CA 运维人员。",
            )
        held.install(key, _pem(chain))
    return chain[0]


def _pinned_root(url: str, pinned: str) -> x509.Certificate:
    """The root with that fingerprint, from a server of which nothing is known yet, and to which nothing is told."""
    from ca_auth.issuing.ca_http import CaConnection

    with CaConnection(url, None) as unproven:
        content = unproven.get(CA_PATH)
    try:
        shown = x509.load_pem_x509_certificates(content)
    except ValueError:
        shown = []
    for certificate in shown[:_MOST_CERTIFICATES]:
        if hmac.compare_digest(fingerprint_of(certificate.public_bytes(serialization.Encoding.DER)), pinned):
            return certificate
    raise EnrolmentError(
        "root-fingerprint",
        f"{url} does not show the root with this fingerprint, so nothing was sent. Compare the fingerprint and the address "
        "with what the operator gave you; if both are right, somebody is in between.",
        f"{url} 没有出示该指纹的根证书，因此未发送任何内容。请核对指纹与地址；若均无误，通信可能被劫持。",
    )


def _keep_anchor(file: Path, root: x509.Certificate) -> None:
    """Write `ca.pem`; one that is there with other roots is left alone, and is an error."""
    content = root.public_bytes(serialization.Encoding.PEM)
    if not file.exists():
        replace_file(file, content, PUBLIC)
    elif x509.load_pem_x509_certificates(file.read_bytes()) != [root]:
        raise EnrolmentError(
            "trust-anchors",
            f"{file} holds another root. Enrol into another folder with --out.",
            f"{file} 中是其他根证书。请用 --out 指定其他目录。",
        )


def _request(key: ec.EllipticCurvePrivateKey) -> str:
    """A signing request that names nobody: the CA knows who this is for."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _chain(answer: dict[str, Any]) -> list[x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(str(answer["certificate"]).encode() + str(answer["chain"]).encode())
    except (KeyError, ValueError):
        chain = []
    if not 1 <= len(chain) <= _MOST_CERTIFICATES:
        raise EnrolmentError("answer", "The answer holds no certificate chain.", "应答中没有证书链。")
    return chain


def _check(
    chain: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey, anchors: Sequence[x509.Certificate]
) -> None:
    """The chain is for `key`, each certificate issued by the next, the last by an anchor, all valid now."""
    if chain[0].public_key() != key.public_key():
        raise EnrolmentError("certificate-key", "The certificate is for another key.", "返回的证书不是本密钥的证书。")
    anchor = next((each for each in anchors if each.subject == chain[-1].issuer), None)
    path = [*chain, *([anchor] if anchor is not None else [])]
    try:
        if anchor is None:
            raise ValueError("no anchor of that name")
        for issued, issuer in itertools.pairwise(path):
            issued.verify_directly_issued_by(issuer)
            if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                raise ValueError("an issuer is no CA")
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise EnrolmentError(
            "certificate-chain",
            "The certificate does not lead to the trusted root; it was not installed.",
            "返回的证书不能追溯到受信任的根证书，未予安装。",
        ) from error
    now = datetime.fromtimestamp(time.time(), UTC)
    for each in path:
        if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
            raise EnrolmentError(
                "certificate-validity",
                f"{each.subject.rfc4514_string()} is not valid now, by the clock of this machine.",
                f"按本机时钟，{each.subject.rfc4514_string()} 当前不在有效期内。",
            )


def _names(certificate: x509.Certificate) -> tuple[x509.Name, list[x509.GeneralName]]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return certificate.subject, []
    return certificate.subject, list(names)


def _pem(chain: Sequence[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
