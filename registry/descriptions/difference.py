"""What a new document changes, compared with the one before. Pure.

Rules:
1. Operations are the same when method and path are, whatever the placeholders are called; so are parameters of a path.
2. Breaking is what makes a call fail, or an answer unreadable, that was right before. Added is what was not there before.
   Changed is the rest. Descriptions, examples, servers and the order of things are not compared.
3. What a department answers when something is wrong (4xx, 5xx) breaks nobody by changing.
4. A change of a shared schema is told for each operation that it reaches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from exchange import item_path
from registry.descriptions.difference_texts import text
from registry.descriptions.document import Document, Place, pointer
from registry.descriptions.operations import Endpoint
from registry.descriptions.references import References
from registry.descriptions.schema_difference import Effect, Finding, SchemaDifference
from registry.descriptions.sides import Side, answers_of, content_of, demands_of, mapping_of, parameters_of, schema_of

Part = Literal["operation", "parameter", "request", "answer"]

MAX_ALTERATIONS = 5000
"""In one difference; what is beyond is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """One thing that differs."""

    effect: Effect
    rule: str
    part: Part
    method: str
    path: str
    """The operation, as it was before if it was there before."""
    pointer: str
    """JSON pointer into the new document; to what is gone, into the old one."""
    item: str = ""
    """Item path inside the body."""
    parameter: str = ""
    """Where it stands and its name: `query limit`."""
    en: str
    zh: str

    @classmethod
    def of_all(cls, effect: Effect, rule: str) -> Alteration:
        """One that concerns every operation alike."""
        en, zh = text(rule, "operation", "", "", {})
        return cls(effect=effect, rule=rule, part="operation", method="", path="", pointer="", en=en, zh=zh)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a new document adds, changes and breaks."""

    added: tuple[Alteration, ...] = ()
    changed: tuple[Alteration, ...] = ()
    breaking: tuple[Alteration, ...] = ()
    complete: bool = True
    """False if there was more to tell than fits."""

    @classmethod
    def of(cls, alterations: Iterable[Alteration]) -> Difference:
        """From everything that differs, in the order it was found; the same told twice is told once."""
        told: dict[Alteration, None] = {}
        for each in alterations:
            told[each] = None
            if len(told) > MAX_ALTERATIONS:
                break
        kept = list(told)[:MAX_ALTERATIONS]
        by_effect = {
            effect: tuple(each for each in kept if each.effect == effect) for effect in ("added", "changed", "breaking")
        }
        return cls(**by_effect, complete=len(told) <= MAX_ALTERATIONS)


def difference(old: tuple[Document, References] | None, new: tuple[Document, References]) -> Difference:
    """Return what differs between two valid documents; everything is added when there was none before."""
    now = Side.of(*new)
    was = Side.of(*old) if old is not None else None
    if was is None:
        return Difference.of(_operation_added(each) for each in now.endpoints.values())
    return Difference.of(_alterations(was, now))


def _alterations(was: Side, now: Side) -> Iterator[Alteration]:
    schemas = SchemaDifference(was.shapes, now.shapes)
    for key, before in was.endpoints.items():
        after = now.endpoints.get(key)
        if after is None:
            yield _told("breaking", "operation-removed", before, before.place)
        else:
            yield from _Comparison(was, now, before, after, schemas).all()
    for key, after in now.endpoints.items():
        if key not in was.endpoints:
            yield _operation_added(after)


class _Comparison:
    """Compares one operation before and after."""

    def __init__(self, was: Side, now: Side, before: Endpoint, after: Endpoint, schemas: SchemaDifference) -> None:
        self._was = was
        self._now = now
        self._before = before
        self._after = after
        self._schemas = schemas

    def all(self) -> Iterator[Alteration]:
        before, after = self._before, self._after
        if before.operation.safe != after.operation.safe:
            rule = "operation-safe" if after.operation.safe else "operation-unsafe"
            yield self._tell("changed", rule, after.place)
        if after.value.get("deprecated") is True and before.value.get("deprecated") is not True:
            yield self._tell("changed", "operation-deprecated", (*after.place, "deprecated"))
        yield from self._parameters()
        yield from self._request()
        yield from self._answers()
        yield from self._security()

    # Parameters

    def _parameters(self) -> Iterator[Alteration]:
        was, now = parameters_of(self._was, self._before), parameters_of(self._now, self._after)
        for key, after in now.items():
            before = was.get(key)
            shown = f"{key[0]} {after.name}"
            if before is None:
                effect: Effect = "breaking" if after.required else "added"
                rule = "parameter-required" if after.required else "parameter-added"
                yield self._tell(effect, rule, after.place, part="parameter", parameter=shown)
                continue
            if after.required != before.required:
                effect = "breaking" if after.required else "changed"
                rule = "parameter-required" if after.required else "parameter-optional"
                yield self._tell(effect, rule, after.place, part="parameter", parameter=shown)
            if after.style != before.style:
                facts = {"old": before.style, "new": after.style}
                yield self._tell("breaking", "parameter-style", after.place, part="parameter", parameter=shown, **facts)
            for each in self._schemas.of_request(before.schema, after.schema):
                yield self._tell_finding(each, "parameter", parameter=shown)
        for key, before in was.items():
            if key not in now:
                shown = f"{key[0]} {before.name}"
                yield self._tell("changed", "parameter-removed", before.place, part="parameter", parameter=shown)

    # Request bodies

    def _request(self) -> Iterator[Alteration]:
        was, was_place = self._part(self._was, self._before, "requestBody")
        now, now_place = self._part(self._now, self._after, "requestBody")
        needed = now is not None and now.get("required") is True
        if now is None:
            if was is not None:
                yield self._tell("changed", "request-body-removed", was_place, part="request")
            return
        if was is None:
            effect: Effect = "breaking" if needed else "added"
            rule = "request-body-required" if needed else "request-body-added"
            yield self._tell(effect, rule, now_place, part="request")
            return
        if needed != (was.get("required") is True):
            effect = "breaking" if needed else "changed"
            rule = "request-body-required" if needed else "request-body-optional"
            yield self._tell(effect, rule, now_place, part="request")
        contents = (content_of(was, was_place), content_of(now, now_place))
        for media_type, (_, place) in contents[0].items():
            if media_type not in contents[1]:
                yield self._tell("breaking", "request-media-type-removed", place, part="request", old=media_type)
        for media_type, (value, place) in contents[1].items():
            if media_type not in contents[0]:
                yield self._tell("added", "request-media-type-added", place, part="request", new=media_type)
                continue
            before = schema_of(self._was, *contents[0][media_type])
            for each in self._schemas.of_request(before, schema_of(self._now, value, place)):
                yield self._tell_finding(each, "request")

    # Answers

    def _answers(self) -> Iterator[Alteration]:
        was = answers_of(self._was, self._before)
        now = answers_of(self._now, self._after)
        for status, (before, place) in was.items():
            # What was told of a single status may be told of its range now.
            covering = next((each for each in (status, f"{status[:1]}XX") if each in now), None)
            breaks: Effect = "changed" if status[:1] in ("4", "5") else "breaking"
            if covering is None:
                yield self._tell(breaks, "answer-status-removed", place, part="answer", old=status)
            else:
                yield from self._answer(status, breaks, (before, place), now[covering])
        for status, (_, place) in now.items():
            if status not in was:
                yield self._tell("added", "answer-status-added", place, part="answer", new=status)

    def _answer(
        self, status: str, breaks: Effect, before: tuple[Any, Place], after: tuple[Any, Place]
    ) -> Iterator[Alteration]:
        contents = (content_of(*before), content_of(*after))
        for media_type, (_, place) in contents[0].items():
            if media_type not in contents[1]:
                rule = "answer-media-type-removed"
                yield self._tell(breaks, rule, place, part="answer", status=status, old=media_type)
        for media_type, (value, place) in contents[1].items():
            if media_type not in contents[0]:
                rule = "answer-media-type-added"
                yield self._tell("added", rule, place, part="answer", status=status, new=media_type)
                continue
            was = schema_of(self._was, *contents[0][media_type])
            for each in self._schemas.of_answer(was, schema_of(self._now, value, place)):
                yield self._tell_finding(each, "answer", breaks=breaks)
        headers = [{name.lower() for name in mapping_of(value, "headers")} for value, _ in (before, after)]
        for name in sorted(headers[0] - headers[1]):
            place = (*before[1], "headers")
            yield self._tell("changed", "answer-header-removed", place, part="answer", status=status, old=name)

    # Security

    def _security(self) -> Iterator[Alteration]:
        was, now = demands_of(self._was, self._before), demands_of(self._now, self._after)
        place = (*self._after.place, "security") if "security" in self._after.value else ("security",)
        # Whoever fulfilled one of the old demands must fulfil one of the new ones with the same proofs.
        unmet = [old for old in was if not any(new <= old for new in now)]
        if unmet:
            shown = " / ".join(sorted(", ".join(sorted(each)) for each in now))
            yield self._tell("breaking", "security-added", place, new=shown[:200])
        elif any(not any(old <= new for old in was) for new in now):
            yield self._tell("changed", "security-removed", place)

    # Telling

    def _part(self, side: Side, endpoint: Endpoint, key: str) -> tuple[Mapping[str, Any] | None, Place]:
        if key not in endpoint.value:
            return None, endpoint.place
        value, place = side.references.resolve(endpoint.value[key], (*endpoint.place, key))
        return (value, place) if isinstance(value, dict) else (None, place)

    def _tell(
        self, effect: Effect, rule: str, place: Place, *, part: Part = "operation", parameter: str = "", **facts: str
    ) -> Alteration:
        return _told(effect, rule, self._before, place, part=part, parameter=parameter, **facts)

    def _tell_finding(
        self, found: Finding, part: Part, *, parameter: str = "", breaks: Effect = "breaking"
    ) -> Alteration:
        effect = breaks if found.effect == "breaking" else found.effect
        return _told(
            effect,
            f"{part}-{found.what}",
            self._before,
            found.place,
            part=part,
            item=item_path(found.keys),
            parameter=parameter,
            old=found.old,
            new=found.new,
        )


def _operation_added(endpoint: Endpoint) -> Alteration:
    return _told("added", "operation-added", endpoint, endpoint.place)


def _told(
    effect: Effect,
    rule: str,
    endpoint: Endpoint,
    place: Place,
    *,
    part: Part = "operation",
    item: str = "",
    parameter: str = "",
    **facts: str,
) -> Alteration:
    operation = endpoint.operation
    en, zh = text(rule, part, item, parameter, {"operation": f"{operation.method} {operation.path}", **facts})
    return Alteration(
        effect=effect,
        rule=rule,
        part=part,
        method=operation.method,
        path=operation.path,
        pointer=pointer(place),
        item=item,
        parameter=parameter,
        en=en,
        zh=zh,
    )
