"""What tests of the search share: records of many kinds, and a search without any index, written another way."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import UNSET, Raw

from exchange.log.frames import Entry, Frame
from exchange.log.log_event import LogEvent
from exchange.log.record import Record, record_bytes
from exchange.log.store import LogStore
from exchange.log.store_postgresql import PostgresqlStore
from exchange.log.store_sqlite import SqliteStore, create_file
from exchange.log.writer import LastSigned, LogWriter
from exchange.messages.envelope import AnswerStatement, statement_bytes
from exchange.moments import Rfc3339
from exchange.search.filters import RecordFilter
from exchange.storage.database import database_url, sqlite_path, upgrade
from exchange.transparency.checkpoint import NoteSigner
from tests.exchange.log_kit import change_attempt, change_record, query_statement

BEGIN_MS = 1_767_200_000_000  # the last minutes of 2025 in UTC, so that days, months and years begin among the records
_time_text = Rfc3339()


def hex_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


CLIENTS = [f"CN/GOV/MEMBER{number}/housing" for number in range(9)]
SERVICES = [f"CN/GOV/OWNER{number % 4}/tax/service{number}" for number in range(11)]
SUBJECTS = [hex_of(f"subject {number}") for number in range(400)]
CERTIFICATES = [hex_of(f"certificate {number}") for number in range(12)]
PERSONS = [hex_of(f"person {number}") for number in range(5)]
DIGEST = hex_of("what nobody looks for")
RULES = ["grant", "purpose", "deadline", "client-of-certificate"]


def varied(seed: int, count: int, *, begin_ms: int = BEGIN_MS, step_ms: int = 2000) -> list[Entry]:
    """Rows of `count` entries in order of time but for a few seconds: exchanges of every outcome, changes, accesses."""
    chance = random.Random(seed)
    return [_one(chance, begin_ms + number * step_ms, seed * 1_000_000 + number) for number in range(count)]


def _one(chance: random.Random, at_ms: int, number: int) -> Entry:
    at_ms += chance.randrange(-5000, 5000)
    exchange_id = f"00000000-0000-7000-8000-{number:012x}"
    sort = chance.random()
    if sort < 0.02:
        change = change_attempt(change_record(number + 1, target=chance.choice(SERVICES)), at_ms)
        return change.row
    if sort < 0.05:
        event = LogEvent(
            id=exchange_id,
            kind=chance.choice(["access", "retention"]),  # type: ignore[arg-type]
            act="exchanges.list",
            at=_time_text(at_ms),
            by=chance.choice(CLIENTS),
            certificate=DIGEST,
            user=f"official{chance.randrange(20)}",
            details={"count": 3},
        )
        return exchange_id, at_ms, event.by, "", event.kind, event.act, None, event.leaf
    outcome = chance.choices(["answered", "refused", "failed", "unknown"], [80, 12, 6, 2])[0]
    client, service = chance.choice(CLIENTS), chance.choice(SERVICES)
    if outcome == "refused" and chance.random() < 0.2:
        client = service = ""
    grant = f"g{chance.randrange(6)}@{chance.randrange(1, 4)}"
    asked = query_statement(
        exchange_id,
        0,
        at_ms,
        case=f"案{chance.randrange(300)}" if chance.random() < 0.7 else "",
        certificate=chance.choice(CERTIFICATES),
        channel=chance.choice(["", "hall", "web"]),
        client=client,
        grant=grant if outcome == "answered" else "",
        message_id=f"message-{number}",
        method=chance.choice(["GET", "GET", "POST"]),
        path_template=chance.choice(["/enterprises/{uscc}", "/persons/{id}/税"]),
        purpose=chance.choice(["public-rental-housing", "school", "养老"]) if outcome == "answered" else "",
        represented=chance.choice(["", "", "CN/COM/AGENT"]),
        request_size=chance.choice([0, 0, 0, chance.randrange(10_000), 1 << chance.randrange(34)]),
        service=service,
        subject=chance.choice(SUBJECTS) if chance.random() < 0.8 else "",
        user=f"official{chance.randrange(20)}",
    )
    said = AnswerStatement(
        adapter=DIGEST,
        answered_at=_time_text(at_ms),
        body_digest=DIGEST,
        body_size=chance.randrange(1 << chance.randrange(1, 24)),
        error="",
        headers_digest=DIGEST,
        id=exchange_id,
        query_digest=DIGEST,
        status=200,
    )
    answered = outcome == "answered"
    rule = "" if answered else chance.choice(RULES)
    record = Record(
        answer=Raw(statement_bytes(said)) if answered else UNSET,
        answer_seal="c2VhbA==" if answered else UNSET,
        certificate_serial=chance.choice(["", "0", "00A1", "a1", "7F2201", f"{chance.randrange(1 << 20):x}"]),
        code="" if answered else chance.choice(["access-denied", "answer-timeout"]),
        duration_us=int(chance.lognormvariate(9, 2)),
        ended_at=_time_text(at_ms),
        id=exchange_id,
        outcome=outcome,  # type: ignore[arg-type]
        person=chance.choice(PERSONS) if chance.random() < 0.1 else UNSET,
        query=Raw(statement_bytes(asked)),
        query_seal="c2VhbA==" if answered else UNSET,
        rule=rule,
        source="" if answered else chance.choice(["gateway", "adapter"]),
        status=chance.choice([200, 200, 204, 404]) if answered else chance.choice([0, 403, 408, 503]),
    )
    return exchange_id, at_ms, client, service, outcome, rule, b"s" * 16, record_bytes(record)


def any_filter(chance: random.Random, entries: Sequence[Entry]) -> RecordFilter:
    """A filter of few or many conditions, most of them as some record has it, so that something is found."""
    like = read(chance.choice(entries)[7])
    other = read(chance.choice(entries)[7])
    choices: dict[str, Any] = {
        **{name: like[name] for name in _TEXTS},
        "grant": like["grant"] if chance.random() < 0.5 else like["grant"].rpartition("@")[0],
        "certificate": like["certificate"].upper(),
        "certificate_serial": "00" + like["serial"].upper() if like["serial"] else "",
        "subjects": frozenset([like["subject"], other["subject"], hex_of("nobody")]) - {""},
        "persons": frozenset([like["person"]]) if like["person"] else None,
        **{f"{name}_min": min(like[name], other[name]) for name in _NUMBERS},
        **{f"{name}_max": max(like[name], other[name]) for name in _NUMBERS},
        "duration_min_us": min(like["duration_us"], other["duration_us"]),
        "duration_max_us": max(like["duration_us"], other["duration_us"]),
        "since_ms": min(like["at_ms"], other["at_ms"]),
        "until_ms": max(like["at_ms"], other["at_ms"]) + 1,
    }
    names = chance.sample(sorted(choices), chance.choice([0, 1, 1, 1, 2, 2, 3, 5]))
    kind = chance.choices(["exchange", "any", "change", "access", "retention"], [70, 15, 5, 5, 5])[0]
    return RecordFilter(kind=kind, **{name: choices[name] for name in names})  # type: ignore[arg-type]


_TEXTS = (
    *("client", "owner", "service", "purpose", "case", "user", "represented", "outcome", "rule", "code", "source"),
    *("message_id", "method", "path_template", "channel"),
)
_NUMBERS = ("status", "request_size", "answer_size")


def read(leaf: bytes, seq: int = 0) -> dict[str, Any]:
    """What the record of entry `seq` says, by the plain JSON of it."""
    record = json.loads(leaf)
    said: dict[str, Any] = dict.fromkeys((*_TEXTS, "grant", "certificate", "serial", "subject", "person"), "")
    said |= dict.fromkeys((*_NUMBERS, "duration_us"), 0)
    kind = said["kind"] = record.get("kind", "exchange")
    said["certificate"] = record.get("certificate", "")
    if kind == "change":
        said |= {"outcome": "change", "rule": record["action"], "service": record["target"]}
        said["at"] = record["recorded_at"]
    elif kind != "exchange":
        said |= {"outcome": kind, "rule": record["act"], "client": record["by"], "user": record["user"]}
        said["at"] = record["at"]
    else:
        said |= {name: record[name] for name in ("outcome", "rule", "code", "source", "status", "duration_us")}
        said |= {name: value for name, value in record["query"].items() if name in said}
        said["serial"] = record["certificate_serial"].lower().lstrip("0") or record["certificate_serial"][:1]
        said["person"] = record.get("person", "")
        said["answer_size"] = record.get("answer", {}).get("body_size", 0)
        said["at"] = record["ended_at"]
    said["owner"] = said["service"].rpartition("/")[0]
    said["at_ms"] = round(datetime.fromisoformat(said["at"]).timestamp() * 1000)
    said["seq"] = seq
    return said


def wanted_of(said: Sequence[dict[str, Any]], wanted: RecordFilter) -> list[dict[str, Any]]:
    """The records that a filter looks for, condition by condition."""
    found = list(said)
    for name, value in wanted.to_plain().items():
        match name:
            case "kind":
                found = [each for each in found if value in ("any", each["kind"])]
            case "subjects" | "persons":
                fact = name.removesuffix("s")
                found = [each for each in found if each[fact] in value]
            case "certificate_serial":
                serial = value.lower().lstrip("0") or "0"
                found = [each for each in found if each["serial"] == serial]
            case "certificate":
                found = [each for each in found if each["certificate"] == value.lower()]
            case "grant":
                found = [each for each in found if value in (each["grant"], each["grant"].split("@")[0])]
            case "since_ms":
                found = [each for each in found if each["at_ms"] >= value]
            case "until_ms":
                found = [each for each in found if each["at_ms"] < value]
            case _ if "_min" in name:
                fact = name.replace("_min", "")
                found = [each for each in found if each[fact] >= value]
            case _ if "_max" in name:
                fact = name.replace("_max", "")
                found = [each for each in found if each[fact] <= value]
            case _:
                found = [each for each in found if each[name] == value]
    return found


def counted(said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures over records, as far as they are exact."""
    return {
        "total": len(said),
        "by_outcome": Counter(each["outcome"] for each in said),
        "by_rule": Counter(each["rule"] for each in said if each["rule"]),
        "by_status_class": Counter(f"{each['status'] // 100}xx" if each["status"] else "none" for each in said),
        "request_bytes": sum(each["request_size"] for each in said),
        "answer_bytes": sum(each["answer_size"] for each in said),
        "max_us": max([each["duration_us"] for each in said], default=0),
        "by_service": Counter(each["service"] for each in said if each["service"]),
        "by_purpose": Counter(each["purpose"] for each in said if each["purpose"]),
        "pairs": Counter((each["client"], each["owner"]) for each in said),
    }


async def fill(url: str, folder: Path, rows: Sequence[Entry]) -> None:
    """Write a log of these rows as a log writer does."""
    place = database_url(url)
    file = sqlite_path(place)
    if file:
        create_file(file)
    await upgrade(place, "exchange.migrations")
    _, arguments = place.get_dialect()().create_connect_args(place)
    store: LogStore = SqliteStore(file) if file else PostgresqlStore(dict(arguments))
    key = folder / f"log-{random.random()}.key"
    writer = LogWriter(store, NoteSigner.generate("log.example/search"), LastSigned(key), "gateway", "boot")
    for at in range(0, len(rows), 5000):
        (reply,) = await writer.write([Frame(entries=list(rows[at : at + 5000]))])
        assert not reply.problem
        assert not reply.duplicates
    await store.close()
