"""The oracle itself: it is silent about a mesh that worked, and says each kind of contradiction when there is one."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from exchange import StoredEntry
from tests.faults.fault_mesh import FaultMesh
from tests.faults.oracle import Evidence, Sent, contradictions

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="module")]


def without(evidence: Evidence, witness: str, which: Callable[[object], bool] = lambda one: True) -> Evidence:
    """The evidence without the last thing of a kind that a witness said."""
    said = list(getattr(evidence, witness))
    said.remove(next(one for one in reversed(said) if which(one)))
    return with_changes(evidence, **{witness: said})


def with_changes(evidence: Evidence, **changes: object) -> Evidence:
    changed = copy.copy(evidence)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def recorded_as(evidence: Evidence, outcome: str) -> Evidence:
    """The last record says something else."""
    entry = evidence.entries[-1]
    leaf = entry.leaf.replace(b'"outcome":"answered"', f'"outcome":"{outcome}"'.encode())
    return with_changes(evidence, entries=[*evidence.entries[:-1], replace(entry, leaf=leaf, outcome=outcome)])


def forged(evidence: Evidence) -> Evidence:
    """The last answer in the ledger is another one than that on the log."""
    line = evidence.ledger[-1]
    other = msgspec.Raw(bytes(line.answer).replace(b'"status":200', b'"status":201'))  # type: ignore[arg-type]
    return with_changes(evidence, ledger=[*evidence.ledger[:-1], msgspec.structs.replace(line, answer=other)])


def told(evidence: Evidence, **changes: object) -> Evidence:
    """The last caller says something else."""
    sent: Sent = replace(evidence.sent[-1], **changes)  # type: ignore[arg-type]
    return with_changes(evidence, sent=[*evidence.sent[:-1], sent])


def again(entry: StoredEntry) -> StoredEntry:
    return replace(entry, seq=entry.seq + 1)


LIES: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "record-lost": (lambda e: without(e, "entries"), "has no record"),
    "record-twice": (lambda e: with_changes(e, entries=[*e.entries, again(e.entries[-1])]), "2 records of exchange"),
    "intent-open": (lambda e: with_changes(e, open_intents=["x"]), "open intent"),
    "another-id": (lambda e: told(e, exchange_id="x"), "has another record"),
    "another-status": (lambda e: told(e, status=201), "has another record"),
    "another-size": (lambda e: told(e, size=7), "has sizes"),
    "another-body": (lambda e: told(e, right=False), "something else"),
    "told-to-try-again": (lambda e: told(e, headers={"retry-after": "5"}), "told to try again"),
    "denied-by-the-log": (lambda e: recorded_as(e, "failed"), "was executed and is failed"),
    "never-asked": (lambda e: without(e, "sent"), "nobody sent it"),
    "executed-twice": (lambda e: with_changes(e, done=[*e.done, e.done[-1]]), "2 executions"),
    "never-executed": (lambda e: without(e, "done"), "never executed"),
    "no-intent-in-the-ledger": (
        lambda e: without(e, "ledger", lambda line: line.kind == "intent"),  # type: ignore[attr-defined]
        "without an intent in the ledger",
    ),
    "answer-not-in-the-ledger": (lambda e: without(e, "ledger"), "does not hold that answer"),
    "another-answer-in-the-ledger": (forged, "does not hold that answer"),
    "record-lost-and-caller-gone": (
        lambda e: without(told(e, status=0, rule=""), "entries"),
        "was executed and is None",
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_contradiction_is_noticed(mesh: FaultMesh, lie: str) -> None:
    await mesh.ask("GET", "/bytes/10")
    evidence = await mesh.verdict()  # its last request is an unsafe one that was answered
    assert contradictions(evidence) == []
    change, expected = LIES[lie]
    found = contradictions(change(evidence))
    assert any(re.search(expected, one) for one in found), found
