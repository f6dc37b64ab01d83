"""The civil-affairs bureau's database: real divisions, invented residents, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from department_adapters import Source, SourceRequest, read_contract
from department_adapters.serve import make_source
from deploy.demo.adapters import civil_adapter
from deploy.demo.civil_affairs import Resident, build, divisions, make_residents, read_divisions, residents
from deploy.demo.synthetic import RESIDENT_MARRIED, RESIDENT_SINGLE

DIVISIONS = {division.code: division for division in read_divisions()}
RESIDENTS = {resident.number: resident for resident in make_residents()}
PROVINCES = (
    *("北京市", "天津市", "河北省", "山西省", "内蒙古自治区", "辽宁省", "吉林省", "黑龙江省", "上海市", "江苏省"),
    *("浙江省", "安徽省", "福建省", "江西省", "山东省", "河南省", "湖北省", "湖南省", "广东省", "广西壮族自治区"),
    *("海南省", "重庆市", "四川省", "贵州省", "云南省", "西藏自治区", "陕西省", "甘肃省", "青海省", "宁夏回族自治区"),
    *("新疆维吾尔自治区", "台湾省", "香港特别行政区", "澳门特别行政区"),
)


def test_the_provinces_are_the_thirty_one_and_three() -> None:
    assert tuple(division.name for division in DIVISIONS.values() if division.level == "province") == PROVINCES


@pytest.mark.parametrize(
    ("code", "name", "parent"),
    [
        ("110101", "东城区", "110000"),  # a municipality has no cities
        ("310115", "浦东新区", "310000"),
        ("419001", "济源市", "410000"),  # a county-level city that answers to its province
        ("440300", "深圳市", "440000"),
        ("450100", "南宁市", "450000"),
        ("450103", "青秀区", "450100"),
        ("469030", "琼中黎族苗族自治县", "460000"),
        ("653228", "和康县", "653200"),  # of 2024
        ("710000", "台湾省", None),
    ],
)
def test_a_known_division_has_its_name_and_place(code: str, name: str, parent: str | None) -> None:
    assert (DIVISIONS[code].name, DIVISIONS[code].parent) == (name, parent)


def test_codes_and_levels_agree_everywhere() -> None:
    """Codes are six digits; what lies in something shares its leading digits; a city lies in a province."""
    assert len(DIVISIONS) > 3_000
    for code, division in DIVISIONS.items():
        assert len(code) == 6
        assert code.isdigit()
        assert not code.startswith("99")
        assert division.name
        assert division.kind
        parent = DIVISIONS[division.parent] if division.parent else None
        match division.level:
            case "province":
                assert code.endswith("0000")
                assert parent is None
            case "city":
                assert parent is not None
                assert parent.level == "province"
                assert code.startswith(parent.code[:2])
            case "county":
                assert not code.endswith("00")
                assert parent is not None
                assert code.startswith(parent.code.rstrip("0")[:4] if parent.level == "city" else parent.code[:2])
            case other:
                pytest.fail(f"{code} has the level {other!r}")


def test_sibling_divisions_have_different_names() -> None:
    names = Counter((division.parent, division.name) for division in DIVISIONS.values())
    assert names.most_common(1)[0][1] == 1


def test_residents_are_consistent() -> None:
    """Numbers say sex and birth date, spouses name each other and are of age, nobody is older than their parent."""
    assert len(RESIDENTS) == 3_000
    households = defaultdict[str, list[Resident]](list)
    for number, resident in RESIDENTS.items():
        households[resident.household_number].append(resident)
        assert resident.birth_date == date.fromisoformat(number[6:14])
        assert resident.sex == "女男"[int(number[16]) % 2]
        assert DIVISIONS[resident.address_division].parent == "450100"
        assert (resident.marital_status == "已婚") == (resident.spouse_number is not None)
        if resident.spouse_number:
            spouse = RESIDENTS[resident.spouse_number]
            assert resident.married_on is not None
            assert spouse.spouse_number == number
            assert {spouse.sex, resident.sex} == {"男", "女"}
            assert spouse.married_on == resident.married_on
            assert resident.married_on.year - resident.birth_date.year >= 22
            assert resident.married_on < date(2025, 7, 1)
    for household in households.values():
        assert [member.household_relation for member in household].count("户主") == 1
        assert household[0].household_relation == "户主"
        for member in household:
            if member.household_relation == "子女":
                assert member.birth_date.year - household[0].birth_date.year > 20


def test_the_residents_named_in_examples_are_as_named() -> None:
    assert RESIDENTS[RESIDENT_MARRIED].marital_status == "已婚"
    assert RESIDENTS[RESIDENT_SINGLE].marital_status == "未婚"
    assert {RESIDENTS[number].address_division for number in (RESIDENT_MARRIED, RESIDENT_SINGLE)} == {"450103"}


@pytest.mark.parametrize("count", range(1, 12))
def test_any_number_of_residents_can_be_asked_for(count: int) -> None:
    """Wherever the list is cut, no spouse is left out."""
    people = make_residents(count=count)
    numbers = {person.number for person in people}
    assert len(numbers) == count
    assert all(person.spouse_number is None or person.spouse_number in numbers for person in people)


def as_async(database: str) -> sa.URL:
    url = make_url(database)
    return url.set(drivername={"sqlite": "sqlite+aiosqlite"}.get(url.drivername, "postgresql+asyncpg"))


async def test_the_database_holds_what_was_made_and_is_kept(database_url: str) -> None:
    """A second build finds it and changes nothing; one from another seed refuses."""
    assert await build(database_url)
    assert not await build(database_url)
    with pytest.raises(RuntimeError, match="another version"):
        await build(database_url, seed="another")
    engine = create_async_engine(as_async(database_url))
    async with engine.connect() as connection:
        rows = (await connection.execute(sa.select(residents))).mappings().all()
        assert {row["number"]: Resident(**row) for row in rows} == RESIDENTS
        query = sa.select(divisions.c.code).where(divisions.c.parent == "450100").order_by(divisions.c.code)
        found = (await connection.execute(query)).scalars().all()
        assert found == [code for code, division in DIVISIONS.items() if division.parent == "450100"]
        assert (await connection.execute(sa.select(sa.func.count()).select_from(divisions))).scalar() == len(DIVISIONS)
    await engine.dispose()


async def test_two_builds_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    for name in ("one", "two"):
        await build(f"sqlite:///{tmp_path}/backends/{name}.sqlite")
    one, two = sorted((tmp_path / "backends").iterdir())  # and no draft is left
    assert one.read_bytes() == two.read_bytes()


async def test_the_file_keeps_no_write_ahead_log_that_a_read_only_adapter_would_have_to_create(tmp_path: Path) -> None:
    path = tmp_path / "civil.sqlite"
    await build(f"sqlite:///{path}", count=10)
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("SELECT name FROM divisions WHERE code = '450103'").fetchone() == ("青秀区",)
    connection.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/name", "postgresql://host"])
async def test_a_database_it_cannot_use_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///PATH or postgresql"):
        await build(url)


@dataclass(frozen=True)
class Asked:
    status: int
    body: Any


async def ask(source: Source, target: str) -> Asked:
    answer = await source.answer(
        SourceRequest(exchange_id="test", method="GET", target=target.encode(), headers=[], body=b"", timeout=10)
    )
    return Asked(answer.status, json.loads(answer.body))


@pytest.fixture
async def civil(database_url: str, tmp_path: Path) -> AsyncIterator[dict[str, Source]]:
    """The sources that the adapter's file declares over the database."""
    await build(database_url)
    (tmp_path / "adapter.toml").write_text(civil_adapter(bus_url="tls://127.0.0.1:1", database=database_url), "utf-8")
    contract = read_contract(tmp_path / "adapter.toml")
    sources = {name: make_source(service, contract) for name, service in contract.services.items()}
    for source in sources.values():
        await source.start()
    yield sources
    for source in sources.values():
        await source.stop()


async def test_a_division_is_answered_with_its_place(civil: dict[str, Source]) -> None:
    assert await ask(civil["divisions"], "/divisions/450103") == Asked(
        200, {"code": "450103", "name": "青秀区", "level": "county", "kind": "市辖区", "parent": "450100"}
    )
    assert (await ask(civil["divisions"], "/divisions/990101")).status == 404


@pytest.mark.parametrize(
    ("query", "count", "first"), [("", 34, "北京市"), ("?parent=", 34, "北京市"), ("?parent=450100", 12, "兴宁区")]
)
async def test_divisions_are_listed_by_what_they_lie_in(
    civil: dict[str, Source], query: str, count: int, first: str
) -> None:
    answer = await ask(civil["divisions"], "/divisions" + query)
    assert answer.status == 200
    assert len(answer.body["items"]) == count
    assert answer.body["items"][0]["name"] == first


async def test_a_resident_and_the_marriage_are_answered_separately(civil: dict[str, Source]) -> None:
    """Who may ask for the one need not see the other: they are two operations, to be granted one by one."""
    married = (await ask(civil["residents"], f"/residents/{RESIDENT_MARRIED}")).body
    assert married["number"] == RESIDENT_MARRIED
    assert married["address_division"] == "450103"
    assert not {"marital_status", "spouse_number", "married_on"} & married.keys()
    marriage = (await ask(civil["residents"], f"/residents/{RESIDENT_MARRIED}/marriage")).body
    assert marriage["marital_status"] == "已婚"
    assert marriage["married_on"] > married["birth_date"]
    spouse = (await ask(civil["residents"], f"/residents/{marriage['spouse_number']}/marriage")).body
    assert spouse["spouse_number"] == RESIDENT_MARRIED
    single = (await ask(civil["residents"], f"/residents/{RESIDENT_SINGLE}/marriage")).body
    assert (single["marital_status"], single["spouse_number"]) == ("未婚", None)


async def test_a_small_x_finds_the_same_resident(civil: dict[str, Source]) -> None:
    number = next(number for number in RESIDENTS if number.endswith("X"))
    assert await ask(civil["residents"], f"/residents/{number.lower()}") == await ask(
        civil["residents"], f"/residents/{number}"
    )
    assert (await ask(civil["residents"], "/residents/'%20OR%20''='")).status == 404
