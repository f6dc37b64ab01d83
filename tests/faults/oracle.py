"""What must hold after any fault, once the mesh is whole again. Pure: four witnesses are compared, every contradiction is said.

The witnesses are what callers sent and got, the exchange log, the adapter's ledger, and the journal of the department's system.

Rules:
1. No intent is open; no exchange and no caller's message has two records.
2. Whoever holds an answer has a record `answered` with that exchange id and those sizes, and the ledger holds the same answer.
3. Whoever was told an error has a record that says so; only when the log itself refused may there be none.
4. What the department's system did for an unsafe operation it did once; that is on its adapter's ledger, and on the log as
   `answered` or `unknown`: the log never says that nothing happened when something did. And nobody was told to try it again.
5. Nothing stands on the log or in the ledger that nobody asked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from exchange import LedgerLine, StoredEntry, read_answer_statement, read_query_statement, read_record

SAFE = ("GET", "HEAD")
LOG_REFUSED = "record-before-release"


@dataclass(slots=True, kw_only=True)
class Sent:
    """One request, and what came of it."""

    message_id: str
    method: str
    target: str
    body: bytes = b""
    status: int = 0
    """0 as long as there is no whole response."""
    exchange_id: str = ""
    size: int = 0
    """Bytes of the response's body."""
    rule: str = ""
    """The rule that a problem names."""
    problem: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    lost: str = ""
    """How the connection ended, if there was no response."""
    took: float = 0.0
    right: bool = True
    """Whether an answer's body is the one expected."""

    @property
    def safe(self) -> bool:
        return self.method in SAFE

    @property
    def answered(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Done:
    """One line of the department's journal."""

    exchange_id: str
    message_id: str
    method: str
    target: str

    @classmethod
    def of(cls, line: str) -> Done:
        return cls(*line.split(" "))


@dataclass(slots=True, kw_only=True)
class Evidence:
    """Everything the witnesses say."""

    sent: Sequence[Sent]
    entries: Sequence[StoredEntry]
    open_intents: Sequence[str]
    ledger: Sequence[LedgerLine]
    done: Sequence[Done]

    def outcome_of(self, sent: Sent) -> tuple[str, str]:
        """Outcome and rule of the one record of a request."""
        (found,) = (entry for entry in self.entries if _query(entry)["message_id"] == sent.message_id)
        return found.outcome, found.rule

    def ledger_of(self, sent: Sent) -> list[tuple[str, str]]:
        """What the adapter's ledger says of a request: the kinds of its lines, and the errors in them."""
        return [
            (line.kind, "" if line.answer is UNSET else read_answer_statement(bytes(line.answer)).error)
            for line in self.ledger
            if read_query_statement(bytes(line.query)).message_id == sent.message_id
        ]


def contradictions(evidence: Evidence) -> list[str]:
    """What the witnesses disagree about, one sentence each; empty if all is well."""
    return [*_once(evidence), *_callers(evidence), *_department(evidence), *_nothing_invented(evidence)]


def _once(evidence: Evidence) -> Iterable[str]:
    for exchange_id in evidence.open_intents:
        yield f"exchange {exchange_id} has an open intent"
    yield from _repeated("records of exchange", (entry.exchange_id for entry in evidence.entries))
    yield from _repeated("records of message", (_query(entry)["message_id"] for entry in evidence.entries))
    yield from _repeated("ledger intents of exchange", (_id(line) for line in evidence.ledger if line.kind == "intent"))
    yield from _repeated("ledger answers of exchange", (_id(line) for line in evidence.ledger if line.kind == "answer"))
    # A safe question may be put twice to the department: its connection may have been closed under the first one.
    yield from _repeated("executions of exchange", (one.exchange_id for one in evidence.done if one.method not in SAFE))
    yield from _repeated("executions of message", (one.message_id for one in evidence.done if one.method not in SAFE))


def _callers(evidence: Evidence) -> Iterable[str]:
    records = {_query(entry)["message_id"]: json.loads(entry.leaf) for entry in evidence.entries}
    for sent in evidence.sent:
        record = records.get(sent.message_id)
        what = f"{sent.method} {sent.target} ({sent.message_id}, {sent.status} {sent.rule})"
        if record is None:
            if sent.status and sent.rule != LOG_REFUSED:
                yield f"{what} has no record"
            continue
        if not sent.status or sent.rule == LOG_REFUSED:
            continue  # the caller knows nothing that the record could contradict
        if (record["id"], record["status"], record["rule"]) != (sent.exchange_id, sent.status, sent.rule):
            yield f"{what} has another record: {record}"
        elif sent.answered != (record["outcome"] == "answered"):
            yield f"{what} is {record['outcome']} on the record"
        elif sent.answered:
            sizes = record["query"]["request_size"], record["answer"]["body_size"]
            if sizes != (len(sent.body), sent.size):
                yield f"{what} has sizes {sizes} on the record, {len(sent.body)} and {sent.size} in fact"
            if not sent.right:
                yield f"{what} was answered with something else"


def _department(evidence: Evidence) -> Iterable[str]:
    outcomes = {entry.exchange_id: entry.outcome for entry in evidence.entries}
    intents = {_id(line): line for line in evidence.ledger if line.kind == "intent"}
    answers = {_id(line): line for line in evidence.ledger if line.kind == "answer"}
    executed = {one.exchange_id for one in evidence.done if one.method not in SAFE}
    for exchange_id in executed:
        if outcomes.get(exchange_id) not in ("answered", "unknown"):
            yield f"exchange {exchange_id} was executed and is {outcomes.get(exchange_id)} on the log"
        if exchange_id not in intents:
            yield f"exchange {exchange_id} was executed without an intent in the ledger"
    messages = {one.message_id for one in evidence.done}
    for sent in evidence.sent:
        if not sent.safe and "retry-after" in sent.headers and sent.message_id in messages:
            yield f"{sent.method} {sent.target} ({sent.message_id}) was executed, and its caller told to try again"
    for exchange_id in intents.keys() - outcomes.keys():
        # Of what changes nothing there may be none: a large answer was to be streamed, and the log took no intent of it.
        if not read_query_statement(bytes(intents[exchange_id].query)).safe:
            yield f"exchange {exchange_id} has an intent in the ledger and no record"
    for entry in evidence.entries:
        if entry.outcome != "answered":
            continue
        record = read_record(entry.leaf)
        line = answers.get(entry.exchange_id)
        if line is None or (line.query, line.answer, line.answer_seal) != (
            record.query,
            record.answer,
            record.answer_seal,
        ):
            yield f"exchange {entry.exchange_id} was answered, and the ledger does not hold that answer"
        if not read_query_statement(bytes(record.query)).safe and entry.exchange_id not in executed:
            yield f"exchange {entry.exchange_id} is answered on the log, and was never executed"
    for exchange_id, line in answers.items():
        safe = read_query_statement(bytes(line.query)).safe
        answered = line.answer is not UNSET and not read_answer_statement(bytes(line.answer)).error
        if answered and not safe and outcomes.get(exchange_id) not in ("answered", "unknown"):
            yield f"exchange {exchange_id} was released by the adapter and is {outcomes.get(exchange_id)} on the log"


def _nothing_invented(evidence: Evidence) -> Iterable[str]:
    known = {sent.message_id for sent in evidence.sent}
    for entry in evidence.entries:
        if _query(entry)["message_id"] not in known:
            yield f"exchange {entry.exchange_id} is on the log, and nobody sent it"
    for line in evidence.ledger:
        if read_query_statement(bytes(line.query)).message_id not in known:
            yield f"exchange {_id(line)} is in the ledger, and nobody sent it"


def _repeated(what: str, names: Iterable[str]) -> Iterable[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{count} {what} {name}"


def _query(entry: StoredEntry) -> dict[str, Any]:
    query: dict[str, Any] = json.loads(entry.leaf)["query"]
    return query


def _id(line: LedgerLine) -> str:
    return read_query_statement(bytes(line.query)).id
