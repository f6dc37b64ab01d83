"""Path building: every way from a leaf up to a trust anchor, wrong turns left as soon as they show (RFC 4158). Pure.

Rules:
1. Candidates are all certificates whose subject is the issuer's name; those whose key identifier fits and that are
   valid now come first. Nothing else is decided by key identifiers.
2. What can be checked with the certificates below alone is checked at each step, so that a bad branch costs one step:
   signature, the issuer itself, depth, path length, name constraints.
3. No pair of name and key occurs twice: a detour that comes back to the same CA proves nothing more.
4. Work is bounded: signatures, steps and the length of a path.
5. Of all that went wrong, the refusal is told that came furthest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from ca_auth.validation import der
from ca_auth.validation.distinguished_names import CanonicalName
from ca_auth.validation.name_constraints import NameChecker
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.rejection import ChainRefusedError, OutOfEffort, refusal
from ca_auth.validation.signatures import SignatureKind, SignatureKindError, is_signed_by

MAX_SIGNATURES: Final = 300
"""Signatures looked at in one validation; about a tenth of a second with slow algorithms."""
MAX_STEPS: Final = 3000
MAX_LENGTH: Final = 20
"""Certificates in a path, whatever the policy says of its depth."""

Path = tuple[PathCertificate, ...]
"""Leaf first, trust anchor last."""


class Effort:
    """What one validation may spend, and what it has found out about signatures and names."""

    def __init__(self) -> None:
        self._signatures = MAX_SIGNATURES
        self._steps = MAX_STEPS
        self._known: dict[tuple[PathCertificate, bytes], bool] = {}
        self.names = NameChecker()
        self.working_keys: dict[PathCertificate, CertificatePublicKeyTypes] = {}
        """Keys whose parameters came from the issuer's (DSA), of the path that is looked at."""

    def step(self, certificate: PathCertificate) -> None:
        """Count a step; raises `OutOfEffort` when there were too many."""
        self._steps -= 1
        if self._steps < 0:
            raise OutOfEffort(_too_much(certificate))

    def key_of(self, certificate: PathCertificate) -> CertificatePublicKeyTypes | None:
        return certificate.key if certificate.key is not None else self.working_keys.get(certificate)

    def count_signature(self, certificate: PathCertificate) -> None:
        """Count a signature; raises `OutOfEffort` when there were too many."""
        self._signatures -= 1
        if self._signatures < 0:
            raise OutOfEffort(_too_much(certificate))

    def check_signature(self, certificate: PathCertificate, issuer: PathCertificate) -> None:
        """Check that `issuer`'s key signed `certificate`.

        Raises:
            ChainRefusedError: `certificate-signature`.
            OutOfEffort: Too many were checked already.
        """
        key = self.key_of(issuer)
        # A key with parameters from elsewhere is not told by its bytes alone.
        known = (certificate, issuer.key_info)
        if issuer.inherits_parameters or known not in self._known:
            self.count_signature(certificate)
            self._known[known] = key is not None and _is_signed(certificate, key)
        if not self._known[known]:
            raise refusal(
                "certificate-signature",
                certificate.label,
                f"It was not signed with the key of {issuer.label}, or with an algorithm that is not supported.",
                f"它不是用 {issuer.label} 的密钥签名的，或签名算法不受支持。",
            )


class PathSearch:
    """Finds paths to `anchors`.

    Args:
        anchors: Where a path may end.
        others: What may stand between.
        check_issuer: Raises ChainRefusedError if a certificate may not issue; told whether it is an anchor.
        max_depth: As `PathPolicy.max_depth`.
    """

    def __init__(
        self,
        anchors: Iterable[PathCertificate],
        others: Iterable[PathCertificate],
        *,
        check_issuer: Callable[[PathCertificate, bool], None],
        max_depth: int,
        at: datetime,
        effort: Effort,
    ) -> None:
        self._anchors = {anchor.encoded: anchor for anchor in anchors}
        self._by_subject: dict[CanonicalName, list[PathCertificate]] = {}
        for certificate in (*self._anchors.values(), *(each for each in others if each.encoded not in self._anchors)):
            self._by_subject.setdefault(certificate.subject, []).append(certificate)
        self._check_issuer = check_issuer
        self._judged: dict[PathCertificate, ChainRefusedError | None] = {}
        self._max_depth = max_depth
        self._at = at
        self._effort = effort
        self._furthest: tuple[tuple[int, int], ChainRefusedError] | None = None

    @property
    def furthest(self) -> ChainRefusedError | None:
        """The refusal that came furthest; None only before the search, or if every path was good."""
        return self._furthest[1] if self._furthest is not None else None

    def note(self, reached: tuple[int, int], error: ChainRefusedError) -> None:
        """Remember a refusal if it came further than those before: by length of the path, then by stage."""
        if self._furthest is None or reached > self._furthest[0]:
            self._furthest = reached, error

    def paths(self, leaf: PathCertificate) -> Iterator[Path]:
        """Yield every path whose steps are right, the most promising first. What remains to be checked: certificate
        policies and revocation."""
        yield from self._extend((leaf,), {(leaf.subject, leaf.key_info)}, 0)

    def _extend(self, path: Path, passed: set[tuple[CanonicalName, bytes]], depth: int) -> Iterator[Path]:
        candidates = self._candidates(path[-1])
        if not candidates:
            self.note((len(path), 0), _no_issuer(path[-1]))
        for issuer in candidates:
            self._effort.step(issuer)
            identity = (issuer.subject, issuer.key_info)
            if identity in passed:
                self.note((len(path), 0), _no_issuer(path[-1]))
                continue
            is_anchor = issuer.encoded in self._anchors
            deeper = depth + (not is_anchor and not issuer.is_self_issued)
            try:
                self._step(path, issuer, is_anchor, depth, deeper)
            except ChainRefusedError as error:
                self.note((len(path), 1 if error.rule == "certificate-signature" else 2), error)
                continue
            longer = (*path, issuer)
            if not is_anchor:
                yield from self._extend(longer, passed | {identity}, deeper)
            elif self._inherited_keys_fit(longer):
                yield longer

    def _candidates(self, certificate: PathCertificate) -> list[PathCertificate]:
        wanted = certificate.authority_key_identifier

        def promise(issuer: PathCertificate) -> tuple[bool, bool, bool]:
            known = wanted is not None and issuer.key_identifier is not None
            return (
                known and wanted != issuer.key_identifier,
                not issuer.begin <= self._at <= issuer.end,
                issuer.encoded not in self._anchors,
            )

        return sorted(self._by_subject.get(certificate.issuer, ()), key=promise)

    def _step(self, path: Path, issuer: PathCertificate, is_anchor: bool, depth: int, deeper: int) -> None:
        if issuer.defect:
            self._check_issuer(issuer, is_anchor)
        if not issuer.inherits_parameters:  # else at the end, when the issuer's own issuer is known
            self._effort.check_signature(path[-1], issuer)
        if not is_anchor and issuer.is_self_issued and self._is_self_signed(issuer):
            raise _unaccepted_root(issuer)
        if issuer not in self._judged:
            self._judged[issuer] = None
            try:
                self._check_issuer(issuer, is_anchor)
            except ChainRefusedError as error:
                self._judged[issuer] = error
        judged = self._judged[issuer]
        if judged is not None:
            raise judged
        if deeper > self._max_depth or len(path) + 1 >= MAX_LENGTH:
            raise refusal(
                "certificate-chain-depth",
                issuer.label,
                f"The path has more intermediate CA certificates than are accepted: {self._max_depth}.",
                f"路径中的中间 CA 证书超过上限 {self._max_depth}。",
            )
        constraints = issuer.get(x509.BasicConstraints)
        if constraints is not None and constraints.path_length is not None and depth > constraints.path_length:
            raise refusal(
                "certificate-path-length",
                issuer.label,
                f"It permits {constraints.path_length} intermediate CA certificates below it, and there are {depth}.",
                f"它只允许下级有 {constraints.path_length} 个中间 CA 证书，实际有 {depth} 个。",
            )
        self._effort.names.check(issuer, path)

    def _is_self_signed(self, certificate: PathCertificate) -> bool:
        try:
            self._effort.check_signature(certificate, certificate)
        except ChainRefusedError:
            return False
        return True

    def _inherited_keys_fit(self, path: Path) -> bool:
        """Complete DSA keys that have their parameters from the issuer, and check the signatures left open."""
        self._effort.working_keys.clear()
        for index in range(len(path) - 2, 0, -1):
            certificate = path[index]
            if not certificate.inherits_parameters:
                continue
            above = self._effort.key_of(path[index + 1])
            key = _with_parameters(certificate, above) if isinstance(above, dsa.DSAPublicKey) else None
            if key is not None:
                self._effort.working_keys[certificate] = key
            try:
                self._effort.check_signature(path[index - 1], certificate)
            except ChainRefusedError as error:
                self.note((index, 1), error)
                return False
        return True


def _is_signed(certificate: PathCertificate, key: CertificatePublicKeyTypes) -> bool:
    parsed = certificate.certificate
    try:
        return is_signed_by(key, SignatureKind.of(parsed), parsed.signature, certificate.signed)
    except SignatureKindError:
        return False


def _with_parameters(certificate: PathCertificate, above: dsa.DSAPublicKey) -> dsa.DSAPublicKey | None:
    try:
        y = der.integer(der.read(certificate.key_bits))
        return dsa.DSAPublicNumbers(y, above.parameters().parameter_numbers()).public_key()
    except ValueError:
        return None


def _no_issuer(certificate: PathCertificate) -> ChainRefusedError:
    return refusal(
        "certificate-chain",
        certificate.label,
        "Its issuer is neither among the certificates sent nor a CA that is accepted.",
        "其签发者既不在所发送的证书中，也不是受信任的 CA。",
    )


def _unaccepted_root(certificate: PathCertificate) -> ChainRefusedError:
    return refusal(
        "certificate-chain",
        certificate.label,
        "The path ends at this root, and it is not one that is accepted.",
        "路径终止于该根证书，而它不是受信任的根。",
    )


def _too_much(certificate: PathCertificate) -> ChainRefusedError:
    return refusal(
        "certificate-chain-effort",
        certificate.label,
        "There are too many possible paths, or too many certificates, to look at.",
        "可能的路径或证书过多，已停止检查。",
    )


def pool_of(*groups: Sequence[PathCertificate]) -> list[PathCertificate]:
    """Every certificate of the groups once."""
    seen: dict[bytes, PathCertificate] = {}
    for group in groups:
        for certificate in group:
            seen.setdefault(certificate.encoded, certificate)
    return list(seen.values())
