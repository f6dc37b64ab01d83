"""The index of many grants finds what going through all of them finds, however they came and went."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from exchange import ServiceId, SubsystemId
from registry import Access, Grant
from registry.grants.coverings import FEW, Covering, Coverings
from registry.patterns import path_of

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
BASE = Grant(
    id="",
    client=SubsystemId("CN/GOV/A/a"),
    service=ServiceId("CN/GOV/B/b/s"),
    purposes=("p",),
    valid_from=NOON,
    valid_to=NOON + timedelta(days=1),
    reason="test",
    decided_by="test",
)
_PATHS = ["**", "/", "/a", "/a/{x}", "/{x}/b", "/a/b", "/a/**", "/{x}/**", "/*", "/**b", "/a/{x}.pdf", "/{x}/{y}/c"]
_GRANTS = st.lists(
    st.builds(
        replace,
        st.just(BASE),
        id=st.uuids().map(str),
        method=st.sampled_from(["*", "GET", "POST"]),
        path=st.sampled_from(_PATHS),
        purposes=st.sampled_from([("p",), ("q",), ("p", "q"), ("p", "p")]),
        version=st.integers(1, 5),
        signed_requests=st.booleans(),
        items=st.sampled_from([(), ("name",)]),
        quota_per_day=st.sampled_from([0, 9]),
    ),
    min_size=FEW - 2,
    max_size=3 * FEW,
    unique_by=lambda each: each.id,
)
_CALLS = st.tuples(
    st.sampled_from([None, "p", "q", "r"]),
    st.sampled_from(["GET", "POST", "PUT"]),
    st.sampled_from([(), ("a",), ("a", "b"), ("b", "b"), ("a", ""), ("a", "b", "c"), ("a", "x.pdf")]),
)


def covering(grant: Grant) -> Covering:
    found = Covering.of(grant)
    assert found is not None
    return found


def found_by(coverings: Coverings, call: tuple[str | None, str, tuple[str, ...]]) -> list[str]:
    purpose, method, segments = call
    path = path_of(segments)
    assert path is not None
    return [
        each.grant.id
        for each in coverings.candidates(purpose, method, segments)
        if each.covers(method, segments, path) and (purpose is None or purpose in each.purposes)
    ]


@given(_GRANTS, _CALLS, st.data())
def test_an_index_that_grew_finds_the_same_in_the_same_order(
    grants: list[Grant], call: tuple[str | None, str, tuple[str, ...]], data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.sampled_from([each.id for each in grants]), max_size=FEW))
    staying = sorted((covering(each) for each in grants if each.id not in gone), key=lambda each: each.rank)
    purpose, method, segments = call
    path = path_of(segments)
    expected = [
        each.grant.id
        for each in staying
        if each.covers(method, segments, path or "") and (purpose is None or purpose in each.purposes)
    ]
    gradual = Coverings.of(())
    for each in grants:
        gradual = gradual.with_changes((), (covering(each),))
    for identifier in gone:
        gradual = gradual.with_changes((identifier,), ())
    whole = Coverings.of(covering(each) for each in grants).with_changes(gone, ())
    for coverings in (gradual, whole):
        assert found_by(coverings, call) == expected
        assert [each.grant.id for each in coverings.ranked] == [each.grant.id for each in staying]


def test_what_permits_most_comes_first_then_the_newest() -> None:
    grants = [
        replace(BASE, id="signed", version=9, signed_requests=True),
        replace(BASE, id="limited", version=8, quota_per_day=5),
        replace(BASE, id="masked", version=7, masks={"name": "name"}),
        replace(BASE, id="old", version=1),
        replace(BASE, id="new", version=2),
    ]
    assert [each.grant.id for each in Coverings.of(map(covering, grants)).ranked] == [
        "new",
        "old",
        "limited",
        "masked",
        "signed",
    ]


def test_a_grant_of_a_resource_covers_what_its_access_and_its_own_terms_both_cover() -> None:
    access = Access(service=BASE.service, method="GET", path="/a/**")
    assert Covering.of(replace(BASE, method="POST"), access) is None
    narrowed = Covering.of(replace(BASE, path="/{x}/b"), access)
    assert narrowed is not None
    for segments, expected in ((("a", "b"), True), (("a", "c"), False), (("c", "b"), False)):
        assert narrowed.covers("GET", segments, "/" + "/".join(segments)) is expected
    assert not narrowed.covers("POST", ("a", "b"), "/a/b")
    whole = Covering.of(BASE, access)
    assert whole is not None
    assert whole.also is None
    assert (whole.extent, narrowed.extent) == ("GET /a/**", "GET /{x}/b within /a/**")
