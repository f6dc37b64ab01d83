"""What each jurisdiction allows: the packaged file, inheritance, and files that are wrong."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import pytest

from exchange import UnprocessableError
from registry import DISPUTE_LEVELS, DUTIES, DUTY_CLASSES, Jurisdictions, read_jurisdictions

PACKAGED = (importlib.resources.files("registry.clock") / "jurisdictions.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def packaged() -> Jurisdictions:
    return read_jurisdictions()


def test_the_decree_is_the_country_s_clock(packaged: Jurisdictions) -> None:
    """1 working day, 10 working days, delivery within 20."""
    country = packaged.get("CN")
    assert country.term("unconditional", "answer").days == 1
    assert country.term("conditional", "answer").days == 10
    assert {country.term(each, "delivery").days for each in DUTY_CLASSES} == {20}
    assert "809" in country.term("conditional", "answer").basis["zh"]
    assert [duty for duty, _ in country.steps("conditional", "answer")] == ["answer"]
    assert list(country.disputes) == list(DISPUTE_LEVELS)


def test_what_no_law_sets_is_not_told_as_law(packaged: Jurisdictions) -> None:
    for place in packaged:
        for term in (place.term("conditional", "supplement"), place.disputes["authority"]):
            assert "operator" in term.basis["en"]
            assert "运维方" in term.basis["zh"]


def test_local_clocks_differ_and_inherit_the_rest(packaged: Jurisdictions) -> None:
    county = packaged.get("CN-140581")
    assert [(duty, term.days) for duty, term in county.steps("conditional", "answer")] == [
        ("formal-check", 2),
        ("answer", 5),
    ]
    assert [(duty, term.days) for duty, term in county.steps("conditional", "answer-unpublished")] == [
        ("formal-check", 2),
        ("answer-unpublished", 10),
    ]
    assert [(duty, term.days) for duty, term in county.steps("unconditional", "answer")] == [("formal-check", 2)]
    delivery = county.term("conditional", "delivery")
    assert (delivery.days, delivery.jurisdiction) == (20, "CN")
    assert county.term("conditional", "answer").jurisdiction == "CN-140581"
    assert packaged.get("CN-52").term("conditional", "answer").days == 10
    assert packaged.get("CN-52").term("unconditional", "answer").days == 1


@pytest.mark.parametrize(
    ("division", "expected"),
    [
        ("450103", "CN"),
        ("520000", "CN-52"),
        ("520102", "CN-52"),
        ("140581", "CN-140581"),
        ("140500", "CN"),
        ("", "CN"),
        ("5", "CN"),
        ("一", "CN"),
    ],
)
def test_a_division_belongs_to_the_longest_prefix(packaged: Jurisdictions, division: str, expected: str) -> None:
    assert packaged.of_division(division).id == expected


def test_an_unknown_one_is_refused_with_the_known(packaged: Jurisdictions) -> None:
    with pytest.raises(UnprocessableError, match="known are CN, CN-52, CN-140581") as refused:
        packaged.get("CN-99", pointer="/jurisdiction")
    assert refused.value.pointer == "/jurisdiction"
    assert "CN-140581" in refused.value.detail_in("zh")


def test_a_late_deadline_climbs_the_ladder(packaged: Jurisdictions) -> None:
    country = packaged.get("CN")
    assert [len(country.rungs(late_by)) for late_by in (0, 1, 4, 5, 9, 10, 100)] == [0, 1, 1, 2, 2, 3, 3]
    assert country.rungs(1)[0].name.keys() == {"en", "zh"}
    assert packaged.get("CN-140581").escalation == country.escalation


def test_every_number_is_there_for_everybody(packaged: Jurisdictions) -> None:
    for place in packaged:
        for duty_class in DUTY_CLASSES:
            assert [place.term(duty_class, duty).days >= 0 for duty in DUTIES] == [True] * len(DUTIES)


@pytest.mark.parametrize(
    ("change", "to", "where", "problem"),
    [
        ("answer = 1\n", "", "jurisdictions[0].unconditional.answer: ", "missing"),
        ("answer = 1\n", "answer = -1\n", "jurisdictions[0].unconditional.answer: ", "greater than or equal to 0"),
        ("answer = 1\n", 'answer = "1"\n', "jurisdictions[0].unconditional.answer: ", "valid integer"),
        ("answer = 1\n", "answer = true\n", "jurisdictions[0].unconditional.answer: ", "valid integer"),
        ("answer = 1\n", "answer = 0\n", "jurisdictions[0].unconditional.answer: ", "cannot both"),
        ("answer = 1\n", "answer = 1\nanser = 1\n", "jurisdictions[0].unconditional.anser: ", "not permitted"),
        ("delivery = 20\n", "delivery = 0\n", "jurisdictions[0].unconditional.delivery: ", "greater than"),
        ("government = 30", "", "jurisdictions[0].disputes.government: ", "missing"),
        ('id = "CN-52"', 'id = "CN"', "jurisdictions[1].id: ", "twice"),
        ('id = "CN-52"', 'id = "guizhou"', "jurisdictions[1].id: ", "pattern"),
        ('division = "52"', 'division = ""', "jurisdictions[1].division: ", "another"),
        ('division = "52"', 'division = "5"', "jurisdictions[1].division: ", "pattern"),
        ('division = ""', 'division = "52"', "jurisdictions[0].division: ", "empty"),
        ('parent = "CN"', 'parent = "CN-140581"', "jurisdictions[1].parent: ", "stands above"),
        ('parent = "CN"', 'parent = ""', "jurisdictions[1].parent: ", "stands above"),
        ('"supplement"', '"suplement"', "jurisdictions[0].chosen: ", "'suplement' is none of"),
        ('name_en = "Guizhou"\n', "", "jurisdictions[1].name_en: ", "required"),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_key(
    tmp_path: Path, change: str, to: str, where: str, problem: str
) -> None:
    assert change in PACKAGED
    path = tmp_path / "辖区.toml"
    path.write_text(PACKAGED.replace(change, to, 1), encoding="utf-8")
    with pytest.raises(UnprocessableError) as refused:
        read_jurisdictions(path)
    text = refused.value.detail_in("en")
    assert text.startswith("辖区.toml, line "), text
    assert where in text
    assert problem.lower() in text.lower(), text
    assert "第" in refused.value.detail_in("zh")


def test_a_file_of_one_s_own_replaces_the_packaged_one(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    own = PACKAGED.replace('id = "CN-52"', 'id = "CN-45"').replace('division = "52"', 'division = "45"')
    path.write_text(own, encoding="utf-8")
    assert read_jurisdictions(path).of_division("450103").id == "CN-45"


def test_no_jurisdiction_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    for text in ("", "jurisdictions = []", "[[jurisdictions", "\x00"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UnprocessableError, match=r"own\.toml"):
            read_jurisdictions(path)
