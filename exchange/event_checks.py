"""The checks of a receipt for an act on the log itself: who looked, who removed, and why.

Rule: as for `exchange.receipt_checks`: the standard library, `cryptography`, and modules that keep to this rule.
"""

from __future__ import annotations

import json

from exchange.certificate_path import holds_code_of, names
from exchange.log_event import LogEvent, read_event
from exchange.receipt_checks import CheckError, Keys, ParsedReceipt, SentRequest, Step, Verification, subject_of

_MOST_SHOWN = 200


class EventVerification(Verification):
    """The checks, in order, of a receipt whose record is of an act on the log."""

    def __init__(self, receipt: ParsedReceipt, keys: Keys) -> None:
        super().__init__(receipt, keys)
        self._leaf = receipt.leaf

    def steps(self, request: SentRequest | None) -> dict[str, Step]:
        return {
            "checkpoint": self.checkpoint,
            "inclusion": self.inclusion,
            "witnessed": self.witnessed,
            "stamped": self.stamped,
            "act": self.act,
            "decider": self.decider,
            "revocation": self.revocation,
            "certificates": self.certificates,
        }

    def act(self) -> tuple[str, str]:
        """What was done, when and why."""
        event = self._event()
        details = json.dumps(dict(event.details), ensure_ascii=False)
        told = details if len(details) <= _MOST_SHOWN else details[: _MOST_SHOWN - 1] + "…"
        why, why_zh = (f", because: {event.why}", f"，理由：{event.why}") if event.why else ("", "")
        return f"{event.act} at {event.at}{why} ({told})", f"{event.at} {event.act}{why_zh}（{told}）"

    def decider(self) -> tuple[str, str]:
        """Who did it, and whose certificate they showed."""
        event = self._event()
        who = f"{event.by} ({event.user})" if event.user else event.by
        if not event.certificate:
            return f"{who}, at the machine itself", f"{who}，在服务器本机操作"
        if event.certificate not in self._certificates:
            # That of a natural person holds the person's number, so nobody keeps it.
            return (
                f"{who}, by certificate {event.certificate}, which is not kept with the log",
                f"{who}，证书指纹 {event.certificate}，日志未保存该证书",
            )
        certificate = self._certificate(event.certificate)
        self._check_path(certificate, event.at)
        if not names(certificate, event.by) and not holds_code_of(certificate, event.by):
            raise CheckError("the certificate is not that of whoever did it", "证书不属于操作的一方")
        return (
            f"{who}, by the certificate of {subject_of(certificate)}, valid at the time",
            f"{who}，证书 {subject_of(certificate)}，当时有效",
        )

    def request(self, sent: SentRequest) -> tuple[str, str]:
        raise CheckError("an act on the log is no request", "对日志的操作没有请求内容")

    def answer(self, body: bytes) -> tuple[str, str]:
        raise CheckError("an act on the log has no answer", "对日志的操作没有应答内容")

    def _event(self) -> LogEvent:
        try:
            return read_event(self._leaf)
        except ValueError as error:
            raise CheckError(str(error), "不是已知格式的操作记录") from error
