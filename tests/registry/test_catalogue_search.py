"""Finding resources: by words in two languages, by filters, page by page; on SQLite and PostgreSQL alike."""

from __future__ import annotations

import random
from typing import Any

import pytest
import pytest_asyncio

from exchange import InvalidRequestError, MemberId, SubsystemId, member_of
from registry import Actor, Catalogue, Member, Registry, ResourceSearch, Subsystem
from registry.catalogue.search import read_position
from registry.catalogue.words import normal, pieces_of, texts_of, words_of
from tests.registry.catalogue_kit import (
    AUDITOR,
    INTEGRATOR,
    OPERATOR,
    OWNER,
    STRANGER,
    document,
    parsed,
    publish,
    resource,
)
from tests.registry.conftest import HOUSING, TAX

CIVIL = SubsystemId("CN/GOV/11990000000001038F/civil")


ON_SHARED = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
async def catalogue(registry: Registry) -> Catalogue:
    """Of the test's own, for tests that publish or withdraw something."""
    return await filled(registry)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_catalogue(shared_registry: Registry) -> Catalogue:
    """One for all tests that only search."""
    return await filled(shared_registry)


async def filled(registry: Registry) -> Catalogue:
    """A few resources of three departments, beside that of the example seed (306001/000001, 企业登记信息)."""
    who: dict[str, Any] = {"by": "x", "why": "x"}
    civil = MemberId(member_of(CIVIL))
    await registry.add_member(
        Member(id=civil, name="示例（试点）市民政局", name_en="Civil Affairs Bureau", check_exception="示例"), **who
    )
    await registry.add_subsystem(Subsystem(id=CIVIL, name="婚姻登记系统"), **who)
    catalogue = Catalogue(registry)
    await publish(catalogue)  # 306002/000001, 欠税信息
    await publish(
        catalogue,
        code="306002/000002",
        name="纳税人信用等级",
        name_en="Taxpayer credit",
        abstract="按年评定。",
        abstract_en="",
        items=[{"path": "level", "name": "等级"}],
        themes=["信用"],
        keywords=[],
        level="city",
        division="450100",
        mode="file",
        accesses=[],
    )
    await publish(
        catalogue,
        code="306002/000003",
        provider=CIVIL,
        name="婚姻状况",
        name_en="MARITAL Status",
        abstract="当事人的婚姻状况，供纳税申报核查。",
        abstract_en="",
        items=[{"path": "status", "name": "婚姻状况", "name_en": "Status"}, {"path": "spouse", "name": "配偶姓名"}],
        themes=["民政"],
        keywords=["Ｑ＆Ａ"],
        sharing_class="unconditional",
        conditions="",
        level="county",
        division="450103",
        accesses=[],
    )
    return catalogue


async def codes(catalogue: Catalogue, actor: Actor = STRANGER, **search: Any) -> list[str]:
    found = await catalogue.search(actor, ResourceSearch(**search))
    assert found.match == "exact"
    return [each.code.removeprefix("306002/00000") for each in found.resources]


SEED = "306001/000001"
WORDS: dict[str, list[str]] = {
    "纳税": ["2", "1", "3"],  # in the name; in the abstract
    "税": ["1", "2", SEED, "3"],
    "欠税": ["1"],
    "纳税人 信用": ["2", "1"],
    "信用　纳税人": ["2", "1"],  # an ideographic space
    "ＴＡＸ": ["1", "2", SEED],
    "marital": ["3"],
    "MARITAL status": ["3"],
    "q&a": ["3"],
    "配偶": ["3"],
    "配偶 民政": ["3"],
    "民政局": ["3"],
    "（试点）": ["3"],
    "(试点)市民政": ["3"],
    "婚姻登记系统": ["3"],
    "civil affairs": ["3"],
    "306002/000002": ["2"],
    "征收": ["1", "2", "3"],  # of the classification
    "arrears.amount": ["1"],
    "姓": ["3"],
    "": [SEED, "1", "2", "3"],
    "   ": [SEED, "1", "2", "3"],
}


@pytest.mark.parametrize("words", WORDS)
@ON_SHARED
async def test_words_are_found_wherever_they_stand(shared_catalogue: Catalogue, words: str) -> None:
    assert await codes(shared_catalogue, words=words) == WORDS[words]


async def test_a_name_counts_more_than_an_item_and_an_item_more_than_an_abstract(catalogue: Catalogue) -> None:
    for number, changes in enumerate(
        (
            {"abstract": "关于供水"},
            {"items": [{"path": "a", "name": "供水量"}]},
            {"name": "城市供水情况"},
            {"name": "供水"},
        ),
        start=4,
    ):
        await publish(catalogue, code=f"306002/00000{number}", **changes)
    assert await codes(catalogue, words="供水") == ["7", "6", "5", "4"]


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"department": CIVIL}, ["3"]),
    ({"department": member_of(TAX)}, [SEED, "1", "2"]),
    ({"department": "CN/GOV/1199000000000"}, []),
    ({"department": "CN/GOV"}, [SEED, "1", "2", "3"]),
    ({"department": "税务局"}, [SEED, "1", "2"]),
    ({"department": "市 民政"}, ["3"]),
    ({"theme": "信用"}, ["1", "2"]),
    ({"theme": "ｑ＆"}, ["3"]),
    ({"item": "姓名"}, ["3"]),
    ({"item": "法定代表人"}, [SEED, "1"]),
    ({"sharing_class": "unconditional"}, ["3"]),
    ({"division": "450000"}, ["2", "3"]),
    ({"division": "450100"}, ["2", "3"]),
    ({"division": "450103"}, ["3"]),
    ({"division": "450200"}, []),
    ({"level": "city"}, [SEED, "2"]),
    ({"mode": "file"}, ["2"]),
    ({"words": "税", "theme": "信用", "mode": "query-interface"}, ["1"]),
]


@pytest.mark.parametrize(("search", "expected"), FILTERS)
@ON_SHARED
async def test_each_filter_narrows_to_what_it_names(
    shared_catalogue: Catalogue, search: dict[str, Any], expected: list[str]
) -> None:
    assert await codes(shared_catalogue, **search) == expected


@pytest.mark.parametrize(
    ("words", "match", "expected"),
    [
        ("纳税仁", "close-name", ["2"]),
        ("婚姻状态情况", "close-name", ["3"]),
        ("配偶性别", "close-item", ["3"]),
        ("飞机", "exact", []),
        ("龘", "exact", []),
    ],
)
@ON_SHARED
async def test_when_nothing_holds_every_word_what_comes_near_is_shown_and_said_so(
    shared_catalogue: Catalogue, words: str, match: str, expected: list[str]
) -> None:
    found = await shared_catalogue.search(STRANGER, ResourceSearch(words=words))
    assert found.match == match
    assert [each.code.removeprefix("306002/00000") for each in found.resources] == expected


async def test_wildcards_and_quotes_are_characters_like_others(catalogue: Catalogue) -> None:
    await publish(catalogue, code="306002/000009", name="折扣率100%_合计'\"\\")
    for words in ("100%", "%_合", "_合计'", "'\"", '"\\', "\\"):
        found = await codes(catalogue, words=words)
        assert "9" in found, words
    for words in ("1%0", "纳%人", "纳_人", "' OR 1=1 --"):
        assert (await catalogue.search(STRANGER, ResourceSearch(words=words))).match != "exact" or not await codes(
            catalogue, words=words
        )


@pytest.mark.parametrize("words", ["\0", "a\0b", "\ud800", "\x1b[2J", "￿"])
@ON_SHARED
async def test_characters_that_no_database_takes_are_harmless(shared_catalogue: Catalogue, words: str) -> None:
    await shared_catalogue.search(STRANGER, ResourceSearch(words=words, theme=words, item=words, department=words))


@ON_SHARED
async def test_too_many_words_are_refused(shared_catalogue: Catalogue) -> None:
    with pytest.raises(InvalidRequestError, match="at most 10"):
        await shared_catalogue.search(STRANGER, ResourceSearch(words=" ".join("甲乙丙丁戊己庚辛壬癸子")))


async def test_pages_follow_each_other_without_gaps_or_repeats(catalogue: Catalogue) -> None:
    for words in ("", "税", "纳税仁"):
        whole = await catalogue.search(STRANGER, ResourceSearch(words=words))
        seen: list[str] = []
        after = None
        while True:
            page = await catalogue.search(STRANGER, ResourceSearch(words=words, after=after, limit=1))
            assert page.match == whole.match
            seen += [each.code for each in page.resources]
            after = page.next
            if after is None:
                break
            # What is published meanwhile changes nothing of what was shown.
            await publish(catalogue, code="101001/000001", **_base())
            assert read_position(*after) == after
        assert [code for code in seen if code != "101001/000001"] == [
            each.code for each in whole.resources if each.code != "101001/000001"
        ]


def _base() -> dict[str, Any]:
    steps = {"category": {"code": "1", "name": "基"}, "subcategory": {"code": "01", "name": "人"}}
    return {
        "classification": {**steps, "entry": {"code": "001", "name": "口"}},
        "base_resource": True,
        "sharing_class": "unconditional",
        "conditions": "",
    }


async def test_drafts_and_withdrawn_resources_are_listed_to_those_who_may_see_them(catalogue: Catalogue) -> None:
    await catalogue.save(INTEGRATOR, parsed(code="306002/000008", name="草稿一"), why="x")
    await catalogue.withdraw(OPERATOR, "306002/000003", why="x")
    assert "3" not in await codes(catalogue)
    assert await codes(catalogue, state="withdrawn") == ["3"]
    for nobody in (STRANGER, Actor(subsystem=HOUSING)):
        assert await codes(catalogue, nobody, state="draft") == []
    for somebody in (OWNER, INTEGRATOR, AUDITOR, OPERATOR):
        assert await codes(catalogue, somebody, state="draft") == ["8"]
    await catalogue.withdraw(OWNER, "306002/000008", why="never mind")
    assert await codes(catalogue, state="withdrawn") == ["3"]
    assert await codes(catalogue, OWNER, state="withdrawn") == ["3", "8"]


async def test_a_department_that_is_renamed_is_found_by_its_new_name(catalogue: Catalogue, registry: Registry) -> None:
    member = Member(id=MemberId(member_of(CIVIL)), name="示例市社会事务局", check_exception="示例")
    await registry.add_member(member, by="x", why="x", replace=True)
    assert await codes(catalogue, words="社会事务") == ["3"]
    assert await codes(catalogue, department="民政局") == []


async def test_any_search_finds_what_a_plain_comparison_finds(catalogue: Catalogue) -> None:
    """Random resources and words, against the rules written down once more in ten lines."""
    draw = random.Random(20261123)
    letters = "税纳人欠信用登记 婚ab "
    made = {}
    for number in range(40):
        code = f"306002/1{number:03d}"
        text = ["".join(draw.choices(letters, k=draw.randint(2, 9))).strip() or "税" for _ in range(4)]
        changes = {"name": text[0], "items": [{"path": "p", "name": text[1]}], "themes": [text[2]], "abstract": text[3]}
        await publish(catalogue, code=code, **changes, name_en="", abstract_en="", keywords=[], accesses=[])
        made[code] = texts_of(resource(code=code, **changes, name_en="", abstract_en="", keywords=[]))
    department = normal("示例市税务局 税务征管系统 tax administration example city tax bureau")

    def expected(words: str) -> list[str]:
        scored = []
        for code, texts in made.items():
            places = (texts.names, texts.item_names, texts.themes + texts.rest + department)
            best = [
                next((8, 4, 1)[n] for n, text in enumerate([*places, word]) if word in text)
                if any(word in t for t in places)
                else 0
                for word in words_of(words)
            ]
            if all(best):
                whole = 16 if words_of(words) and f"\n{normal(words)}\n" in texts.names else 0
                scored.append((-sum(best) - whole, code))
        return [code for _, code in sorted(scored)]

    for _ in range(60):
        words = "".join(draw.choices(letters, k=draw.randint(1, 5)))
        found = await catalogue.search(OPERATOR, ResourceSearch(words=words, limit=500, department=TAX))
        shown = [each.code for each in found.resources if each.code in made] if found.match == "exact" else []
        assert shown == expected(words), words


def test_both_sides_are_normalised_alike() -> None:
    assert normal("  Ｔax　纳税\t人\n") == "tax 纳税 人"
    assert normal("STRASSE") == normal("straße")
    assert words_of("纳税 纳税  TAX tax") == ("纳税", "tax")
    assert pieces_of(("纳税人", "税人")) == ("纳税", "税人")
    assert texts_of(resource()).names == "\n欠税信息\ntax arrears\n"
    assert document()["name"] in texts_of(resource()).names
