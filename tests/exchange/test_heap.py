"""What a serving process leaves to its end."""

from __future__ import annotations

import gc

from exchange import settle_heap


def test_what_a_start_made_is_not_gone_through_again() -> None:
    thresholds = gc.get_threshold()
    try:
        kept = [[] for _ in range(1000)]  # as modules are: containers that live on
        settle_heap()
        assert gc.get_freeze_count() >= len(kept)
        assert not any(each is kept for each in gc.get_objects())
        assert gc.get_threshold()[0] > thresholds[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def test_what_comes_later_is_still_collected() -> None:
    thresholds = gc.get_threshold()
    try:
        settle_heap()
        ring: list[object] = []
        ring.append(ring)
        del ring
        assert gc.collect() >= 1
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
