"""The civil-affairs bureau's database: the real administrative divisions of China, and residents who do not exist.

Rules:
1. SQLite or PostgreSQL, same tables, same rows. It is made whole or not at all, and kept at later starts.
2. Divisions are facts (GB/T 2260; `data/README.md` says from where). No division begins with 99.
3. Residents are invented: number of the reserved division, name that is nobody's. Only the county they are said to live
   in is real (of Nanning), so that a resident's address can be looked up among the divisions.
4. The invented world ends on 30 June 2025: nobody is born or married later, whenever the database is made.
"""

from __future__ import annotations

import csv
import importlib.resources
import os
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from deploy.demo.synthetic import NAMES, RESERVED_DIVISION, SEED, citizen_number, draw, given_name, person_name

RESIDENTS: Final = 3000
_VERSION: Final = 1
_LAST_DAY: Final = date(2025, 6, 30)
_COUNTIES: Final = ("450103", "450102", "450105", "450107", "450108", "450109", "450110")
_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}

metadata = sa.MetaData()
divisions = sa.Table(
    "divisions",
    metadata,
    sa.Column("code", sa.String(6), primary_key=True),
    sa.Column("name", sa.String(60), nullable=False),
    sa.Column("level", sa.String(8), nullable=False),  # province, city or county
    sa.Column("kind", sa.String(20), nullable=False),  # 省, 自治区, 地级市, 市辖区, 县, ...
    sa.Column("parent", sa.String(6), sa.ForeignKey("divisions.code"), index=True),
)
residents = sa.Table(
    "residents",
    metadata,
    sa.Column("number", sa.String(18), primary_key=True),
    sa.Column("name", sa.String(60), nullable=False),
    sa.Column("sex", sa.String(1), nullable=False),  # 男 or 女
    sa.Column("birth_date", sa.Date, nullable=False),
    sa.Column("household_number", sa.String(20), nullable=False, index=True),
    sa.Column("household_relation", sa.String(10), nullable=False),  # 户主, 配偶 or 子女
    sa.Column("address_division", sa.String(6), sa.ForeignKey("divisions.code"), nullable=False),
    sa.Column("address", sa.String(200), nullable=False),
    sa.Column("marital_status", sa.String(2), nullable=False),  # 未婚, 已婚, 离异 or 丧偶
    sa.Column("spouse_number", sa.String(18)),
    sa.Column("married_on", sa.Date),
)
_made = sa.Table("datong_demo", metadata, sa.Column("version", sa.Integer), sa.Column("seed", sa.String(60)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """A province, city or county; `parent` is the code of what it lies in, None for a province."""

    code: str
    name: str
    level: str
    kind: str
    parent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """One invented person, as the bureau holds them."""

    number: str
    name: str
    sex: str
    birth_date: date
    household_number: str
    household_relation: str
    address_division: str
    address: str
    marital_status: str
    spouse_number: str | None = None
    married_on: date | None = None


def read_divisions() -> list[Division]:
    """The divisions in order of codes, each after the one it lies in."""
    text = importlib.resources.files("deploy.demo").joinpath("data/divisions.csv").read_text(encoding="utf-8")
    return [
        Division(code=code, name=name, level=level, kind=kind, parent=parent or None)
        for code, name, level, kind, parent in list(csv.reader(text.splitlines()))[1:]
    ]


def make_residents(seed: str = SEED, count: int = RESIDENTS) -> list[Resident]:
    """Invent `count` residents (up to NAMES), household by household.

    The first household is a couple with a child, the second one unmarried person; both live in 450103.
    """
    if count > NAMES:
        raise ValueError(f"there are only {NAMES} different names")
    taken: set[str] = set()
    people: list[Resident] = []
    household = 0
    while len(people) < count:
        people.extend(_household(seed, household, len(people), count - len(people), taken))
        household += 1
    return people


def _household(seed: str, household: int, first: int, places: int, taken: set[str]) -> list[Resident]:
    """One household of at most `places` people; `first` is the index its first member gets."""

    def chance(field: str, below: int) -> int:
        return draw(seed, household, f"household {field}", below)

    sex = "男女"[chance("sex", 2)]
    birth = date(1950, 1, 1) + timedelta(days=chance("birth", 18_200))  # up to late 1999: all are of age
    county = _COUNTIES[0 if household < 2 else chance("county", len(_COUNTIES))]
    head = Resident(
        number=_number(seed, first, birth, sex, taken),
        name=person_name(first),
        sex=sex,
        birth_date=birth,
        household_number=f"H{RESERVED_DIVISION}{household:06d}",
        household_relation="户主",
        address_division=county,
        address=f"示例小区{given_name(household)}苑{1 + chance('house', 60)}号",
        marital_status=("未婚", "离异", "丧偶")[0 if household == 1 else chance("alone", 3)],
    )
    married = household == 0 or (household != 1 and chance("married", 10) < 7)
    if not married or places < 2:
        return [head]
    other = "女" if sex == "男" else "男"
    other_birth = birth + timedelta(days=chance("gap", 2000) - 1200)
    spouse = replace(
        head,
        number=_number(seed, first + 1, other_birth, other, taken),
        name=person_name(first + 1),
        sex=other,
        birth_date=other_birth,
        household_relation="配偶",
    )
    # Both are 22 at least, the higher of the two legal ages; the youngest couple still marries before _LAST_DAY.
    married_on = max(birth, other_birth) + timedelta(days=22 * 366 + chance("wedding", 300))
    couple = [
        replace(one, marital_status="已婚", spouse_number=two.number, married_on=married_on)
        for one, two in ((head, spouse), (spouse, head))
    ]
    children = 1 if household == 0 else chance("children", 3)
    return couple + [
        child
        for place in range(min(children, places - 2))
        if (child := _child(seed, first + 2 + place, head, married_on + timedelta(days=400 + 900 * place), taken))
    ]


def _child(seed: str, index: int, head: Resident, earliest: date, taken: set[str]) -> Resident | None:
    """A child born within two years of `earliest`, or None where that is after the last day."""
    birth = earliest + timedelta(days=draw(seed, index, "birth", 700))
    if birth > _LAST_DAY:
        return None
    sex = "男女"[draw(seed, index, "sex", 2)]
    return replace(
        head,
        number=_number(seed, index, birth, sex, taken),
        name=person_name(index),
        sex=sex,
        birth_date=birth,
        household_relation="子女",
        marital_status="未婚",
    )


def _number(seed: str, index: int, birth: date, sex: str, taken: set[str]) -> str:
    """A citizen number nobody has yet: the order code says the sex, and steps on when it is taken."""
    order = draw(seed, index, "order", 500) * 2 + (sex == "男")
    while (number := citizen_number(birth, order)) in taken:
        order = (order + 2) % 1000
    taken.add(number)
    return number


async def build(database: str | URL, *, seed: str = SEED, count: int = RESIDENTS) -> bool:
    """Make the bureau's database unless it is there already; return whether it was made now.

    Args:
        database: `sqlite:///PATH` (its folder is made too) or `postgresql://USER@HOST/NAME`; a driver may be named.

    Raises:
        RuntimeError: What is there was made by another version of the demo or from another seed.
        ValueError: Neither SQLite in a file nor PostgreSQL.
    """
    url = make_url(database)
    backend = url.get_backend_name()
    if backend not in _DRIVERS or url.database in (None, "", ":memory:"):
        raise ValueError("the bureau's database is sqlite:///PATH or postgresql://USER@HOST/NAME")
    url = url.set(drivername=_DRIVERS[backend])
    path = Path(url.database or "")
    if backend == "postgresql" or path.exists():
        return await _fill(url, seed, count)  # one transaction; on PostgreSQL that goes for the tables too
    # On SQLite Python's driver commits each CREATE TABLE by itself, so "whole or not at all" is a rename.
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    await _fill(url.set(database=str(draft)), seed, count)
    draft.replace(path)
    return True


async def _fill(url: URL, seed: str, count: int) -> bool:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            if await connection.run_sync(lambda sync: sa.inspect(sync).has_table(_made.name)):
                made = (await connection.execute(sa.select(_made))).one()
                if made != (_VERSION, seed):
                    where = url.render_as_string()  # without the password
                    raise RuntimeError(
                        f"{where} was made by another version of the demo; remove it to have it made again"
                    )
                return False
            await connection.run_sync(metadata.create_all)
            # Parents first: provinces, then cities, then counties.
            ordered = sorted(read_divisions(), key=lambda each: ("province", "city", "county").index(each.level))
            await connection.execute(divisions.insert(), [asdict(each) for each in ordered])
            await connection.execute(residents.insert(), [asdict(each) for each in make_residents(seed, count)])
            await connection.execute(_made.insert().values(version=_VERSION, seed=seed))
            return True
    finally:
        await engine.dispose()
