"""The checks of a receipt for a change of the registry: what was decided, by whom, and why.

Rules:
1. As for `exchange.receipts.receipt_checks`: the standard library, `cryptography`, and modules that keep to this rule.
2. The log vouches for the change: it is in the tree, under a signed checkpoint. The certificate says who was let in when it
   was made; it did not sign the change, and a change made at the machine itself has none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from exchange.log.change_record import ChangeRecord, read_change
from exchange.receipts.act_checks import ActVerification
from exchange.receipts.receipt_checks import CheckError, SentRequest, Step

_MOST_SHOWN = 60


class ChangeVerification(ActVerification):
    """The checks, in order, of a receipt whose record is of a change."""

    def steps(self, request: SentRequest | None) -> dict[str, Step]:
        return {
            "checkpoint": self.checkpoint,
            "inclusion": self.inclusion,
            "witnessed": self.witnessed,
            "stamped": self.stamped,
            "record": self.record,
            "change": self.change,
            "decider": self.decider,
            "revocation": self.revocation,
            "certificates": self.certificates,
        }

    def record(self) -> tuple[str, str]:
        """The record is of a kind known here, and its id is made of its content."""
        change, recorded_at = self._change()
        return (
            f"version {change.version} of the registry {change.registry}, recorded at {recorded_at}",
            f"登记簿 {change.registry} 的版本 {change.version}，留痕于 {recorded_at}",
        )

    def change(self) -> tuple[str, str]:
        """What was changed, when and why."""
        change, _ = self._change()
        what = "; ".join(differences(change))
        return (
            f"{change.action} {change.target} at {change.at}, because: {change.why} ({what})",
            f"{change.at} {change.action} {change.target}，理由：{change.why}（{what}）",
        )

    def decider(self) -> tuple[str, str]:
        """Who made it, and whose certificate they showed."""
        change, _ = self._change()
        return self._decided(change.by, change.by.partition(" (")[0], change.certificate, change.at)

    def request(self, sent: SentRequest) -> tuple[str, str]:
        raise CheckError("a change of the registry is no request", "登记变更没有请求内容")

    def answer(self, body: bytes) -> tuple[str, str]:
        raise CheckError("a change of the registry has no answer", "登记变更没有应答内容")

    def _change(self) -> tuple[ChangeRecord, str]:
        try:
            return read_change(self._leaf)
        except ValueError as error:
            raise CheckError(str(error), "不是已知格式的变更记录") from error


def differences(change: ChangeRecord) -> list[str]:
    """What the change made of the row, member by member: `state: active → revoked`; long values are cut."""
    before = {**(change.before or {}), **_shown(change.before_digests)}
    after = {**change.after, **_shown(change.after_digests)}
    found = []
    for name in sorted(before.keys() | after.keys()):
        if change.before is None:
            if after[name] not in ("", [], {}):
                found.append(f"{name}: {_cut(after[name])}")
        elif before.get(name) != after.get(name):
            found.append(f"{name}: {_cut(before.get(name, '-'))} → {_cut(after.get(name, '-'))}")
    return found


def _shown(digests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: f"sha256:{digest.get('sha256')}" for name, digest in digests.items()}


def _cut(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"
