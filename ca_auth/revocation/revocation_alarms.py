"""What an operator must know about the sources of CRLs and OCSP answers, before callers feel it. Pure.

A list ends soon when 24 hours are left, or half of its life if it lives less than two days: CAs that make a new list
every few hours are no reason to worry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

from ca_auth.revocation.crl_files import SourceProblem
from ca_auth.validation.crl import RevocationList

AlarmKind: TypeAlias = Literal[
    "crl-missing",
    "crl-ends-soon",
    "crl-stale",
    "crl-rejected",
    "crl-unreachable",
    "ocsp-unreachable",
    "ocsp-rejected",
    "in-grace",
]
SEVERE: Final[frozenset[AlarmKind]] = frozenset(
    {"crl-missing", "crl-stale", "crl-rejected", "ocsp-rejected", "in-grace"}
)
_AHEAD: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One thing that is wrong, or will be."""

    kind: AlarmKind
    anchor: str
    """Name of the anchor in the trust file."""
    source: str
    """The file, folder, address or list concerned."""
    text: str
    text_zh: str
    since: float
    """Unix seconds."""

    @property
    def key(self) -> tuple[AlarmKind, str, str]:
        """What makes two alarms the same one, although time passes and words change."""
        return self.kind, self.anchor, self.source


def about_end(anchor: str, each: RevocationList, grace: timedelta, now: float) -> Alarm | None:
    """The alarm that a list's `nextUpdate` deserves now, or None."""
    at = datetime.fromtimestamp(now, UTC)
    ahead = min(_AHEAD, (each.next_update - each.this_update) / 2)
    end = f"{each.next_update:%Y-%m-%dT%H:%M:%SZ}"
    if at <= each.next_update - ahead:
        return None
    if at <= each.next_update:
        return Alarm(
            kind="crl-ends-soon",
            anchor=anchor,
            source=each.label,
            text=f"The {each.label} ends at {end}, and no newer one has come. After that, certificates it is about "
            "are refused, unless there is a grace period.",
            text_zh=f"{each.label} 将于 {end} 失效，尚未获得更新的 CRL。届时若无宽限期，相关证书将被拒绝。",
            since=(each.next_update - ahead).timestamp(),
        )
    if at <= each.next_update + grace:
        until = f"{each.next_update + grace:%Y-%m-%dT%H:%M:%SZ}"
        return Alarm(
            kind="in-grace",
            anchor=anchor,
            source=each.label,
            text=f"The {each.label} ended at {end} and is used because of the grace period, until {until}. "
            "Revocations since then are not known.",
            text_zh=f"{each.label} 已于 {end} 失效，因宽限期继续使用至 {until}。此后的吊销情况未知。",
            since=each.next_update.timestamp(),
        )
    return Alarm(
        kind="crl-stale",
        anchor=anchor,
        source=each.label,
        text=f"The {each.label} ended at {end}. Certificates it is about are refused until a newer one comes.",
        text_zh=f"{each.label} 已于 {end} 失效，在获得更新的 CRL 之前，相关证书一律拒绝。",
        since=(each.next_update + grace).timestamp(),
    )


def about_nothing(anchor: str, source: str, required: bool, now: float) -> Alarm:
    """That there is no usable list at all."""
    english = "every certificate is refused" if required else "revocation is not checked"
    chinese = "所有证书均被拒绝" if required else "不检查吊销状态"
    return Alarm(
        kind="crl-missing",
        anchor=anchor,
        source=source,
        text=f"There is no usable CRL for the anchor {anchor}: without OCSP, {english}.",
        text_zh=f"信任锚 {anchor} 没有可用的 CRL：若无 OCSP，{chinese}。",
        since=now,
    )


def about_problem(anchor: str, problem: SourceProblem, now: float) -> Alarm:
    """What a source is not good for."""
    return Alarm(
        kind=problem.kind,
        anchor=anchor,
        source=problem.source,
        text=f"{problem.source}: {problem.problem.rstrip('.')}.",
        text_zh=f"{problem.source}：{problem.problem_zh.rstrip('。')}。",
        since=now,
    )


def carry_on(before: Iterable[Alarm], found: Iterable[Alarm]) -> tuple[Alarm, ...]:
    """Alarms of now, each with the `since` it had when it was raised first."""
    since = {alarm.key: alarm.since for alarm in before}
    unique = {alarm.key: alarm for alarm in found}
    return tuple(replace(alarm, since=since.get(key, alarm.since)) for key, alarm in unique.items())
