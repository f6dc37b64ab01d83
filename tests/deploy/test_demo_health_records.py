"""The health bureau's files, and what its adapter answers from them."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from department_adapters import AdapterTest
from deploy.demo.adapters import health_adapter
from deploy.demo.civil_affairs import make_residents
from deploy.demo.health_records import FIRST_YEAR, LAST_DAY, births, build, vaccinations
from deploy.demo.synthetic import RESERVED_DIVISION, RESIDENT_CHILD, RESIDENT_MARRIED
from exchange import BackendError

COUNT = 300


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the bureau's files and its adapter's."""
    data = tmp_path_factory.mktemp("data")
    assert build(data / "backends" / "health", count=COUNT)
    (data / "adapters" / "health").mkdir(parents=True)
    text = health_adapter(bus_url="tls://127.0.0.1:1")
    (data / "adapters" / "health" / "adapter.toml").write_text(text, encoding="utf-8")
    return data


def asking(data: Path, service: str) -> AdapterTest:
    return AdapterTest.of_service(data / "adapters" / "health" / "adapter.toml", service)


def test_the_same_files_are_made_everywhere_and_kept(data: Path, tmp_path: Path) -> None:
    made = data / "backends" / "health"
    assert build(tmp_path / "health", count=COUNT)
    assert [path.name for path in tmp_path.iterdir()] == ["health"]
    names = sorted(path.name for path in made.iterdir())
    assert names == ["births.xlsx", *(f"vaccinations-{year}.csv" for year in range(FIRST_YEAR, LAST_DAY.year + 1))]
    assert all((made / name).read_bytes() == (tmp_path / "health" / name).read_bytes() for name in names)
    (tmp_path / "health" / "births.xlsx").unlink()
    assert not build(tmp_path / "health", count=COUNT)
    assert not (tmp_path / "health" / "births.xlsx").exists()  # the bureau's own business


def test_every_child_has_parents_and_doses_at_an_age() -> None:
    residents = {resident.number: resident for resident in make_residents()}
    born = list(births())
    assert {birth.child.number for birth in born} == {
        resident.number for resident in residents.values() if resident.household_relation == "子女"
    }
    for birth in born:
        mother, father = residents[birth.mother], residents[birth.father]
        assert (mother.sex, father.sex) == ("女", "男")
        assert mother.household_number == father.household_number == birth.child.household_number
    assert len({birth.certificate for birth in born}) == len(born)
    doses = list(vaccinations(born))
    assert len({dose.record for dose in doses}) == len(doses) > 1000
    for dose in doses:
        assert dose.number.startswith(RESERVED_DIVISION)
        assert timedelta() <= dose.given_on - residents[dose.number].birth_date < timedelta(days=5 * 366)
        assert date(FIRST_YEAR, 1, 1) <= dose.given_on <= LAST_DAY


async def test_a_birth_is_told_without_what_is_not_listed(data: Path) -> None:
    async with asking(data, "births") as call:
        answer = await call.get(f"/births/{RESIDENT_CHILD}")
        assert answer.json() == {
            "certificate": "D997000002",
            "number": RESIDENT_CHILD,
            "name": "例丙寅天",
            "sex": "女",
            "born_on": "1978-11-09",
            "mother_number": "997001195412224786",
            "father_number": RESIDENT_MARRIED,
        }
        assert (await call.get(f"/births/{RESIDENT_MARRIED}")).status == 404
        assert (await call.get("/births")).status == 404


async def test_vaccinations_are_listed_of_one_child_across_the_years(data: Path) -> None:
    doses = list(vaccinations(births(count=COUNT)))
    child = max({dose.number for dose in doses}, key=lambda number: sum(dose.number == number for dose in doses))
    expected = [dose for dose in doses if dose.number == child]
    async with asking(data, "vaccinations") as call:
        found = (await call.get("/vaccinations", {"number": child})).json()
        assert [(each["record"], each["dose"], each["given_on"]) for each in found["items"]] == [
            (dose.record, dose.dose, dose.given_on.isoformat()) for dose in expected
        ]
        assert len({dose.given_on.year for dose in expected}) > 1
        assert found["next"] is None
        assert (await call.get("/vaccinations")).status == 400
        assert (await call.get(f"/vaccinations/{expected[0].record}")).json()["site"] == expected[0].site


async def test_a_folder_that_is_taken_away_is_an_error_of_the_system(data: Path, tmp_path: Path) -> None:
    (tmp_path / "adapters" / "health").mkdir(parents=True)
    contract = (data / "adapters" / "health" / "adapter.toml").read_text(encoding="utf-8")
    (tmp_path / "adapters" / "health" / "adapter.toml").write_text(contract, encoding="utf-8")
    async with asking(tmp_path, "births") as call:
        with pytest.raises(BackendError):
            await call.get(f"/births/{RESIDENT_CHILD}")
