"""What each jurisdiction allows: how many working days for which duty, and who hears of a missed deadline.

Rules:
1. Days are configuration: `jurisdictions.toml` beside this module is the default, the setting `jurisdictions` names another.
2. A jurisdiction inherits from its parent what it does not state; what is inherited keeps the parent's legal basis.
3. Where no law sets a number, the file says so (`chosen`), and nobody is told that a law demands it.
4. A department's jurisdiction is the one with the longest prefix of its division code (GB/T 2260).
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from exchange import Language, TomlSource, UnprocessableError, read_toml

DutyClass = Literal["unconditional", "conditional"]
"""Sharing classes for which something is owed; of what is not shared, nothing is."""
Duty = Literal["formal-check", "answer", "answer-unpublished", "delivery", "supplement", "draft"]
"""What has a deadline: the authority's check of the form (0 days: there is none); the owner's answer; the same, when the data
must first be brought onto the platform; delivery after approval; the applicant's reply when asked for more; a draft's life."""
DisputeLevel = Literal["negotiating", "authority", "government"]
"""The ladder of a dispute: the parties, then the authority of their level, then the government above it."""

DUTY_CLASSES: Final[tuple[DutyClass, ...]] = get_args(DutyClass)
DUTIES: Final[tuple[Duty, ...]] = get_args(Duty)
DISPUTE_LEVELS: Final[tuple[DisputeLevel, ...]] = get_args(DisputeLevel)

_RULE: Final = "jurisdictions"
_CHOSEN: Final[dict[Language, str]] = {
    "en": "Chosen by the operator of the mesh; no law sets it",
    "zh": "由平台运维方设定，法律未作规定",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """How many working days something may take, and who says so."""

    days: int
    basis: Mapping[Language, str]
    jurisdiction: str
    """Id of the jurisdiction that states it, which may be a parent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Who hears of a deadline that is late by so many working days."""

    id: str
    name: Mapping[Language, str]
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Jurisdiction:
    """One set of deadlines, complete: inherited ones included."""

    id: str
    name: Mapping[Language, str]
    division: str
    """The first digits of the division codes it holds for; empty for the whole country."""
    parent: str
    basis: Mapping[Language, str]
    terms: Mapping[DutyClass, Mapping[Duty, Term]]
    disputes: Mapping[DisputeLevel, Term]
    escalation: tuple[Rung, ...]
    """From the first to hear to the last."""

    def term(self, duty_class: DutyClass, duty: Duty) -> Term:
        """How long one duty may take, from the day after the one who owes it got the file."""
        return self.terms[duty_class][duty]

    def steps(self, duty_class: DutyClass, duty: Duty) -> tuple[tuple[Duty, Term], ...]:
        """What has to happen from submission until `duty` is done: before an answer comes the authority's check of the form."""
        duties: tuple[Duty, ...] = ("formal-check", duty) if duty in ("answer", "answer-unpublished") else (duty,)
        return tuple((each, term) for each in duties if (term := self.term(duty_class, each)).days)

    def rungs(self, late_by: int) -> tuple[Rung, ...]:
        """Those of the ladder that have heard when a deadline is late by `late_by` working days."""
        return tuple(rung for rung in self.escalation if rung.after <= late_by)


class Jurisdictions:
    """All that are configured; the first one is the country."""

    def __init__(self, found: Mapping[str, Jurisdiction]) -> None:
        self._found = dict(found)

    def __iter__(self) -> Iterator[Jurisdiction]:
        return iter(self._found.values())

    def get(self, identifier: str, *, pointer: str = "") -> Jurisdiction:
        """One of them.

        Args:
            pointer: Where the identifier stands in what was sent.

        Raises:
            UnprocessableError: There is no such one; the message lists the known.
        """
        found = self._found.get(identifier)
        if found is None:
            raise UnprocessableError(
                _RULE,
                problem=f"There is no jurisdiction {identifier!r}; known are {', '.join(self._found)}.",
                problem_zh=f"没有辖区“{identifier}”；已知：{'、'.join(self._found)}。",
                pointer=pointer,
            )
        return found

    def of_division(self, division: str) -> Jurisdiction:
        """The one that holds for a division code: the longest prefix; an unknown or empty code falls to the country."""
        return max((each for each in self if division.startswith(each.division)), key=lambda each: len(each.division))


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


_Days = Annotated[int, Field(ge=1, le=250)]
_DaysOrNone = Annotated[int, Field(ge=0, le=250)]


class _Terms(_Model):
    formal_check: _DaysOrNone | None = None
    answer: _DaysOrNone | None = None
    answer_unpublished: _DaysOrNone | None = None
    delivery: _Days | None = None
    supplement: _Days | None = None
    draft: _Days | None = None


class _Disputes(_Model):
    negotiating: _Days | None = None
    authority: _Days | None = None
    government: _Days | None = None


class _Rung(_Model):
    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    name_zh: str = Field(min_length=1)
    name_en: str = Field(min_length=1)
    after: _Days


class _Entry(_Model):
    id: str = Field(pattern=r"^[A-Z]{2}(-[A-Z0-9]+)*$")
    name_zh: str = Field(min_length=1)
    name_en: str = Field(min_length=1)
    division: str = Field(pattern=r"^(\d\d){0,3}$")
    parent: str = ""
    basis_zh: str = Field(min_length=1)
    basis_en: str = Field(min_length=1)
    chosen: list[str] = Field(default_factory=list)
    unconditional: _Terms = _Terms()
    conditional: _Terms = _Terms()
    disputes: _Disputes = _Disputes()
    escalation: list[_Rung] = Field(default_factory=list)


class _File(_Model):
    jurisdictions: list[_Entry] = Field(min_length=1)


def read_jurisdictions(path: Path | None = None) -> Jurisdictions:
    """The jurisdictions in a TOML file, by default the packaged ones.

    Raises:
        UnprocessableError: The file breaks the format, or leaves a number open; the message names the line and the key.
    """
    if path is None:
        with importlib.resources.as_file(
            importlib.resources.files("registry.clock") / "jurisdictions.toml"
        ) as packaged:
            return _join(*read_toml(packaged, _File, _RULE))
    return _join(*read_toml(path, _File, _RULE))


def _join(file: _File, source: TomlSource) -> Jurisdictions:
    found: dict[str, Jurisdiction] = {}
    for index, entry in enumerate(file.jurisdictions):
        at = ("jurisdictions", index)
        if entry.id in found:
            raise source.refuse(_RULE, (*at, "id"), f"{entry.id} stands twice.", f"{entry.id} 重复。")
        if any(entry.division == each.division for each in found.values()):
            raise source.refuse(
                _RULE,
                (*at, "division"),
                f"{entry.division!r} belongs to another jurisdiction, too.",
                f"“{entry.division}”已属于另一辖区。",
            )
        parent = found.get(entry.parent)
        if parent is None and (found or entry.parent):
            # So the first is the country, and nothing can inherit in a circle.
            raise source.refuse(
                _RULE,
                (*at, "parent"),
                f"name one that stands above: {', '.join(found) or 'the first has no parent'}.",
                f"请填写前文已列的辖区：{'、'.join(found) or '第一个辖区没有上级'}。",
            )
        if not entry.division.startswith(parent.division if parent else "") or (parent is None and entry.division):
            raise source.refuse(
                _RULE,
                (*at, "division"),
                "it must begin with the parent's; that of the first is empty.",
                "须以上级辖区代码开头；第一个辖区的代码为空。",
            )
        found[entry.id] = _complete(entry, parent, source, at)
    return Jurisdictions(found)


def _complete(entry: _Entry, parent: Jurisdiction | None, source: TomlSource, at: tuple[str, int]) -> Jurisdiction:
    basis: dict[Language, str] = {"en": entry.basis_en, "zh": entry.basis_zh}
    choosable = {*_Terms.model_fields, *_Disputes.model_fields}
    unknown = [name for name in entry.chosen if name not in choosable]
    if unknown:
        raise source.refuse(
            _RULE,
            (*at, "chosen"),
            f"{unknown[0]!r} is none of {', '.join(sorted(choosable))}.",
            f"“{unknown[0]}”不在 {', '.join(sorted(choosable))} 之中。",
        )

    def term(group: str, name: str, inherited: Term | None) -> Term:
        days: int | None = getattr(getattr(entry, group), name)
        if days is not None:
            return Term(days=days, basis=_CHOSEN if name in entry.chosen else basis, jurisdiction=entry.id)
        if inherited is None:
            raise source.refuse(_RULE, (*at, group, name), "a number of working days is missing.", "缺少工作日天数。")
        return inherited

    terms: dict[DutyClass, dict[Duty, Term]] = {
        duty_class: {
            duty: term(duty_class, duty.replace("-", "_"), parent.term(duty_class, duty) if parent else None)
            for duty in DUTIES
        }
        for duty_class in DUTY_CLASSES
    }
    for duty_class, duties in terms.items():
        for duty in ("answer", "answer-unpublished"):
            if not duties["formal-check"].days + duties[duty].days:
                raise source.refuse(
                    _RULE,
                    (*at, duty_class, duty.replace("-", "_")),
                    "the formal check and the answer cannot both take no day.",
                    "形式审查与答复不能都为 0 天。",
                )
    return Jurisdiction(
        id=entry.id,
        name={"en": entry.name_en, "zh": entry.name_zh},
        division=entry.division,
        parent=entry.parent,
        basis=basis,
        terms=terms,
        disputes={
            level: term("disputes", level, parent.disputes[level] if parent else None) for level in DISPUTE_LEVELS
        },
        escalation=tuple(
            Rung(id=rung.id, name={"en": rung.name_en, "zh": rung.name_zh}, after=rung.after)
            for rung in sorted(entry.escalation, key=lambda rung: rung.after)
        )
        or (parent.escalation if parent else ()),
    )
