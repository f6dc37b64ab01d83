"""The record of a change: one form, one id, on the log like any other record, and its receipt verifies offline."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import rfc8785
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from ca_auth import CertificateRequest, DemoCA
from exchange.audit.log_damage import DamagedLogError
from exchange.audit.reconciliation import ReconciliationCounts, reconcile
from exchange.canonical_json import canonical, parse_canonical
from exchange.identifiers import SubsystemId, subsystem_id
from exchange.ledger.ledger import Ledger
from exchange.log.change_record import MOST_BYTES, is_change, read_change
from exchange.receipts.receipt import Check, SentRequest, build_receipt, verify_receipt
from exchange.storage.database import create_engine, writing
from tests.exchange.log_kit import Attempt, Place, attempt, change_attempt, change_record

OWNER = "CN/GOV/TAX/tax"

RECORDED = "2026-05-04T12:00:01.000Z"
TAX = subsystem_id("CN/GOV/TAX/tax")
HOUSING = subsystem_id("CN/GOV/HOUSING/housing")

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | _texts
_values = st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(_texts, inner), max_leaves=10)
_rows = st.dictionaries(_texts, _values, max_size=6)


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Place:
    return Place(database_url, tmp_path)


# One form


@given(before=st.none() | _rows, after=_rows)
def test_whatever_a_row_holds_its_record_is_canonical_and_read_back(before: Any, after: Any) -> None:
    change = change_record(before=before, after=after)
    identifier, leaf = change.entry(RECORDED)
    assert rfc8785.dumps(json.loads(leaf)) == leaf
    assert read_change(leaf) == (change, RECORDED)
    assert is_change(leaf)
    assert change.id == identifier


@given(st.dictionaries(_texts, st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _texts | st.lists(_texts)))
def test_canonical_json_is_that_of_rfc_8785(value: dict[str, Any]) -> None:
    """Also where the order of UTF-16 is another than that of characters."""
    assert canonical(value) == rfc8785.dumps(value)
    assert parse_canonical(canonical(value)) == value


@pytest.mark.parametrize("value", [None, 1.5, 2**53, [None], {"a": {"b": 0.1}}, "\ud800", {"\ud800": 1}, float("nan")])
def test_what_has_no_canonical_text_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"canonical|surrogates"):
        canonical(value)


def test_an_exchange_is_no_change() -> None:
    assert not is_change(attempt().record)
    with pytest.raises(ValueError, match="not a record of a change"):
        read_change(attempt().record)


def test_a_long_member_is_told_by_its_digest_and_the_rest_in_full() -> None:
    document = "文" * 5000
    change = change_record(before=None, after={"service": "s", "document": document, "operations": ["GET /"]})
    assert change.after == {"service": "s", "operations": ["GET /"]}
    data = document.encode()
    assert change.after_digests == {"document": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}}


def test_a_record_is_bounded_however_long_its_row_is() -> None:
    row = {f"column{number}": [number] * 1000 for number in range(30)}
    change = change_record(before=row, after={**row, "column0": "x"})
    assert change.after["column0"] == "x"
    assert len(change.entry(RECORDED)[1]) < 4 * MOST_BYTES
    assert change.before_digests["column29"] == change.after_digests["column29"]


def test_what_canonical_json_cannot_carry_is_told_by_its_digest_and_null_not_at_all() -> None:
    change = change_record(before=None, after={"share": 0.5, "big": 2**70, "none": None, "in": {"a": None, "b": 1}})
    assert change.after == {"in": {"b": 1}}
    assert change.after_digests["share"] == {"sha256": hashlib.sha256(b"0.5").hexdigest(), "size": 3}
    assert change.after_digests.keys() == {"share", "big"}


# One id


def test_the_id_is_made_of_the_content_and_not_of_when_it_was_recorded() -> None:
    change = change_record()
    assert change.entry(RECORDED)[0] == change.entry("2030-01-01T00:00:00.000Z")[0]
    elsewhere = datetime(2026, 5, 4, 20, 0, 0, 123456, tzinfo=timezone(timedelta(hours=8)))
    assert change_record(at=elsewhere).id == change.id
    assert (change.id[14], change.id[19] in "89ab") == ("8", True), "a UUIDv8 of RFC 9562"
    others = [
        change_record(version=2),
        change_record(registry="6a1f7a0e-0000-4000-8000-000000000002"),
        change_record(at=datetime(2026, 5, 4, 12, tzinfo=UTC)),
        change_record(by="李四"),
        change_record(certificate="ab" * 32),
        change_record(why="-"),
        change_record(action="grant.add"),
        change_record(target="g2"),
        change_record(before=None),
        change_record(before={}),
        change_record(after={"id": "g1"}),
        change_record(after={"id": "g1", "document": "x" * 9000}),
        change_record(after={"id": "g1", "document": "y" * 9000}),
    ]
    assert len({change.id, *(other.id for other in others)}) == 1 + len(others)


@pytest.mark.parametrize(
    "change",
    [
        {"why": "something else"},
        {"version": 2},
        {"version": True},
        {"version": 0},
        {"v": 2},
        {"kind": "exchange"},
        {"after": []},
        {"before": "x"},
        {"by": 1},
        {"at": "yesterday"},
        {"recorded_at": "2026-02-30T00:00:00Z"},
        {"id": "00000000-0000-8000-8000-000000000000"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_record_that_was_changed_is_no_record(change: dict[str, Any]) -> None:
    record = json.loads(change_record().entry(RECORDED)[1])
    with pytest.raises(ValueError, match=r"it|its|not an RFC 3339|out of range"):
        read_change(canonical({**record, **change}))
    with pytest.raises(ValueError, match="canonical"):
        read_change(json.dumps(record).encode())


# On the log


async def filled(place: Place) -> list[Attempt]:
    """A log of changes among exchanges."""
    changes = [change_attempt(change_record(version)) for version in range(1, 6)]
    await place.fill(10, [10], extra=changes)
    return changes


async def test_changes_stand_on_the_log_among_exchanges_and_the_whole_log_is_in_order(place: Place) -> None:
    changes = await filled(place)
    assert (await place.check()).size == 25
    async with place.reader() as reader:
        assert await reader.counts() == (20, 5)
        ids = [one.exchange_id for one in changes]
        assert await reader.numbers([*ids, "another"]) == {one: 10 + number for number, one in enumerate(ids)}
        found = [entry async for entry in reader.iter_entries(kind="change")]
        assert [entry.exchange_id for entry in found] == ids
        assert [(one.rule, one.service) for one in found][2] == ("grant.revoke", "g3")
        assert read_change(found[2].leaf)[0].version == 3
        assert [entry.seq async for entry in reader.iter_entries(kind="change")] == list(range(10, 15))
        assert len([entry async for entry in reader.iter_entries(kind="exchange")]) == 20


async def test_the_log_takes_a_change_once(place: Place) -> None:
    async with place.log() as log:
        first = await change_attempt(change_record()).append_to(log)
        with pytest.raises(Exception, match="did not accept") as refused:
            await change_attempt(change_record(), at_ms=1_800_000_000_000).append_to(log)
    assert (first, refused.value.rule) == (0, "one-record-per-exchange")  # type: ignore[attr-defined]
    assert await place.stored_ids() == [change_record().id]


@pytest.mark.parametrize(
    "damage",
    [
        "exchange_id = 'x'",
        "outcome = 'answered'",
        "outcome = 'refused'",
        "rule = 'grant.add'",
        "client = 'CN/GOV/X/y'",
        "service = 'g2'",
        "at_ms = at_ms - 1",
        "leaf = leaf_hash",
    ],
)
async def test_a_damaged_change_is_named(place: Place, damage: str) -> None:
    await filled(place)
    engine = create_engine(place.database)
    async with writing(engine) as connection:
        await connection.execute(sa.text(f"UPDATE log_entries SET {damage} WHERE seq = 12"))
    await engine.dispose()
    with pytest.raises(DamagedLogError) as damaged:
        await place.check()
    assert damaged.value.where == "entry 12"
    assert damaged.value.problem_zh


async def test_a_record_with_another_id_than_its_content_makes_is_named(place: Place) -> None:
    """It may have been put there with all hashes, by whoever holds the log's key."""
    record = json.loads(change_attempt(change_record()).record)
    record["why"] = "a better reason"
    one = change_attempt(change_record())
    await place.fill(
        3, [], extra=[Attempt(canonical(record), one.exchange_id, one.at_ms, "", "g1", "change", one.rule, b"")]
    )
    with pytest.raises(DamagedLogError, match="id is not that of its content"):
        await place.check()


async def test_ledgers_are_not_compared_with_changes(place: Place, tmp_path: Path) -> None:
    await place.fill(0, [], extra=[attempt(outcome="refused"), change_attempt(change_record())])
    await (await Ledger.open(tmp_path / "ledger", OWNER)).close()
    counts = ReconciliationCounts()
    async with place.reader() as reader:
        assert [one async for one in reconcile(reader, [tmp_path / "ledger"], counts)] == []
    assert (counts.log_entries, counts.agreed) == (1, 1)


# Receipts


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> DemoCA:
    return DemoCA.create(tmp_path_factory.mktemp("ca"))


async def receipt_of(place: Place, one: Attempt, *certificates: bytes) -> bytes:
    await place.fill(5, [], extra=[one], certificates=certificates)
    async with place.reader() as reader:
        entry = await reader.entry(one.exchange_id)
        newest = await reader.latest_checkpoint()
        assert entry is not None
        assert newest is not None
        return await build_receipt(reader, entry, newest.note)


def keys_of(place: Place, ca: DemoCA | None = None) -> bytes:
    anchors = [ca.bundle.read_text()] if ca else []
    keys = {"format": "datong-keys/1", "logs": [place.signer.verifier.vkey], "trust_anchors": anchors}
    return json.dumps(keys).encode()


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


async def test_the_receipt_of_a_change_says_who_what_and_why_and_verifies(place: Place) -> None:
    receipt = await receipt_of(place, change_attempt(change_record()))
    checks = verify_receipt(receipt, keys_of(place))
    assert [check.name for check in checks if not check.ok] == []
    assert [check.name for check in checks] == [
        *("form", "checkpoint", "inclusion", "witnessed", "stamped", "record", "change", "decider"),
        *("revocation", "certificates"),
    ]
    assert [check.name for check in checks if check.state == "absent"] == ["witnessed", "stamped", "revocation"]
    told = by_name(checks)
    assert "grant.revoke g1 at 2026-05-04T12:00:00.123456Z" in told["change"].en
    assert "批复〔2026〕7号" in told["change"].en
    assert "state: active → revoked" in told["change"].zh
    assert "purposes" not in told["change"].en, "what did not change is not in the way"
    assert "张三" in told["decider"].en
    assert "the machine itself" in told["decider"].en


async def test_no_byte_of_the_receipt_can_be_changed(place: Place) -> None:
    receipt = await receipt_of(place, change_attempt(change_record()))
    keys = keys_of(place)
    record = receipt.index(b'"record"')
    for at in (*range(0, record, 7), *range(record, len(receipt), 11)):
        forged = receipt[:at] + bytes([receipt[at] ^ 1]) + receipt[at + 1 :]
        assert not all(check.ok for check in verify_receipt(forged, keys)), at


@pytest.mark.parametrize(
    ("by", "holder", "ok"),
    [
        (TAX, TAX, True),
        (f"{TAX} (张三)", TAX, True),
        (f"{HOUSING} (张三)", TAX, False),
    ],
)
async def test_whose_certificate_it_was_is_checked(
    place: Place, ca: DemoCA, by: str, holder: SubsystemId, ok: bool
) -> None:
    issued = ca.ensure(f"holder-{holder.rpartition('/')[2]}", CertificateRequest.for_subsystem(holder))
    change = change_record(by=by, certificate=issued.fingerprint, at=datetime.now(UTC))
    told = by_name(verify_receipt(await receipt_of(place, change_attempt(change), issued.der), keys_of(place, ca)))
    assert told["decider"].ok is ok
    assert ("valid at the time" in told["decider"].en) is ok


async def test_a_certificate_that_was_not_valid_then_is_told(place: Place, ca: DemoCA) -> None:
    issued = ca.ensure("holder-tax", CertificateRequest.for_subsystem(TAX))
    change = change_record(by=TAX, certificate=issued.fingerprint, at=datetime(2020, 1, 1, tzinfo=UTC))
    told = by_name(verify_receipt(await receipt_of(place, change_attempt(change), issued.der), keys_of(place, ca)))
    assert not told["decider"].ok
    assert "not valid at 2020" in told["decider"].en


async def test_a_certificate_that_nobody_keeps_is_named_by_its_fingerprint(place: Place) -> None:
    change = change_record(by=TAX, certificate="ab" * 32)
    told = by_name(verify_receipt(await receipt_of(place, change_attempt(change)), keys_of(place)))
    assert told["decider"].ok
    assert "ab" * 32 in told["decider"].en


async def test_a_change_has_no_request_and_no_answer_to_be_compared(place: Place) -> None:
    receipt = await receipt_of(place, change_attempt(change_record()))
    request = SentRequest("GET", b"/", [], b"")
    told = by_name(verify_receipt(receipt, keys_of(place), request=request, answer_body=b""))
    assert not told["request"].ok
    assert not told["answer"].ok
