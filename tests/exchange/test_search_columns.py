"""The strings of bytes that an index is made of: what goes in comes out, at every width and at every border."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from exchange.search.columns import (
    IndexFormatError,
    NumberColumn,
    TextColumn,
    columns_of,
    hash_of,
    joined,
    read_column,
    read_columns,
)
from exchange.search.facts import ABSENT, NUMBERS, TEXTS, Facts
from exchange.search.index_store import bucket_of, pack_keys, posting_key, segment_of, unpack_keys
from exchange.search.postings import (
    LARGE,
    RANGED,
    ascending,
    find_text,
    mark,
    number_bucket,
    postings_of,
    read_places,
    read_values,
    text_bucket,
)

SIZES = [0, 1, 3, 4, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**52, 2**53 - 1]


def facts(chance: random.Random, number: int) -> Facts:
    texts = {name: chance.choice(["", "a", f"{name} {chance.randrange(50)}", "税务 🏛"]) for name in TEXTS}
    texts["message_id"] = f"message {number}"
    numbers: dict[str, Any] = {name: chance.choice([0, 7, *SIZES]) for name in NUMBERS}
    return Facts(
        **{**texts, **numbers, "kind": "exchange", "at_ms": 10**12 + number, "status": chance.choice([0, 200, 404])}
    )


def test_columns_are_what_they_were_made_of_however_they_came_together() -> None:
    chance = random.Random(1)
    found = [(100 + number, facts(chance, number)) for number in range(700) if number % 50]
    parts = [
        columns_of(first, 100, [each for each in found if first <= each[0] < first + 100])
        for first in range(100, 800, 100)
    ]
    again = [joined(parts), joined([joined(parts[:3]), joined(parts[3:])])]
    assert again[0].encoded() == again[1].encoded()
    whole = read_columns(100, 700, again[0].encoded())
    rows = dict(found)
    for name in TEXTS:
        column = whole.texts[name]
        assert (np.diff(column.hashes.astype(object)) > 0).all()
        texts = [getattr(rows.get(100 + place, ABSENT), name) for place in range(700)]
        assert [int(column.hashes[code]) for code in column.codes] == [hash_of(text) for text in texts]
        if column.names is not None:
            assert [column.names[code] for code in column.codes] == texts
    for name in NUMBERS[1:]:
        numbers = [getattr(rows.get(100 + place, ABSENT), name) for place in range(700)]
        assert whole.numbers[name].values.tolist() == numbers
    assert whole.times() == (found[0][1].at_ms, found[-1][1].at_ms)
    assert whole.kinds() == {"exchange": 686, "": 14}
    full = [(number, facts(chance, number)) for number in range(700)]
    parts = [columns_of(first, 100, full[first : first + 100]) for first in range(0, 700, 100)]
    assert columns_of(0, 700, full).encoded() == joined(parts).encoded()
    nothing = columns_of(0, 10, [])
    assert nothing.times() > (0, 0)
    assert nothing.kinds() == {"": 10}


def test_a_large_segment_is_asked_by_its_postings_and_they_say_what_its_columns_say() -> None:
    """Rare values and values that nearly all have; places as numbers and as bitmaps; the two ends of a range."""
    chance = random.Random(2)
    rows = []
    for number in range(LARGE):
        common = "all" if number else "first"
        rare = f"{number // 3}" if number % 7 else ""
        dense = str(number // 4096 * (number % 4097 == 0))
        made = ABSENT._replace(kind="exchange", client=common, case=rare, user=dense, at_ms=number, status=number % 600)
        rows.append(made._replace(duration_us=chance.choice([number, 1 << number % 53, 4096 + number % 3])))
    columns = columns_of(0, LARGE, list(enumerate(rows)))
    stored = {(name, bucket): data for name, bucket, data in postings_of(columns)}
    assert all(data for data in stored.values())

    def places(name: str, text: str) -> list[int]:
        bucket, known_by = text_bucket(hash_of(text))
        found = find_text(stored[name, bucket], known_by) if (name, bucket) in stored else None
        return [] if found is None else [int(place) for place in ascending(found)]

    expected: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        for name in ("client", "case", "user", "kind"):
            expected[name, getattr(row, name)].append(number)
    for name, text in [*chance.sample(sorted(expected), 300), ("client", "all"), ("client", "first"), ("user", "0")]:
        assert places(name, text) == (expected[name, text] if text else []), (name, text)
    assert places("case", "never") == []
    assert ("represented", hash_of("") >> 56) not in stored, "entries without a text stand nowhere"

    durations = columns.numbers["duration_us"].values
    for low, high in [(0, 0), (4096, 4097), (100, 2**53 - 1), (5, 3000), (65535, 65536)]:
        mask = np.zeros(LARGE, dtype=bool)
        for bucket in range(number_bucket("duration_us", low), number_bucket("duration_us", high) + 1):
            if ("duration_us", bucket) not in stored:
                continue
            there = ascending(read_places(stored["duration_us", bucket]))
            values = read_values(stored["duration_us=", bucket], len(there))
            assert (durations[there] == values).all()
            mark(mask, there[(values >= low) & (values <= high)].astype(np.int64))
        assert (mask == ((durations >= low) & (durations <= high))).all()


def test_a_larger_number_has_no_smaller_bucket() -> None:
    chance = random.Random(3)
    numbers = sorted({*range(3000), *SIZES, *[chance.randrange(1 << chance.randrange(1, 53)) for _ in range(3000)]})
    for name in RANGED[1:]:
        buckets = [number_bucket(name, number) for number in numbers]
        assert buckets == sorted(buckets)
        assert max(buckets) < 1 << 16
    assert [number_bucket("status", number) for number in (0, 200, 1023)] == [0, 200, 1023]


def test_a_row_knows_its_field_bucket_and_segment() -> None:
    keys = [
        posting_key(name, bucket, 12345) for name in (*Facts._fields, "duration_us=") for bucket in (0, 1, 255, 1023)
    ]
    assert len(set(keys)) == len(keys)
    assert {segment_of(key) for key in keys} == {12345}
    assert {bucket_of(key) for key in keys} == {0, 1, 255, 1023}
    assert max(keys) < 1 << 63
    assert unpack_keys(pack_keys(keys), 12345) == keys


@pytest.mark.parametrize("length", [0, 1, 2, 500, -1])
def test_bytes_that_are_no_columns_are_named_and_nothing_else(length: int) -> None:
    chance = random.Random(4)
    encoded = columns_of(0, 40, [(number, facts(chance, number)) for number in range(40)]).encoded()
    with pytest.raises(IndexFormatError):
        read_columns(0, 40, encoded[:length])
    with pytest.raises(IndexFormatError):
        read_columns(0, 41, encoded)


def test_no_change_of_a_byte_makes_a_column_that_cannot_be_used() -> None:
    """Whatever is stored, reading it gives columns of the right length or says that they are none."""
    chance = random.Random(5)
    made = columns_of(0, 40, [(number, facts(chance, number)) for number in range(40)])
    read = 0
    for name in ("client", "case", "duration_us"):
        encoded = made.column(name).encoded()
        for _ in range(400):
            changed = bytearray(encoded)
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            try:
                column = read_column(bytes(changed), 40)
            except IndexFormatError:
                continue
            read += 1
            if isinstance(column, TextColumn):
                assert len(column.among(frozenset([1, 2]))) == 40
            else:
                assert isinstance(column, NumberColumn)
                assert len(column.between(0, 10)) == 40
    assert read
