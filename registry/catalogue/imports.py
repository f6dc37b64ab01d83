"""Many resources at once: all of them or none, and what would happen can be seen first.

Rules:
1. What is imported becomes drafts; `publish` puts them into force as well, which takes an owner.
2. A single fault, and nothing is written. All faults are found in one go, each with a pointer and, of a workbook, its cell.
3. What is so already is counted as unchanged, and leaves no trace on the record.
4. What is in the catalogue and not in the import stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exchange import MeshError, RoleMissingError, UnprocessableError
from registry.actors import Actor
from registry.catalogue.codes import NATIONAL, CodeScheme, is_addressable
from registry.catalogue.documents import (
    ResourceDocument,
    department_faults,
    read_document,
    resources_in,
)
from registry.catalogue.resource import Department
from registry.catalogue.rules import LONGEST_LINE, Fault, faults_of
from registry.catalogue.store import load_departments
from registry.catalogue.writer import ResourceWriter, save_resource
from registry.changes import Changes
from registry.records import Change

MOST_FAULTS: Final = 200
"""Told of one import; who has more has made the same mistake many times."""


def _nowhere(pointer: str) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One resource of an import, as it was read."""

    pointer: str
    """Leads to it in what was sent."""
    document: ResourceDocument | tuple[Fault, ...]
    place: Callable[[str], str] = _nowhere
    """The cell of a workbook that a pointer within the resource stands for; empty for other forms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportFault:
    """What is wrong, and where: by JSON pointer, and by sheet and cell where there are any."""

    pointer: str
    place: str
    rule: str
    problem: str
    problem_zh: str

    def error(self, more: int = 0) -> UnprocessableError:
        """The fault as an error."""
        where = f"{self.place}: " if self.place else ""
        others = f" There are {more} more faults; a dry run lists them." if more else ""
        others_zh = f"另有 {more} 处错误，可用试运行（dry run）列出。" if more else ""
        return UnprocessableError(
            self.rule,
            problem=f"{where}{self.problem}{others}",
            problem_zh=f"{where}{self.problem_zh}{others_zh}",
            pointer=self.pointer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did, or would do, by resource codes."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    faults: tuple[ImportFault, ...]
    applied: bool
    """Whether it was written down; with a fault, or on trial, it was not."""


def candidates_of(value: object) -> tuple[Candidate, ...]:
    """The resources in a catalogue file (parsed JSON); raises UnprocessableError if it is none."""
    return tuple(
        Candidate(pointer=f"/resources/{number}", document=read_document(each))
        for number, each in enumerate(resources_in(value))
    )


async def save_document(
    change: Changes,
    actor: Actor,
    document: ResourceDocument,
    *,
    replace: bool = False,
    schemes: Sequence[CodeScheme] = NATIONAL,
) -> Change | None:
    """Write a draft from its JSON form; see `save_resource`.

    Raises:
        UnprocessableError: The document calls its provider something else than the registry does.
    """
    for provider, department in (await load_departments(change.connection, _providers([document]))).items():
        assert provider == document.provider
        for fault in department_faults(document, department):
            raise fault.error()
    return await save_resource(change, actor, document.resource(), replace=replace, schemes=schemes)


async def import_resources(
    change: Changes,
    actor: Actor,
    candidates: Sequence[Candidate],
    *,
    publish: bool = False,
    schemes: Sequence[CodeScheme] = NATIONAL,
) -> ImportReport:
    """Write what can be written and report on all of it; the transaction is to be undone if there is a fault.

    Raises:
        RoleMissingError: A resource is not the actor's to describe, or to publish.
    """
    outcome: dict[str, list[str]] = {"added": [], "changed": [], "unchanged": []}
    faults: list[ImportFault] = []
    first: dict[str, str] = {}
    writer = ResourceWriter(change, actor, schemes)
    documents = [each.document for each in candidates if isinstance(each.document, ResourceDocument)]
    # A code that is none is found in no database, and PostgreSQL would not take some of them.
    await writer.look_up([each.code for each in documents if is_addressable(each.code)])
    departments = await load_departments(change.connection, _providers(documents))
    for candidate in candidates:
        found = list(_faults(candidate, first, departments, schemes))
        if not found and isinstance(candidate.document, ResourceDocument):
            resource = candidate.document.resource()
            try:
                done = await writer.save(resource, replace=True, checked=True)
                put = await writer.publish(resource.code) if publish else None
            except RoleMissingError:
                raise
            except MeshError as error:
                found.append(Fault(error.pointer, error.rule, error.detail_in("en"), error.detail_in("zh")))
            else:
                is_new = done is not None and done.before is None
                outcome["added" if is_new else "changed" if done or put else "unchanged"].append(resource.code)
        faults += (_placed(candidate, fault) for fault in found)
        if len(faults) >= MOST_FAULTS:
            break
    return ImportReport(
        added=tuple(outcome["added"]),
        changed=tuple(outcome["changed"]),
        unchanged=tuple(outcome["unchanged"]),
        faults=tuple(faults[:MOST_FAULTS]),
        applied=not faults,
    )


def _providers(documents: Sequence[ResourceDocument]) -> list[str]:
    """The providers of those documents that say what they are called."""
    told = {each.provider for each in documents if each.department is not None}
    return [each for each in told if len(each) <= LONGEST_LINE and each.isprintable()]


def _faults(
    candidate: Candidate, first: dict[str, str], departments: Mapping[str, Department], schemes: Sequence[CodeScheme]
) -> Iterator[Fault]:
    """What is wrong with a candidate by itself, and beside the others; `first` remembers where each code was met."""
    document = candidate.document
    if not isinstance(document, ResourceDocument):
        yield from document
        return
    yield from faults_of(document.resource(), schemes)
    before = first.setdefault(document.code, candidate.pointer)
    if before != candidate.pointer:
        yield Fault(
            "/code",
            "resource-code",
            f"The code is that of {before} already.",
            f"该代码与 {before} 重复。",
        )
    if document.provider in departments:
        yield from department_faults(document, departments[document.provider])


def _placed(candidate: Candidate, fault: Fault) -> ImportFault:
    return ImportFault(
        pointer=candidate.pointer + fault.pointer,
        place=candidate.place(fault.pointer),
        rule=fault.rule,
        problem=fault.problem,
        problem_zh=fault.problem_zh,
    )
