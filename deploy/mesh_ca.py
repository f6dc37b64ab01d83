"""The CA of `datong up`: a real issuing CA in `<data>/ca`, and the certificates of the demo's parties from it, in `<data>/pki`.

Rules:
1. What is there and good is kept; what is missing, damaged, ended or due is issued anew; what was revoked stays as it is.
2. It is a demo: the passphrase of the root's key lies beside it, in `<data>/root.passphrase`. A real CA keeps neither here.
3. A folder that an older version made has a root in `<data>/pki` that signs everything itself. It goes on with that: another
   root would make its receipts worthless and cut off whoever holds its certificates.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from ca_auth import (
    CaFolder,
    CaSettings,
    CertificateRequest,
    DemoCA,
    HeldCertificate,
    IssuingCA,
    OfflineRoot,
    create_ca,
    import_upstream_crl,
    load_crls,
    renewal_due,
    replace_file,
)
from deploy.parts import Place

BY = "datong up"
UNATTENDED_DAYS = 365
"""Validity of certificates that nobody renews while the mesh runs: those of callers and of the bus."""
_ROOT_CRL_DAYS = 365

TRUST_FILE = """\
# Whose certificates the gateway accepts; docs/profiles/trust-file.md explains every key. Changes count at once.
# 网关信任哪些 CA；修改后立即生效。
[[anchor]]
name = "demo CA"
certificates = "pki/ca.pem"
profile = "datong-uri"
members = ["CN/GOV/*"]

[anchor.revocation]
crl = ["ca/issuing.crl", "ca/upstream.crl.pem"]
required = true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One party's certificate."""

    request: CertificateRequest
    attended: bool = False
    """Whether the process that uses it renews it."""


def is_old(place: Place) -> bool:
    """Whether the folder is of an older version, with a root that signs everything itself."""
    return (place.pki / "root.key").exists()


def make_certificates(place: Place, wanted: Mapping[str, Wanted]) -> str:
    """See to it that every party has `pki/<name>.crt` and `.key`; returns the root's fingerprint.

    Raises:
        CaOperationError, SigningKeyError: The CA in the folder cannot be used.
        OSError, ValueError: A file cannot be read or written.
    """
    place.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    if is_old(place):
        return _from_old_ca(place, wanted)
    _make_ca(place)
    ca = IssuingCA.open(place.ca)
    try:
        root, issuing = (each.public_bytes(serialization.Encoding.PEM) for each in (ca.root, ca.certificate))
        _write(place.pki / "ca.pem", root)
        _write(place.pki / "callers.pem", root + issuing)
        for name, each in wanted.items():
            _ensure(ca, HeldCertificate(place.pki / f"{name}.crt", place.pki / f"{name}.key"), each)
        # It may have been down for longer than a CRL is good.
        ca.revocations.current()
        _renew_root_crl(place)
        if not place.trust_file.exists():
            _write(place.trust_file, TRUST_FILE.encode())
        return ca.root_fingerprint
    finally:
        ca.close()


def _make_ca(place: Place) -> None:
    if place.ca.exists():
        return
    passphrase = place.folder / "root.passphrase"
    if not passphrase.exists():
        # Before the key that it opens: a crash in between costs nothing.
        replace_file(passphrase, secrets.token_urlsafe(24).encode(), 0o600)
    create_ca(
        place.ca,
        name="大同演示 CA Datong demo CA",
        organization="示例市大数据局",
        now=datetime.now(UTC),
        root_passphrase=passphrase.read_bytes(),
        settings=CaSettings(permit_members=("CN/GOV",)),
    )


def _renew_root_crl(place: Place) -> None:
    """What the operator of a real CA does once a year, with a key taken out of a safe."""
    folder, passphrase = CaFolder(place.ca), place.folder / "root.passphrase"
    if not folder.root_key.exists() or not passphrase.exists():
        return  # taken away, as they should be
    now = datetime.now(UTC)
    (last,) = load_crls(folder.upstream_crls.read_bytes())
    end = last.next_update_utc
    if end is None or (end - now).days < _ROOT_CRL_DAYS / 2:
        root = OfflineRoot.open(folder.root_certificate, folder.root_key, passphrase.read_bytes())
        import_upstream_crl(folder, root.crl(last, [], now, _ROOT_CRL_DAYS))


def _ensure(ca: IssuingCA, held: HeldCertificate, wanted: Wanted) -> None:
    with held.locked():
        held.finish()
        if _is_kept(ca, held, wanted.request):
            return
        key = held.next_key()
        days = None if wanted.attended else UNATTENDED_DAYS
        held.install(key, ca.issue(wanted.request, key.public_key(), days=days, by=BY, why="demo certificate").pem())


def _is_kept(ca: IssuingCA, held: HeldCertificate, request: CertificateRequest) -> bool:
    try:
        certificate = held.read()
        key = serialization.load_pem_private_key(held.key.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return False
    row = ca.store.certificate(f"{certificate.serial_number:x}")
    if row is None or row.request != request or key.public_key() != certificate.public_key():
        return False
    state = row.state(ca.now())
    return state == "revoked" or (state == "valid" and ca.now() < renewal_due(certificate))


def _from_old_ca(place: Place, wanted: Mapping[str, Wanted]) -> str:
    ca = DemoCA.open(place.pki)
    for name, each in wanted.items():
        ca.ensure(name, replace(each.request, self_renewing=False))
    _write(place.pki / "callers.pem", ca.trust_anchors)
    return ca.fingerprint


def _write(file: Path, content: bytes) -> None:
    if not file.exists() or file.read_bytes() != content:
        replace_file(file, content, 0o644)
