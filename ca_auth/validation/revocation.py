"""Whether the certificates of a path are revoked, by CRLs (RFC 5280 section 6.3) and OCSP answers (RFC 6960). Pure.

Rules:
1. It fails closed. Each certificate but the anchor needs a list or an answer that covers it, is signed by one who may,
   and is fresh. Whatever cannot be used counts as if it were not there, and the refusal says what was wrong with it.
2. Any usable list or answer that says "revoked" refuses the certificate, whatever others say. On hold is revoked.
   Of several lists of one scope the one with the highest number counts.
3. A list may cover some reasons, some kinds of certificates or one distribution point, may be indirect, and may be
   brought up to date by a delta list; a certificate is covered when lists for all reasons are there (section 6.3.3).
4. A list is signed by a CA of the path above the certificate, or by another certificate of the same name that those CAs
   issued for it, itself valid and not revoked. The signer of an indirect list is one that the certificate names, with a
   path to the same anchor.
5. An answer is signed by the CA that issued the certificate, or by a responder with a certificate for it directly from
   that CA.
6. After its `nextUpdate` a list or answer works for the grace period, if the operator set one, and the result says so.
"""

from __future__ import annotations

from typing import Final

from ca_auth.validation.crl_check import ListCheck
from ca_auth.validation.ocsp_check import AnswerCheck
from ca_auth.validation.paths import Path
from ca_auth.validation.rejection import ChainRefusedError
from ca_auth.validation.revocation_data import Inquiry, RevocationData, Status, missing

__all__ = ["Inquiry", "RevocationCheck", "RevocationData", "Status"]

_PROGRESS: Final = (
    "crl-missing",
    "ocsp-missing",
    "crl-malformed",
    "ocsp-malformed",
    "ocsp-mismatch",
    "crl-form",
    "crl-scope",
    "crl-signature",
    "ocsp-responder",
    "ocsp-signature",
    "ocsp-nonce",
    "crl-not-yet-valid",
    "ocsp-not-yet-valid",
    "crl-stale",
    "ocsp-stale",
    "ocsp-unknown",
)
"""From what says least to what says most about why a certificate is not covered."""


class RevocationCheck:
    """Checks paths during one validation."""

    def __init__(self, inquiry: Inquiry) -> None:
        self._inquiry = inquiry
        self._lists = ListCheck(inquiry)
        self._answers = AnswerCheck(inquiry, self._lists)
        self._known: dict[Path, Status] = {}

    def check(self, path: Path) -> list[Status]:
        """Return the status of each certificate but the anchor, the leaf first.

        Raises:
            ChainRefusedError: One of them is revoked, or not covered; the highest is told.
        """
        statuses = []
        for index in range(len(path) - 2, -1, -1):
            known = path[index:]
            if known not in self._known:
                self._known[known] = self._status(path, index)
            statuses.append(self._known[known])
        return statuses[::-1]

    def _status(self, path: Path, index: int) -> Status:
        problems: list[ChainRefusedError] = []
        found = [
            status
            for status in (self._answers.status(path, index, problems), self._lists.status(path, index, problems))
            if status is not None
        ]
        if found:
            return min(found, key=lambda status: status.in_grace)
        if not problems:
            data = self._inquiry.data
            only_answers = bool(data.answers) and not data.lists
            if only_answers and not self._inquiry.policy.key_rules and index > 0:
                # OCSP answers travel with a leaf; about CA certificates nobody was asked. It is told in the result.
                return Status("unchecked", None)
            problems.append(missing(path[index], by_ocsp=only_answers))
        raise max(problems, key=lambda problem: _PROGRESS.index(problem.rule))
