"""CA certificates that are known: the anchors, and CAs of paths that held. Kept in a file across restarts.

What stands here is used to verify lists and to find issuers, never to accept a certificate: that is the validator's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca_auth.issuing.durable_files import PRIVATE, replace_file
from ca_auth.profiles.trust import Anchor
from ca_auth.validation.path_certificate import PathCertificate, without_copies
from ca_auth.validation.signatures import SignatureKind, SignatureKindError, is_signed_by

_MOST: Final = 1000
_MOST_UNTRUSTED: Final = 200
_LONGEST_PATH: Final = 10
_MOST_SIGNATURES: Final = 20

events = structlog.get_logger("datong.revocation")


@dataclass(frozen=True, slots=True)
class SortedCAs:
    """The known CAs, and below which anchors the holder of a key stands."""

    all: tuple[PathCertificate, ...] = ()
    anchors_by_key: Mapping[bytes, frozenset[str]] = field(default_factory=dict)
    """By SubjectPublicKeyInfo; names of anchors."""


class KnownCAs:
    """Belongs to an event loop. `load`, `save` and `sort` block and may run elsewhere, one at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._learned: dict[bytes, PathCertificate] = {}
        self._saved: tuple[PathCertificate, ...] = ()
        self._issued: dict[tuple[bytes, bytes], bool] = {}

    def load(self) -> None:
        """Read what earlier runs learned."""
        try:
            found = x509.load_pem_x509_certificates(self._file.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            events.error("revocation.state_not_read", file=str(self._file), error=str(error))
            return
        self._learned = {each.encoded: each for each in without_copies(found)}
        self._saved = self.learned

    def add(self, cas: Iterable[x509.Certificate]) -> bool:
        """Return whether one of them was not known. What is no CA certificate is passed over."""
        new = False
        for each in cas:
            encoded = each.public_bytes(Encoding.DER)
            if encoded in self._learned:
                continue
            certificate = PathCertificate.of(each)
            if certificate.defect or not certificate.is_ca:
                continue
            if len(self._learned) >= _MOST and not self._drop_expired():
                events.error("revocation.too_many_cas", most=_MOST, certificate=certificate.label)
                continue
            self._learned[encoded] = certificate
            new = True
        return new

    @property
    def learned(self) -> tuple[PathCertificate, ...]:
        return tuple(self._learned.values())

    def save(self, learned: tuple[PathCertificate, ...]) -> None:
        """Write down what was learned, if that has changed."""
        if self._saved == learned:
            return
        content = b"".join(each.certificate.public_bytes(Encoding.PEM) for each in learned)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._file, content, PRIVATE)
            self._saved = learned
        except OSError as error:
            events.error("revocation.state_not_saved", file=str(self._file), error=str(error))

    def sort(self, learned: Sequence[PathCertificate], anchors: Sequence[Anchor]) -> SortedCAs:
        """Say which CAs stand below which anchors."""
        names: dict[bytes, frozenset[str]] = {}
        all_cas: dict[bytes, PathCertificate] = {}
        for anchor in anchors:
            for each in without_copies(anchor.certificates):
                all_cas[each.encoded] = each
                names[each.key_info] = names.get(each.key_info, frozenset()) | {anchor.name}
        waiting = [each for each in learned if each.encoded not in all_cas]
        all_cas |= {each.encoded: each for each in waiting}
        while waiting:
            left = []
            for each in waiting:
                above = [ca for ca in all_cas.values() if ca.key_info in names and self._is_issued(each, ca)]
                if above:
                    found = frozenset[str]().union(*(names[ca.key_info] for ca in above))
                    names[each.key_info] = names.get(each.key_info, frozenset()) | found
                else:
                    left.append(each)
            if len(left) == len(waiting):
                break  # these hang below anchors that are gone
            waiting = left
        return SortedCAs(tuple(all_cas.values()), names)

    def path_of(
        self, leaf: x509.Certificate, untrusted: Sequence[x509.Certificate], anchors: Sequence[Anchor]
    ) -> tuple[list[PathCertificate], Anchor | None]:
        """Return a path from a leaf to one of `anchors` whose signatures hold, and the anchor; else the leaf and None."""
        roots = [(root, anchor) for anchor in anchors for root in without_copies(anchor.certificates)]
        others = [*without_copies(untrusted[:_MOST_UNTRUSTED]), *self._learned.values()]
        effort = _MOST_SIGNATURES

        def climb(path: list[PathCertificate]) -> tuple[list[PathCertificate], Anchor] | None:
            nonlocal effort
            for candidate, anchor in [*roots, *((each, None) for each in others)]:
                if candidate.subject != path[-1].issuer or candidate in path or effort <= 0:
                    continue
                effort -= 1
                if not _is_signed(path[-1], candidate):
                    continue
                if anchor is not None:
                    return [*path, candidate], anchor
                if len(path) < _LONGEST_PATH and (found := climb([*path, candidate])) is not None:
                    return found
            return None

        start = [PathCertificate.of(leaf)]
        found = climb(start) if not start[0].defect else None
        return found if found is not None else (start, None)

    def _drop_expired(self) -> bool:
        now = datetime.now(UTC)
        before = len(self._learned)
        self._learned = {encoded: each for encoded, each in self._learned.items() if each.end >= now}
        return len(self._learned) < before

    def _is_issued(self, certificate: PathCertificate, issuer: PathCertificate) -> bool:
        if certificate.issuer != issuer.subject:
            return False
        known = (certificate.encoded, issuer.key_info)
        if known not in self._issued:
            self._issued[known] = _is_signed(certificate, issuer)
        return self._issued[known]


def _is_signed(certificate: PathCertificate, issuer: PathCertificate) -> bool:
    if issuer.key is None or issuer.defect:
        return False
    try:
        kind = SignatureKind.of(certificate.certificate)
        signed = certificate.certificate
        return is_signed_by(issuer.key, kind, signed.signature, signed.tbs_certificate_bytes)
    except SignatureKindError:
        return False
