"""Seeds: what the example registers, that applying again is harmless, and that a mistake is named where it stands."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from exchange import UnprocessableError
from exchange.toml_lines import line_of
from registry import Registry, begins, ends, read_seed
from tests.registry.conftest import AUDIT, ENTERPRISES, EXAMPLE_SEED, HOUSING, NOON, TAX


async def test_the_example_registers_what_its_comments_say(registry: Registry) -> None:
    snapshot = await registry.snapshot()
    assert snapshot.has_role(AUDIT, "auditor", NOON.timestamp())
    assert snapshot.has_role(TAX, "owner", NOON.timestamp())
    assert not snapshot.has_role(HOUSING, "auditor", NOON.timestamp())
    service = snapshot.service(ENTERPRISES)
    assert service is not None
    safe = {(each.method, each.path): each.safe for each in service.operations}
    assert safe == {
        ("GET", "/enterprises"): True,
        ("GET", "/enterprises/{uscc}"): True,
        ("POST", "/enterprises/search"): True,
        ("POST", "/enterprises/{uscc}/certificates"): False,
    }
    decision = snapshot.decide(HOUSING, ENTERPRISES, "GET", ("enterprises", "9111"), None, NOON.timestamp())
    assert (decision.grant.id, decision.purpose) == ("housing-reads-enterprises", "public-rental-housing")
    assert decision.grant.valid_to == ends("2039-12-31")


async def test_applying_a_seed_again_changes_nothing(registry: Registry) -> None:
    version = await registry.version()
    report = await registry.seed(EXAMPLE_SEED)
    assert (report.added, report.differing) == ((), ())
    assert "grant housing-reads-enterprises" in report.unchanged
    assert await registry.version() == version


async def test_what_was_changed_since_stays_changed(registry: Registry) -> None:
    await registry.revoke("housing-reads-enterprises", by="owner", why="ended")
    await registry.set_service_state(ENTERPRISES, is_open=False, notice="closed", by="owner", why="maintenance")
    version = await registry.version()
    report = await registry.seed(EXAMPLE_SEED)
    assert report.differing == ("grant housing-reads-enterprises",)
    assert await registry.version() == version


TERMS = """
[[groups]]
id = "bureaus"
name = "各局"
members = ["CN/GOV/1199000000000102XG/housing"]

[[grants]]
id = "bureaus-search"
group = "bureaus"
service = "CN/GOV/11990000000001011Q/tax/enterprises"
path = "/enterprises"
items = ["name", "owner"]
masks = { "owner.phone" = "phone" }
quota_per_second = 5
quota_per_day = 500
case_pattern = "A-####"
purposes = ["inspection"]
valid_from = 2020-01-01
valid_to = 2039-12-31
reason = "批复"
decided_by = "示例市税务局"
"""


async def test_groups_and_every_term_of_a_grant_can_be_seeded(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "more.toml"
    path.write_text(TERMS, encoding="utf-8")
    report = await registry.seed(path)
    assert report.added == ("group bureaus", "grant bureaus-search")
    assert (await registry.seed(path)).unchanged == report.added
    snapshot = await registry.snapshot()
    decision = snapshot.decide(HOUSING, ENTERPRISES, "GET", ("enterprises",), None, NOON.timestamp(), "A-2026")
    grant = decision.grant
    assert (grant.group, grant.items, grant.masks) == ("bureaus", ("name", "owner"), {"owner.phone": "phone"})
    assert (grant.quota_per_second, grant.quota_per_day, grant.case_pattern) == (5, 500, "A-####")
    assert grant.valid_from == begins("2020-01-01"), "a seed may say that it began earlier"


async def test_a_seed_whose_grants_overlap_is_refused_and_one_that_overlaps_others_differs(
    registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "overlap.toml"
    grant = TERMS.partition("[[grants]]")[2]
    path.write_text(f"{TERMS}\n[[grants]]{grant.replace('bureaus-search', 'again')}", encoding="utf-8")
    version = await registry.version()
    with pytest.raises(UnprocessableError, match="bureaus-search") as caught:
        await registry.seed(path)
    assert caught.value.rule == "grant-overlap"
    assert "overlap.toml, line " in str(caught.value)
    assert await registry.version() == version
    given = await registry.grant(
        client=HOUSING, service=ENTERPRISES, purposes=["x"], valid_to=ends("2039-12-31"), by="operator", why="批复"
    )
    own = TERMS.replace('group = "bureaus"', f'client = "{HOUSING}"').replace('"inspection"', '"x"')
    path.write_text(own, encoding="utf-8")
    report = await registry.seed(path)
    assert report.differing == ("grant bureaus-search",)
    assert await registry.find_grant("bureaus-search") is None
    assert (await registry.find_grant(given.id)) == given


GOOD = EXAMPLE_SEED.read_text(encoding="utf-8")


def edited(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, f"{old!r} stands {GOOD.count(old)} times in the example"
    return GOOD.replace(old, new)


def line(text: str, part: str) -> int:
    return next(number for number, each in enumerate(text.splitlines(), start=1) if part in each)


MISTAKES = {
    "an unknown key": (edited("timeout_ms = 5000 ", "time_out = 5000 "), "time_out"),
    "a wrong type": (edited("max_request_bytes = 1048576", 'max_request_bytes = "1 MB"'), "1 MB"),
    "an unknown role": (edited('roles = ["auditor"]', 'roles = ["king"]'), "king"),
    "a missing key": (edited('decided_by = "示例市税务局数据管理处"\n\n', "\n"), "[[grants]]"),
    "a wrong check character": (edited('1199000000000102XG"\nname', '1199000000000102XH"\nname'), "[[members]]"),
    "a time without offset": (
        edited("\nvalid_from = 2025-01-01T08:00:00+08:00", "\nvalid_from = 2025-01-01T08:00:00"),
        "[[grants]]",
    ),
    "a bad path": (edited('path = "/enterprises/*/certificates"', 'path = "enterprises"'), "[[grants]]"),
    "an unknown service": (
        edited(
            'service = "CN/GOV/11990000000001011Q/tax/enterprises"\nmethod = "POST"',
            'service = "CN/GOV/A/b/c"\nmethod = "POST"',
        ),
        "[[grants]]",
    ),
    "broken TOML": (edited("timeout_ms = 5000 ", "timeout_ms = = 5000 "), "timeout_ms"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_named_with_its_line_and_nothing_is_registered(
    empty_registry: Registry, tmp_path: Path, mistake: str
) -> None:
    text, _ = MISTAKES[mistake]
    path = tmp_path / "seed.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnprocessableError) as caught:
        await empty_registry.seed(path)
    assert str(caught.value).startswith("seed.toml")
    named = int(str(caught.value).split("line ")[1].split(",")[0].split(":")[0].rstrip("). "))
    first_difference = next(
        number
        for number, (good, bad) in enumerate(itertools.zip_longest(GOOD.splitlines(), text.splitlines()), start=1)
        if good != bad
    )
    # The line itself, or the header of the table it stands in.
    headers = [number for number, each in enumerate(text.splitlines(), start=1) if each.startswith("[[")]
    assert named in (first_difference, max(number for number in headers if number <= first_difference))
    assert await empty_registry.version() == 0


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "missing.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnprocessableError, match=r"missing\.toml"):
        read_seed(path)


def test_dates_are_days_in_china_and_instants_need_their_offset() -> None:
    assert begins("2026-01-01").isoformat() == "2025-12-31T16:00:00+00:00"
    assert ends("2026-01-01").isoformat() == "2026-01-01T16:00:00+00:00"
    assert begins("2026-01-01T00:00:00Z") == ends("2026-01-01T00:00:00Z")
    for wrong in ("2026-01-01T00:00:00", "2026-13-01", "tomorrow"):
        with pytest.raises(ValueError, match=wrong):
            begins(wrong)


def test_lines_are_found_in_nested_tables() -> None:
    text = "a = 1\n[[m]]\nid = 1\n[[m.s]]\ncode = 1\n[[m]]\nid = 2\n[[m.s]]\n[[m.s]]\ncode = 2 # note\n[t]\nk = 1\n"
    assert line_of(text, ("a",)) == 1
    assert line_of(text, ("m", 0, "s", 0, "code")) == 5
    assert line_of(text, ("m", 1, "id")) == 7
    assert line_of(text, ("m", 1, "s", 1, "code")) == 10
    assert line_of(text, ("m", 1, "s", 1, "missing")) == 9
    assert line_of(text, ("t", "k")) == 12
    assert line_of(text, ("nowhere",)) is None
