"""The health bureau's own system: a folder of files, as an older program exports them. The children in them do not exist.

Rules:
1. Births are a workbook with a title above the headings, vaccinations one CSV in GB 18030 for each year.
2. The children are those of the civil affairs bureau's invented residents (`civil_affairs`), so that both can be asked about one.
3. The folder is made whole or not at all, and kept at later starts; the bureau may put further files into it.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import xlsxwriter

from deploy.demo.civil_affairs import RESIDENTS, Resident, make_residents
from deploy.demo.synthetic import RESERVED_DIVISION, SEED, draw

FIRST_YEAR: Final = 2019
LAST_DAY: Final = date(2025, 6, 30)
BIRTHS: Final = "births.xlsx"
BIRTH_SHEET: Final = "出生医学证明"
BIRTH_HEADER: Final = 3
"""Row of the headings; above it stand a title and who made the list."""

BIRTH_HEADINGS: Final = (
    "证明编号",
    "公民身份号码",
    "姓名",
    "性别",
    "出生日期",
    "出生体重（克）",
    "母亲公民身份号码",
    "父亲公民身份号码",
)
VACCINATION_HEADINGS: Final = ("接种编号", "公民身份号码", "疫苗", "剂次", "接种日期", "接种单位")

_SCHEDULE: Final = (
    # Vaccine of the national programme, dose, age in months.
    ("卡介苗", 1, 0),
    ("乙肝疫苗", 1, 0),
    ("乙肝疫苗", 2, 1),
    ("脊灰疫苗", 1, 2),
    ("百白破疫苗", 1, 3),
    ("乙肝疫苗", 3, 6),
    ("麻腮风疫苗", 1, 8),
    ("甲肝疫苗", 1, 18),
    ("百白破疫苗", 4, 18),
    ("脊灰疫苗", 4, 48),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """One invented birth; the parents as the household has them."""

    certificate: str
    child: Resident
    mother: str
    father: str
    grams: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vaccination:
    """One dose."""

    record: str
    number: str
    vaccine: str
    dose: int
    given_on: date
    site: str


def births(seed: str = SEED, count: int = RESIDENTS) -> Iterator[Birth]:
    """The births of all invented children, in the order of the residents.

    Args:
        count: Of residents.
    """
    parents: dict[str, list[Resident]] = {}
    for index, resident in enumerate(make_residents(seed, count)):
        household = parents.setdefault(resident.household_number, [])
        if resident.household_relation != "子女":
            household.append(resident)
            continue
        mother = next(each for each in household if each.sex == "女")
        father = next(each for each in household if each.sex == "男")
        yield Birth(
            certificate=f"D{RESERVED_DIVISION[:4]}{index:05d}",
            child=resident,
            mother=mother.number,
            father=father.number,
            grams=2500 + 10 * draw(seed, index, "grams", 170),
        )


def vaccinations(born: Iterable[Birth], seed: str = SEED) -> Iterator[Vaccination]:
    """Doses that these children were given from FIRST_YEAR to LAST_DAY, child by child."""
    for index, birth in enumerate(born):
        birth_date = birth.child.birth_date
        for place, (vaccine, dose, months) in enumerate(_SCHEDULE):
            given_on = birth_date + timedelta(days=round(months * 30.44) + draw(seed, index, f"dose {place}", 20))
            if date(FIRST_YEAR, 1, 1) <= given_on <= LAST_DAY:
                yield Vaccination(
                    record=f"Y{RESERVED_DIVISION}{index:05d}{place:02d}",
                    number=birth.child.number,
                    vaccine=vaccine,
                    dose=dose,
                    given_on=given_on,
                    site=f"示例市第{1 + draw(seed, index, 'site', 12)}接种点",
                )


def build(folder: Path, *, seed: str = SEED, count: int = RESIDENTS) -> bool:
    """Make the folder unless it is there already; return whether it was made now.

    Raises:
        OSError: It cannot be written.
    """
    if folder.exists():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    born = list(births(seed, count))
    _write_births(draft / BIRTHS, born)
    _write_vaccinations(draft, vaccinations(born, seed))
    draft.replace(folder)
    return True


def _write_births(path: Path, made: Iterable[Birth]) -> None:
    with xlsxwriter.Workbook(str(path)) as book:
        book.set_properties({"created": datetime(2025, 6, 30, tzinfo=UTC)})  # the same bytes whenever it is made
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        sheet = book.add_worksheet(BIRTH_SHEET)
        sheet.write_string(0, 0, "示例市出生医学证明登记表")
        sheet.write_string(1, 0, "填报单位：示例市卫生健康局")
        sheet.write_row(BIRTH_HEADER - 1, 0, BIRTH_HEADINGS)
        for line, birth in enumerate(made, BIRTH_HEADER):
            child = birth.child
            sheet.write_row(line, 0, (birth.certificate, child.number, child.name, child.sex))
            sheet.write_datetime(line, 4, child.birth_date, day)
            sheet.write_number(line, 5, birth.grams)
            sheet.write_row(line, 6, (birth.mother, birth.father))


def _write_vaccinations(folder: Path, made: Iterable[Vaccination]) -> None:
    by_year: dict[int, list[Vaccination]] = {}
    for each in made:
        by_year.setdefault(each.given_on.year, []).append(each)
    for year, doses in by_year.items():
        with (folder / f"vaccinations-{year}.csv").open("w", encoding="gb18030", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(VACCINATION_HEADINGS)
            for each in doses:
                given_on = f"{each.given_on:%Y/%m/%d}"
                writer.writerow((each.record, each.number, each.vaccine, each.dose, given_on, each.site))
