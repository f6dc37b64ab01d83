"""What a resource must fulfil: each rule by itself, and that its fault is named where it is."""

from __future__ import annotations

from typing import Any

import pytest

from exchange import UnprocessableError
from registry import code_schemes
from registry.catalogue.codes import PatternScheme, classification_in
from registry.catalogue.differences import differences_between
from registry.catalogue.documents import read_document
from registry.catalogue.resource import plain, resource_of
from registry.catalogue.rules import check_resource, faults_of
from tests.registry.catalogue_kit import document, resource
from tests.registry.conftest import HOUSING

ITEM = {"path": "uscc", "name": "代码"}
BASE = {"category": {"code": "1", "name": "基础"}, "subcategory": {"code": "06", "name": "税"}}


def items(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**ITEM, **each} for each in changes]


def steps(**changes: Any) -> dict[str, Any]:
    return {**document()["classification"], **changes}


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "a foreign code": ({"code": "2020-5118551960"}, "/code", "resource-code"),
    "a code of another classification": ({"code": "306003/000001"}, "/code", "resource-code"),
    "a code that is an address of ours": ({"code": "306002/versions"}, "/code", "resource-code"),
    "a category of two digits": (
        {"classification": steps(category={"code": "30", "name": "x"})},
        "/classification/category/code",
        "classification",
    ),
    "a step without its name": (
        {"classification": steps(entry={"code": "002", "name": ""})},
        "/classification/entry/name",
        "text",
    ),
    "a detail that is no number": (
        {"classification": steps(detail={"code": "x", "name": "x"})},
        "/classification/detail/code",
        "classification",
    ),
    "a provider that is a member": ({"provider": HOUSING.rpartition("/")[0]}, "/provider", "provider"),
    "no name": ({"name": ""}, "/name", "text"),
    "a name of two lines": ({"name": "a\nb"}, "/name", "text"),
    "a name with spaces around it": ({"name_en": " x"}, "/name_en", "text"),
    "half a character": ({"name": "\ud800"}, "/name", "text"),
    "no abstract": ({"abstract": ""}, "/abstract", "abstract"),
    "an abstract with a control character": ({"abstract": "a\x07"}, "/abstract", "text"),
    "a strange format": ({"format": "tape"}, "/format", "choice"),
    "another format that is not named": ({"format": "other"}, "/format_other", "format"),
    "a format named twice": ({"format_other": "磁带"}, "/format_other", "format"),
    "no items": ({"items": []}, "/items", "items"),
    "an item without a path": ({"items": items({}, {"path": ""})}, "/items/1/path", "item-path"),
    "an item path with a star": ({"items": items({"path": "a.*"})}, "/items/0/path", "item-path"),
    "a path twice": ({"items": items({}, {"name": "又"})}, "/items/1/path", "item-path"),
    "an item without a name": ({"items": items({"name": ""})}, "/items/0/name", "text"),
    "a strange type": ({"items": items({"data_type": "varchar"})}, "/items/0/data_type", "choice"),
    "a length below nothing": ({"items": items({"length": -1})}, "/items/0/length", "length"),
    "a strange sensitivity": ({"items": items({"sensitivity": "secret"})}, "/items/0/sensitivity", "choice"),
    "an unknown mask": ({"items": items({"mask": "black"})}, "/items/0/mask", "choice"),
    "an item laxer than its resource": (
        {"items": items({"sharing_class": "unconditional"})},
        "/items/0/sharing_class",
        "item-class",
    ),
    "a strange class": ({"sharing_class": "free"}, "/sharing_class", "choice"),
    "conditional without conditions": ({"conditions": ""}, "/conditions", "conditions"),
    "conditions of what has none": ({"sharing_class": "unconditional"}, "/conditions", "conditions"),
    "not shared without a basis": (
        {"sharing_class": "not-shared", "conditions": ""},
        "/legal_basis",
        "legal-basis",
    ),
    "an item that is not shared, without a basis": (
        {"items": items({"sharing_class": "not-shared"})},
        "/legal_basis",
        "legal-basis",
    ),
    "an unconditional resource with a conditional item, without conditions": (
        {"sharing_class": "unconditional", "conditions": "", "items": items({"sharing_class": "conditional"})},
        "/conditions",
        "conditions",
    ),
    "a base resource that is not unconditional": ({"base_resource": True}, "/sharing_class", "base-resource"),
    "an exception to nothing": ({"base_exception": "因故"}, "/base_exception", "base-resource"),
    "category 1 that is no base resource": (
        {"code": "106002/1", "classification": steps(**BASE)},
        "/base_resource",
        "base-resource",
    ),
    "a strange mode": ({"mode": "pigeon"}, "/mode", "choice"),
    "a condition of openness without openness": (
        {"openness_condition": "x"},
        "/openness_condition",
        "openness",
    ),
    "a strange cycle": ({"update_cycle": "often"}, "/update_cycle", "choice"),
    "another cycle that is not named": ({"update_cycle": "other"}, "/update_cycle_other", "cycle"),
    "a strange level": ({"level": "galaxy"}, "/level", "choice"),
    "a division of five digits": ({"division": "45010"}, "/division", "division"),
    "a theme twice": ({"themes": ["税", "税"]}, "/themes/1", "themes"),
    "an empty keyword": ({"keywords": ["a", ""]}, "/keywords/1", "text"),
    "a link to itself": ({"linked": ["306002/000001"]}, "/linked/0", "linked"),
    "a foreign link": ({"linked": ["x/y"]}, "/linked/0", "resource-code"),
    "an access that is no service": ({"accesses": [{"service": "tax"}]}, "/accesses/0/service", "access"),
    "an access at another's service": ({"accesses": [{"service": f"{HOUSING}/x"}]}, "/accesses/0/service", "access"),
    "a method in small letters": (
        {"accesses": [{**document()["accesses"][0], "method": "get"}]},
        "/accesses/0/method",
        "access",
    ),
    "a path without a slash": (
        {"accesses": [{**document()["accesses"][0], "path": "x"}]},
        "/accesses/0/path",
        "path",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_each_fault_is_named_where_it_is_in_both_languages(what: str) -> None:
    changes, pointer, rule = WRONG[what]
    with pytest.raises(UnprocessableError) as caught:
        check_resource(resource(**changes))
    assert (caught.value.pointer, caught.value.rule) == (pointer, rule)
    english, chinese = caught.value.detail_in("en"), caught.value.detail_in("zh")
    assert english.isascii() or "'" in english
    assert any("一" <= character <= "鿿" for character in chinese)


RIGHT: dict[str, dict[str, Any]] = {
    "as it is": {},
    "unconditional": {"sharing_class": "unconditional", "conditions": ""},
    "not shared, with a basis": {"sharing_class": "not-shared", "conditions": "", "legal_basis": "《保守国家秘密法》"},
    "a stricter item": {"items": items({"sharing_class": "not-shared"}), "legal_basis": "《档案法》"},
    "a base resource": {
        "code": "106002/1",
        "classification": steps(**BASE),
        "base_resource": True,
        "sharing_class": "unconditional",
        "conditions": "",
    },
    "a base resource with its exception": {"base_resource": True, "base_exception": "含敏感个人信息"},
    "another format": {"format": "other", "format_other": "磁带"},
    "a detail": {"code": "306002001/1", "classification": steps(detail={"code": "001", "name": "细目"})},
    "a linked resource": {"linked": ["306001/000001"]},
    "no access": {"accesses": []},
}


@pytest.mark.parametrize("what", RIGHT)
def test_what_breaks_no_rule_is_accepted_and_is_the_same_as_json(what: str) -> None:
    found = resource(**RIGHT[what])
    assert list(faults_of(found)) == []
    assert resource_of(plain(found)) == found


def test_all_faults_are_found_in_one_go() -> None:
    pointers = [fault.pointer for fault in faults_of(resource(name="", format="tape", conditions=""))]
    assert pointers == ["/name", "/format", "/conditions"]


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (document(name=None), "/name"),
        (document(colour="red"), "/colour"),
        (document(**{"a/b~c": 1}), "/a~1b~0c"),
        (document(name=7), "/name"),
        (document(items=[{**ITEM, "length": "18"}]), "/items/0/length"),
        (document(open_to_public="yes"), "/open_to_public"),
        (document(publication_date="2026-13-01"), "/publication_date"),
        (document(publication_date="20260101"), "/publication_date"),
        (document(classification=None), "/classification"),
        ([], ""),
        (None, ""),
    ],
)
def test_what_is_not_of_the_form_is_named_by_pointer(value: object, pointer: str) -> None:
    faults = read_document(value)
    assert isinstance(faults, tuple)
    assert [fault.pointer for fault in faults] == [pointer]


@pytest.mark.parametrize(
    ("code", "classification"),
    [
        ("306002/000001", "306002"),
        ("3060020011234/9", "3060020011234"),
        ("101001/00000000000000000001", "101001"),
        ("406002/1", None),
        ("30600/1", None),
        ("306002/", None),
        ("306002/1/2", None),
        ("306002/1x", None),
        ("306002/１", None),
        ("../306002/1", None),
        ("", None),
        ("306002/" + "1" * 200, None),
    ],
)
def test_the_national_scheme(code: str, classification: str | None) -> None:
    assert classification_in(code, code_schemes()) == classification


def test_a_province_may_have_a_scheme_of_its_own() -> None:
    schemes = code_schemes(r"450000-(?P<classification>\d{6})-\d+|GX[0-9]{8}")
    assert classification_in("450000-306002-17", schemes) == "306002"
    assert classification_in("GX00000001", schemes) == ""
    assert classification_in("306002/1", schemes) == "306002"
    assert classification_in("GX1", schemes) is None
    check_resource(resource(code="GX00000001"), schemes)
    check_resource(resource(code="450000-306002-17"), schemes)
    with pytest.raises(UnprocessableError, match="306003"):
        check_resource(resource(code="450000-306003-17"), schemes)
    with pytest.raises(ValueError, match="regular expression"):
        code_schemes("(")


@pytest.mark.parametrize("code", ["a/versions", "export", "import/x", "a//b", "a/../b", "a b", "é", "/a", "a/", "-a"])
def test_what_cannot_stand_in_an_address_is_no_code_of_any_scheme(code: str) -> None:
    assert classification_in(code, [PatternScheme.of(".*")]) is None


def test_differences_name_what_changed_and_not_what_moved_along() -> None:
    before = resource()
    extra = {"path": "period", "name": "所属期"}
    changed = [extra, *document()["items"]]
    changed[1] = {**changed[1], "sensitivity": "internal"}
    del changed[2]
    after = resource(
        items=changed,
        themes=["信用", "财政"],
        classification=steps(detail={"code": "", "name": "说明"}),
        conditions="用于资格核查与信用评价",
    )
    found = {(each.pointer, each.kind) for each in differences_between(before, after)}
    assert found == {
        ("/classification/detail/name", "changed"),
        ("/items/0", "added"),
        ("/items/1/sensitivity", "changed"),
        ("/items/1", "removed"),
        ("/conditions", "changed"),
        ("/themes/1", "added"),
        ("/themes/0", "removed"),
    }
    assert differences_between(before, before) == ()
    turned = resource(items=document()["items"][::-1], themes=["信用", "税务"])
    assert [each.pointer for each in differences_between(before, turned)] == ["/items", "/themes"]
