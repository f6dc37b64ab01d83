"""The checks of a receipt for an act on the log itself: who looked, who removed, and why.

Rule: as for `exchange.receipts.receipt_checks`: the standard library, `cryptography`, and modules that keep to this rule.
"""

from __future__ import annotations

import json

from exchange.log.log_event import LogEvent, read_event
from exchange.receipts.act_checks import ActVerification
from exchange.receipts.receipt_checks import CheckError, SentRequest, Step

_MOST_SHOWN = 200


class EventVerification(ActVerification):
    """The checks, in order, of a receipt whose record is of an act on the log."""

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
        return self._decided(who, event.by, event.certificate, event.at)

    def request(self, sent: SentRequest) -> tuple[str, str]:
        raise CheckError("an act on the log is no request", "对日志的操作没有请求内容")

    def answer(self, body: bytes) -> tuple[str, str]:
        raise CheckError("an act on the log has no answer", "对日志的操作没有应答内容")

    def _event(self) -> LogEvent:
        try:
            return read_event(self._leaf)
        except ValueError as error:
            raise CheckError(str(error), "不是已知格式的操作记录") from error
