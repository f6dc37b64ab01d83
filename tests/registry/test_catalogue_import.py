"""Many resources at once, from JSON and from workbooks: all or none, every fault found, nothing doubled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exchange import RoleMissingError, UnprocessableError
from registry import (
    Candidate,
    Catalogue,
    Registry,
    candidates_in_workbook,
    candidates_of,
    catalogue_file,
    document_of,
    workbook_of,
)
from registry.catalogue.documents import FORMAT, MOST_RESOURCES
from tests.registry.catalogue_kit import INTEGRATOR, OPERATOR, OWNER, STRANGER, document, publish
from tests.registry.conftest import HOUSING, TAX

CODES = [f"306002/00000{number}" for number in range(1, 5)]


@pytest.fixture
def catalogue(registry: Registry) -> Catalogue:
    return Catalogue(registry)


def candidates(*documents: Any) -> tuple[Candidate, ...]:
    return candidates_of(json.loads(json.dumps(catalogue_file(documents))))


async def test_an_import_adds_changes_and_leaves_alone(catalogue: Catalogue, registry: Registry) -> None:
    await publish(catalogue, code=CODES[0])
    await publish(catalogue, code=CODES[1])
    sent = candidates(document(code=CODES[0]), document(code=CODES[1], name="新名称"), document(code=CODES[2]))
    version = await registry.version()
    tried = await catalogue.take_in(INTEGRATOR, sent, why="导入", dry_run=True)
    assert (tried.unchanged, tried.changed, tried.added) == ((CODES[0],), (CODES[1],), (CODES[2],))
    assert (tried.applied, tried.faults) == (False, ())
    assert await registry.version() == version
    done = await catalogue.take_in(INTEGRATOR, sent, why="导入")
    assert (done.unchanged, done.changed, done.added, done.applied) == (
        tried.unchanged,
        tried.changed,
        tried.added,
        True,
    )
    assert await registry.version() == version + 2
    entry, _ = await catalogue.entry(OWNER, CODES[1])
    assert (entry.content.name, entry.draft and entry.draft.name) == ("欠税信息", "新名称"), (
        "what is imported is a draft"
    )
    again = await catalogue.take_in(INTEGRATOR, sent, why="导入")
    assert (len(again.unchanged), again.added, again.changed) == (3, (), ())


async def test_an_import_may_publish_which_takes_an_owner(catalogue: Catalogue, registry: Registry) -> None:
    sent = candidates(document(code=CODES[0]), document(code=CODES[1]))
    version = await registry.version()
    with pytest.raises(RoleMissingError):
        await catalogue.take_in(INTEGRATOR, sent, why="导入", publish=True)
    assert await registry.version() == version
    await catalogue.take_in(OWNER, sent, why="导入", publish=True)
    for code in CODES[:2]:
        entry, _ = await catalogue.entry(STRANGER, code)
        assert (entry.state, entry.number) == ("published", 1)
    assert len((await catalogue.take_in(OWNER, sent, why="导入", publish=True)).unchanged) == 2


async def test_one_fault_and_nothing_is_written_and_all_faults_are_told(
    catalogue: Catalogue, registry: Registry
) -> None:
    version = await registry.version()
    sent = candidates(
        document(code=CODES[0]),
        document(code="2020/5", name=""),
        document(code=CODES[1], items=[{"path": "a", "name": "a"}, {"path": "a", "name": "b"}]),
        document(code=CODES[0]),
        document(code=CODES[2], colour="red"),
        document(code=CODES[3], accesses=[{"service": f"{TAX}/nothing"}]),
    )
    report = await catalogue.take_in(OPERATOR, sent, why="导入")
    assert [each.pointer for each in report.faults] == [
        "/resources/1/code",
        "/resources/1/name",
        "/resources/2/items/1/path",
        "/resources/3/code",
        "/resources/4/colour",
        "/resources/5/accesses/0/service",
    ]
    assert not report.applied
    assert await registry.version() == version
    error = report.faults[0].error(5)
    assert error.pointer == "/resources/1/code"
    assert "5 more" in error.detail_in("en")
    assert "5 处" in error.detail_in("zh")


async def test_others_resources_are_not_imported(catalogue: Catalogue, registry: Registry) -> None:
    version = await registry.version()
    with pytest.raises(RoleMissingError):
        await catalogue.take_in(STRANGER, candidates(document()), why="导入")
    taken = document(provider=HOUSING, accesses=[])
    await publish(catalogue)
    report = await catalogue.take_in(STRANGER, candidates(taken), why="导入")
    assert [each.pointer for each in report.faults] == ["/resources/0/provider"]
    assert await registry.version() == version + 2


async def test_a_department_that_is_sent_back_must_still_be_so(catalogue: Catalogue) -> None:
    wrong = {"name": "示例市税务局", "uscc": "1199000000000102XG"}
    report = await catalogue.take_in(OPERATOR, candidates(document(department=wrong)), why="导入")
    assert [each.pointer for each in report.faults] == ["/resources/0/department/uscc"]
    right = {"name": "示例市税务局", "uscc": "11990000000001011Q"}
    assert (await catalogue.take_in(OPERATOR, candidates(document(department=right)), why="导入")).applied


async def test_what_is_exported_is_imported_as_unchanged(catalogue: Catalogue, registry: Registry) -> None:
    await publish(catalogue)
    await publish(
        catalogue,
        code=CODES[1],
        name="=1+1",
        abstract="-2\n@x",
        keywords=["+3", "第二"],
        classification={**document()["classification"], "detail": {"code": "", "name": ""}},
        sharing_class="not-shared",
        conditions="",
        legal_basis="《保守国家秘密法》",
        format="other",
        format_other="磁带",
        update_cycle="other",
        update_cycle_other="逢闰年",
        open_to_public=True,
        openness_condition="脱敏后",
        linked=[CODES[0]],
        two_persons=True,
        base_resource=True,
        base_exception="例外",
        publication_date="2025-02-28",
    )
    await catalogue.save(OPERATOR, _parsed(CODES[2]), why="draft")
    found = [each async for each in catalogue.published()]
    assert [entry.code for entry, _ in found] == ["306001/000001", CODES[0], CODES[1]]
    version = await registry.version()
    workbook = workbook_of((entry.content, department) for entry, department in found)
    written = catalogue_file(document_of(entry.content, department) for entry, department in found)
    for sent in (candidates_in_workbook(workbook), candidates_of(json.loads(json.dumps(written)))):
        report = await catalogue.take_in(OPERATOR, sent, why="导入", publish=True)
        assert (report.faults, report.added, report.changed) == ((), (), ())
        assert len(report.unchanged) == 3
    assert await registry.version() == version
    assert [entry.code async for entry, _ in catalogue.published(HOUSING)] == []
    assert len([entry async for entry, _ in catalogue.published(TAX.rpartition("/")[0])]) == 3


def _parsed(code: str) -> Any:
    (candidate,) = candidates(document(code=code))
    return candidate.document


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ([], "/format"),
        ({}, "/format"),
        ({"format": "datong-catalogue/2", "resources": []}, "/format"),
        ({"format": FORMAT}, "/resources"),
        ({"format": FORMAT, "resources": {}}, "/resources"),
        ({"format": FORMAT, "resources": [], "a/b": 1}, "/a~1b"),
        ({"format": FORMAT, "resources": []}, "/resources"),
        ({"format": FORMAT, "resources": [{}] * (MOST_RESOURCES + 1)}, "/resources"),
    ],
)
def test_what_is_no_catalogue_file_is_refused(value: Any, pointer: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        candidates_of(value)
    assert caught.value.pointer == pointer
