"""How an issuing CA comes to be: its folder, its root, its certificate from a root elsewhere.

A new folder is made beside its place and renamed into it whole, so a crash leaves none or all of it.
"""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ca_auth.issuing import ca_certificates
from ca_auth.issuing.ca_certificates import load_crls
from ca_auth.issuing.ca_folder import CaFolder, parse_certificates, refused
from ca_auth.issuing.ca_settings import CaSettings, as_toml
from ca_auth.issuing.ca_store import CaStore
from ca_auth.issuing.durable_files import PUBLIC, replace_file, sync_folder
from ca_auth.issuing.key_provider import SHORTEST_PASSPHRASE, Curve, new_key, write_key
from ca_auth.issuing.offline_root import OfflineRoot
from ca_auth.issuing.pkcs11_key import make_token_key, open_token_key

_PEM: Final = serialization.Encoding.PEM


def create_ca(
    path: Path,
    *,
    name: str,
    organization: str,
    now: datetime,
    curve: Curve = "P-256",
    root_passphrase: bytes | None,
    root_days: float = 3650,
    issuing_days: float = 1825,
    root_crl_days: float = 365,
    permit_dns: tuple[str, ...] = (),
    settings: CaSettings | None = None,
    use_token_key: bool = False,
) -> CaFolder:
    """Make the folder of a CA: an issuing CA, and, if there is a passphrase for its key, a root above it.

    Args:
        name: Of the CA; the root is called `<name> Root`.
        root_passphrase: Encrypts the root's key, at least 12 bytes. None: an existing root is to sign, see `install_certificate`.
        permit_dns: Server names the issuing CA is limited to, by its certificate.
        use_token_key: The key named in `settings.pkcs11` exists; else it is made.

    Raises:
        CaOperationError: The folder is not empty, the passphrase too short, the token not usable.
    """
    settings = settings or CaSettings()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise refused(
            "ca-exists",
            f"{path} is not empty: a second CA there would orphan every certificate of the first.",
            f"{path} 不为空：在此新建 CA 会使原有证书全部失去签发者。",
        )
    if root_passphrase is not None and len(root_passphrase) < SHORTEST_PASSPHRASE:
        raise refused(
            "ca-passphrase",
            f"The passphrase of the root needs at least {SHORTEST_PASSPHRASE} characters.",
            f"根密钥口令至少需要 {SHORTEST_PASSPHRASE} 个字符。",
        )
    try:
        subject = ca_certificates.distinguished_name(name, organization)
        root_subject = ca_certificates.distinguished_name(f"{name} Root", organization)
    except ValueError as error:
        raise refused("ca-name", f"Not a name for a CA: {error}.", f"CA 名称不可用：{error}。") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = CaFolder(path.with_name(f".{path.name}.{os.getpid()}"))
    shutil.rmtree(draft.path, ignore_errors=True)
    draft.path.mkdir(mode=0o700)
    try:
        key = _issuing_key(draft, curve, settings, use_token_key)
        draft.settings_file.write_text(as_toml(settings), "utf-8")
        public = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        replace_file(draft.public_key_file, public, PUBLIC)
        request = ca_certificates.ca_request(subject, key)
        if root_passphrase is not None:
            root_key = new_key(curve)
            root = ca_certificates.root_ca(root_subject, root_key, now, root_days)
            draft.root_key.parent.mkdir(mode=0o700)
            write_key(draft.root_key, root_key, root_passphrase)
            replace_file(draft.root_certificate, root.public_bytes(_PEM), PUBLIC)
            offline = OfflineRoot(root, root_key)
            issued = offline.sign(request, now, issuing_days, permit_dns=permit_dns)
            replace_file(draft.issuing_certificate, issued.public_bytes(_PEM), PUBLIC)
            crl = offline.crl(None, [], now, root_crl_days)
            replace_file(draft.upstream_crls, crl.public_bytes(_PEM), PUBLIC)
        CaStore.create(draft.store)
        draft.path.rename(path)
    except BaseException:
        shutil.rmtree(draft.path, ignore_errors=True)
        raise
    sync_folder(path.parent)
    return CaFolder(path)


def ca_signing_request(folder: CaFolder, *, name: str = "", organization: str = "") -> bytes:
    """The issuing CA's own signing request, PEM: for an existing root, or to be renewed under the name it has."""
    key = folder.signing_key(folder.settings())
    if folder.issuing_certificate.exists():
        subject = folder.chain()[0].subject
    else:
        try:
            subject = ca_certificates.distinguished_name(name, organization)
        except ValueError as error:
            raise refused("ca-name", f"Not a name for a CA: {error}.", f"CA 名称不可用：{error}。") from error
    return ca_certificates.ca_request(subject, key).public_bytes(_PEM)


def install_certificate(
    folder: CaFolder, certificates: bytes, root: bytes, now: datetime
) -> tuple[x509.Certificate, ...]:
    """Give the issuing CA its certificate, the first or the next, and return its chain, root last.

    Args:
        certificates: PEM: the issuing CA's certificate, then those between it and the root.
        root: PEM of the root. A CA that has one keeps it: departments have pinned it.

    Raises:
        CaOperationError: They do not form a chain of CAs that are valid now, or are not for the CA's key and name.
    """
    chain = (*parse_certificates(certificates, "--certificate"), *parse_certificates(root, "--root")[:1])
    if chain[0].public_key() != folder.public_key():
        raise refused("ca-chain", "The certificate is not for the key of this CA.", "该证书与本 CA 的密钥不符。")
    check_chain(chain, now)
    if folder.issuing_certificate.exists():
        present = folder.chain()
        if present[0].subject != chain[0].subject or present[-1] != chain[-1]:
            raise refused(
                "ca-chain",
                "The new certificate names another CA or another root than the present one: make a new CA for that.",
                "新证书的名称或根证书与现有的不同：请为此新建 CA。",
            )
    replace_file(folder.root_certificate, chain[-1].public_bytes(_PEM), PUBLIC)
    replace_file(folder.issuing_certificate, b"".join(each.public_bytes(_PEM) for each in chain[:-1]), PUBLIC)
    return chain


def check_chain(chain: tuple[x509.Certificate, ...], now: datetime) -> None:
    """Each certificate is a CA's, valid now and signed by the next, the last by itself; raises CaOperationError."""
    for index, certificate in enumerate(chain):
        try:
            certificate.verify_directly_issued_by(chain[min(index + 1, len(chain) - 1)])
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
            good = constraints.ca and (constraints.path_length is None or constraints.path_length >= index)
        except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension, InvalidSignature):
            good = False
        if not good or not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            named = certificate.subject.rfc4514_string()
            raise refused(
                "ca-chain",
                f"{named} is not a CA certificate that is valid now, allows for those below it and was issued by the next "
                "in the chain; give them in order, the root last.",
                f"{named} 不是当前有效、允许下级、且由链中下一证书签发的 CA 证书；请按顺序提供，根证书在最后。",
            )


def _issuing_key(
    draft: CaFolder, curve: Curve, settings: CaSettings, use_token_key: bool
) -> ec.EllipticCurvePrivateKey:
    if settings.pkcs11 is not None:
        where = settings.pkcs11.key()
        return open_token_key(where) if use_token_key else make_token_key(where, curve)
    key = new_key(curve)
    write_key(draft.issuing_key, key)
    return key


def import_upstream_crl(folder: CaFolder, crl: x509.CertificateRevocationList) -> None:
    """Keep a CRL of a CA above, instead of the older one of the same CA.

    Raises:
        CaOperationError: No CA above has signed it, or its number goes back.
    """
    chain = folder.chain()
    issuer = next((each for each in chain[1:] if each.subject == crl.issuer and _has_signed(each, crl)), None)
    if issuer is None:
        raise refused("ca-crl", "The CRL is not of a CA above this one.", "该 CRL 不是本 CA 的上级 CA 签发的。")
    present = load_crls(folder.upstream_crls.read_bytes()) if folder.upstream_crls.exists() else []
    others = [each for each in present if each.issuer != crl.issuer]
    try:
        number = ca_certificates.number_of(crl)
        last = max((ca_certificates.number_of(each) for each in present if each.issuer == crl.issuer), default=0)
    except ValueError as error:
        raise refused("ca-crl", "The CRL has no number.", "该 CRL 没有编号。") from error
    if number < last:
        raise refused(
            "ca-crl",
            f"The CRL has number {number}; {last} is here already.",
            f"该 CRL 编号为 {number}，已有编号 {last}。",
        )
    replace_file(folder.upstream_crls, b"".join(each.public_bytes(_PEM) for each in (*others, crl)), PUBLIC)


def _has_signed(issuer: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    key = issuer.public_key()
    return isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) and crl.is_signature_valid(key)
