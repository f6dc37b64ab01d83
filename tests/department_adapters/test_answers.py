"""Answers that leave together share one signature; one that is alone waits for no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from department_adapters.answers import AnswerDesk, Release
from exchange import ANSWER_CONTEXT, Answered, LogUnavailableError
from exchange.signatures.seal import check_seal

KEY = ec.generate_private_key(ec.SECP256R1())


class Lines:
    """A ledger, or one that takes nothing."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.groups: list[list[Answered]] = []

    async def intend(self, query: bytes, query_seal: bytes) -> None:
        raise NotImplementedError

    def answered(self, answers: Sequence[Answered]) -> None:
        if self.full:
            raise LogUnavailableError
        self.groups.append(list(answers))


class Desk:
    """A desk, and what happened at it in order: seals that were let go, and `flush`."""

    def __init__(self, at_once: int, *, full: bool = False) -> None:
        self.ledger = Lines(full=full)
        self.happened: list[bytes | str | None] = []
        self.desk = AnswerDesk(
            KEY, "", self.ledger, at_once=range(at_once), flush=lambda: self.happened.append("flush")
        )

    def release(self, sealed: bytes) -> None:
        self.desk.release(Release(b"{}", b"seal", sealed, self.happened.append))


async def test_an_answer_that_is_alone_leaves_within_the_call() -> None:
    desk = Desk(at_once=1)
    desk.release(b"{}")
    seal, flush = desk.happened
    assert isinstance(seal, bytes)
    assert flush == "flush"
    check_seal(KEY.public_key(), ANSWER_CONTEXT, seal, b"{}")
    assert desk.ledger.groups == [[(b"{}", b"seal", b"{}", seal)]]


async def test_answers_to_questions_that_came_together_leave_together() -> None:
    desk = Desk(at_once=2)
    desk.release(b"1")
    desk.release(b"2")
    assert desk.happened == []
    await asyncio.sleep(0)
    first, second, flush = desk.happened
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    assert flush == "flush"
    for seal, sealed in ((first, b"1"), (second, b"2")):
        check_seal(KEY.public_key(), ANSWER_CONTEXT, seal, sealed)
    assert [len(group) for group in desk.ledger.groups] == [2]


@pytest.mark.parametrize("at_once", [1, 2])
async def test_what_the_ledger_does_not_take_is_not_let_go(at_once: int) -> None:
    desk = Desk(at_once, full=True)
    desk.release(b"1")
    await asyncio.sleep(0)
    assert desk.happened == [None]
