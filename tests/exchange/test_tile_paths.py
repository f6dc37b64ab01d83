"""Paths and bundles of tlog-tiles: each file has one name, and each name one file."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.transparency.merkle import ProofError
from exchange.transparency.tile_paths import (
    LONGEST_ENTRY,
    BundleError,
    TileName,
    TilePathError,
    pack_bundle,
    read_tile,
    unpack_bundle,
)
from tests.exchange.test_merkle_tiles import LEAVES, Stored

NAMES = st.builds(
    TileName, st.none() | st.integers(0, 63), st.integers(0, 10**18 - 1) | st.integers(0, 2000), st.integers(1, 256)
)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (TileName(0, 0), "tile/0/000"),
        (TileName(0, 1234067), "tile/0/x001/x234/067"),
        (TileName(1, 1000, 17), "tile/1/x001/000.p/17"),
        (TileName(63, 999_999, 255), "tile/63/x999/999.p/255"),
        (TileName(None, 1_000_000), "tile/entries/x001/x000/000"),
        (TileName(None, 7, 1), "tile/entries/007.p/1"),
    ],
)
def test_a_tile_lies_where_the_specification_puts_it(name: TileName, path: str) -> None:
    assert name.path == path
    assert TileName.from_path(path) == name


@given(NAMES)
def test_every_name_is_read_from_its_path(name: TileName) -> None:
    assert TileName.from_path(name.path) == name


@given(NAMES, st.data())
def test_what_is_read_at_all_has_no_other_path(name: TileName, data: st.DataObject) -> None:
    """One character more, less or different: no path, or that of another tile."""
    path = name.path
    at = data.draw(st.integers(0, len(path)))
    put = data.draw(st.text("x0123456789/.p\n entris", max_size=1))
    changed = path[:at] + put + path[at + data.draw(st.integers(0, 1)) :]
    try:
        found = TileName.from_path(changed)
    except TilePathError:
        return
    assert found.path == changed
    assert (found == name) == (changed == path)


@given(st.text(max_size=40) | st.from_regex(r"tile/[0-9]{1,3}/(x[0-9]{3}/){0,8}[0-9]{3}(\.p/[0-9]{1,4})?\n?"))
def test_nothing_else_is_a_path(text: str) -> None:
    with contextlib.suppress(TilePathError):
        assert TileName.from_path(text).path == text


@given(size=st.integers(0, 300_000), level=st.integers(0, 3), number=st.integers(0, 1300), width=st.integers(1, 256))
def test_a_tree_holds_the_tiles_that_the_specification_counts(size: int, level: int, number: int, width: int) -> None:
    complete, partial = divmod(size // 256**level, 256)
    expected = number < complete or (number == complete and width <= partial)
    assert TileName(level, number, width).is_in(size) == expected
    if level == 0:
        assert TileName(None, number, width).is_in(size) == expected


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_gives_back_what_was_put_into_it(entries: list[bytes]) -> None:
    bundle = pack_bundle(entries)
    assert unpack_bundle(bundle) == entries
    assert len(bundle) == sum(map(len, entries)) + 2 * len(entries)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5), st.data())
def test_a_bundle_that_was_cut_short_is_none(entries: list[bytes], data: st.DataObject) -> None:
    bundle = pack_bundle(entries)
    ends = {len(pack_bundle(entries[:count])) for count in range(len(entries) + 1)}
    cut = data.draw(st.integers(0, len(bundle)).filter(lambda end: end not in ends))
    with pytest.raises(BundleError):
        unpack_bundle(bundle[:cut])


def test_an_entry_has_place_in_a_bundle_up_to_what_two_bytes_can_say() -> None:
    assert unpack_bundle(pack_bundle([bytes(LONGEST_ENTRY)])) == [bytes(65535)]
    with pytest.raises(BundleError, match="65536 bytes"):
        pack_bundle([bytes(LONGEST_ENTRY + 1)])


@pytest.fixture(scope="module")
def stored() -> Stored:
    return Stored(LEAVES[:66_000], 2000)


@pytest.mark.parametrize("name", [TileName(0, 257), TileName(0, 257, 208), TileName(1, 0, 9), TileName(1, 1, 1)])
async def test_a_tile_is_read_to_its_width(stored: Stored, name: TileName) -> None:
    if not name.is_in(66_000):
        with pytest.raises(ProofError):
            await read_tile(stored, name, 66_000)
        return
    hashes = await read_tile(stored, name, 66_000)
    assert len(hashes) == name.width * 32
    if name.level == 0:
        assert hashes == b"".join(LEAVES[name.first : name.first + name.width])
