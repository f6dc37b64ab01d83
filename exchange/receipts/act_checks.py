"""What receipts for acts have in common, of whatever kind the act is: who did it, and whose certificate they showed.

Rule: as for `exchange.receipts.receipt_checks`: the standard library, `cryptography`, and modules that keep to this rule.
"""

from __future__ import annotations

from exchange.receipts.certificate_path import holds_code_of, names
from exchange.receipts.receipt_checks import CheckError, Keys, ParsedReceipt, Verification, subject_of


class ActVerification(Verification):
    """The checks of a receipt whose record is of an act, not of an exchange."""

    def __init__(self, receipt: ParsedReceipt, keys: Keys) -> None:
        super().__init__(receipt, keys)
        self._leaf = receipt.leaf

    def _decided(self, who: str, subsystem: str, fingerprint: str, at: str) -> tuple[str, str]:
        """Who did it, by which certificate.

        Args:
            who: As the record names them, the person too.
            subsystem: The part of it that the certificate must name.
            fingerprint: Of the certificate; empty if none was shown.
            at: When, RFC 3339.

        Raises:
            CheckError: The certificate was not valid then, or is another's.
        """
        if not fingerprint:
            return f"{who}, at the machine itself", f"{who}，在服务器本机操作"
        if fingerprint not in self._certificates:
            # That of a natural person holds the person's number, so nobody keeps it.
            return (
                f"{who}, by certificate {fingerprint}, which is not kept with the log",
                f"{who}，证书指纹 {fingerprint}，日志未保存该证书",
            )
        certificate = self._certificate(fingerprint)
        self._check_path(certificate, at)
        if not names(certificate, subsystem) and not holds_code_of(certificate, subsystem):
            raise CheckError("the certificate is not that of whoever did it", "证书不属于操作的一方")
        return (
            f"{who}, by the certificate of {subject_of(certificate)}, valid at the time",
            f"{who}，证书 {subject_of(certificate)}，当时有效",
        )
