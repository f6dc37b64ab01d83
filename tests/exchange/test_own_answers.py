"""Answers of the gateway's own (metaservices): their receipts verify, and nothing else passes for one."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from exchange.receipts.receipt import verify_receipt
from tests.exchange.log_kit import Place
from tests.exchange.test_receipt import OWNER, Parties, exchange, parties, place, receipt_of

__all__ = ["parties", "place"]

OWN: dict[str, Any] = {"answer": UNSET, "answer_seal": UNSET, "query_seal": UNSET, "source": "gateway"}
METASERVICE: dict[str, Any] = {"service": f"{OWNER}/listMethods", "grant": "", "purpose": ""}


async def failures(
    place: Place, parties: Parties, *, record: dict[str, Any], query: dict[str, Any] | None = None
) -> dict[str, str]:
    """Checks that fail, with what they say."""
    one = exchange(parties, query={**METASERVICE, **(query or {})}, record={**OWN, **record})
    checks = verify_receipt(await receipt_of(place, parties, one, beside=3), parties.keys())
    return {check.name: check.en for check in checks if not check.ok}


async def test_an_answer_of_the_gateways_own_verifies(place: Place, parties: Parties) -> None:
    assert await failures(place, parties, record={}) == {}


@pytest.mark.parametrize(
    ("record", "query"),
    [
        ({}, {"service": f"{OWNER}/enterprises"}),
        ({}, {"service": f"{OWNER}/listmethods"}),
        ({"source": ""}, {}),
        ({"source": "adapter"}, {}),
        ({"status": 500}, {}),
        ({"status": 0}, {}),
        ({"code": "access-denied"}, {}),
    ],
)
async def test_what_no_department_answered_was_not_answered(
    place: Place, parties: Parties, record: dict[str, Any], query: dict[str, Any]
) -> None:
    found = await failures(place, parties, record=record, query=query)
    assert found.keys() == {"record"}
    assert found["record"].startswith("it says answered")
