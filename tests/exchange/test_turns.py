"""What one turn of the loop brings is handed over together: at its end, or as soon as the group is full."""

from __future__ import annotations

import asyncio

from exchange import Gathering


async def test_what_one_turn_brings_is_one_group_and_what_the_next_brings_another() -> None:
    groups: list[list[int]] = []
    gathering = Gathering(groups.append)
    for number in (1, 2, 3):
        gathering.add(number)
    assert groups == []
    await asyncio.sleep(0)
    gathering.add(4)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert groups == [[1, 2, 3], [4]]


async def test_a_full_group_leaves_at_once_and_the_rest_at_the_end_of_the_turn() -> None:
    groups: list[list[int]] = []
    gathering = Gathering(groups.append, most=2)
    for number in range(5):
        gathering.add(number)
    assert groups == [[0, 1], [2, 3]]
    await asyncio.sleep(0)
    assert groups == [[0, 1], [2, 3], [4]]


async def test_what_is_added_while_a_group_is_handed_over_is_the_next_group() -> None:
    groups: list[list[int]] = []

    def handle(group: list[int]) -> None:
        groups.append(group)
        if group == [1]:
            gathering.add(2)

    gathering = Gathering(handle)
    gathering.add(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert groups == [[1], [2]]


async def test_what_is_alone_leaves_at_once_with_all_that_waited() -> None:
    groups: list[list[int]] = []
    gathering = Gathering(groups.append)
    gathering.add(1, alone=True)
    assert groups == [[1]]
    gathering.add(2)
    gathering.add(3, alone=True)
    assert groups == [[1], [2, 3]]
    await asyncio.sleep(0)
    assert groups == [[1], [2, 3]]
