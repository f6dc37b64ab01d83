"""The witness: every status of c2sp.org/tlog-witness, and nothing that gets it to cosign two histories."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exchange.transparency.checkpoint import Checkpoint, NoteError, NoteSigner, open_checkpoint
from exchange.transparency.cosignature import ML_DSA_44, CosignatureVerifier, Cosigner, check_cosignatures
from exchange.transparency.merkle import EMPTY_ROOT, hash_leaf
from exchange.witness import state as state_module
from exchange.witness.folder import WitnessFolder
from exchange.witness.known_logs import KnownLogs
from exchange.witness.protocol import (
    MOST_BYTES,
    AddCheckpoint,
    RequestError,
    origin_hash,
    request_body,
    size_from_conflict,
)
from exchange.witness.state import StateError, WitnessState
from exchange.witness.witness import Witness
from tests.exchange.witness_kit import Clock, MemoryLog, witness_in

ROOT = Path(__file__).parents[2]
LOG = MemoryLog()
OTHER_TREE = MemoryLog(LOG.signer, salt="x")
VKEY = LOG.signer.verifier.vkey


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return witness_in(tmp_path, VKEY)


def verifier_in(folder: Path) -> CosignatureVerifier:
    return WitnessFolder(folder).cosigner().verifier


def feed(witness: Witness, *sizes: int) -> None:
    for old, size in zip((0, *sizes), sizes, strict=False):
        assert witness.add_checkpoint(LOG.request(old, size)).status == 200


def test_it_cosigns_what_continues_what_it_cosigned(witness: Witness, tmp_path: Path) -> None:
    verifier = verifier_in(tmp_path)
    old = 0
    for size in (0, 0, 1, 1, 2, 3, 7, 8, 9, 64, 100, 257):
        answer = witness.add_checkpoint(LOG.request(old, size))
        assert (answer.status, answer.content_type) == (200, "text/plain; charset=utf-8")
        cosigned = LOG.note(size) + answer.body
        assert check_cosignatures(cosigned, [verifier]) == {verifier.name: 1_700_000_000}
        assert witness.checkpoint(origin_hash("log.example/datong")).body == cosigned
        assert open_checkpoint(cosigned, [LOG.signer.verifier]) == LOG.checkpoint(size)
        old = size


def _with_signature(line: str) -> bytes:
    return LOG.request(5, 8) + line.encode()


def _bad_line() -> str:
    key_id = LOG.signer.verifier.key_id
    return f"— log.example/datong {b64encode(key_id + bytes(64)).decode()}\n"


STRANGER = MemoryLog(NoteSigner.generate("log.example/datong"))
UNKNOWN = MemoryLog(NoteSigner.generate("elsewhere.example/log"))
EMPTY = Checkpoint("log.example/datong", 0, hash_leaf(b"")).signed(LOG.signer)
# After sizes 3 and 5 were cosigned: request, status.
TABLE = {
    "the next one": (LOG.request(5, 8), 200),
    "the same again": (LOG.request(5, 5), 200),
    "with a signature of a stranger beside": (_with_signature(f"— stranger {b64encode(bytes(68)).decode()}\n"), 200),
    "of an unknown log": (UNKNOWN.request(0, 8), 404),
    "signed by another key of the name": (STRANGER.request(5, 8), 403),
    "with a bad signature of the log beside": (_with_signature(_bad_line()), 403),
    "of another origin, signed by the log": (
        request_body(5, [], LOG.signer.sign(UNKNOWN.checkpoint(8).text)),
        404,
    ),
    "old size above the size": (request_body(9, [], LOG.note(8)), 400),
    "old size too small": (LOG.request(3, 8), 409),
    "old size nothing": (LOG.request(0, 8), 409),
    "old size too large": (LOG.request(6, 8), 409),
    "a smaller tree": (LOG.request(3, 4), 409),
    "an empty tree": (request_body(0, [], Checkpoint("log.example/datong", 0, EMPTY_ROOT).signed(LOG.signer)), 409),
    "another tree, its own proof": (OTHER_TREE.request(5, 8), 422),
    "another tree of the same size": (OTHER_TREE.request(5, 5), 422),
    "another tree of the same size with a proof": (request_body(5, [hash_leaf(b"")], OTHER_TREE.note(5)), 422),
    "the same tree with a proof": (request_body(5, [hash_leaf(b"")], LOG.note(5)), 422),
    "no proof": (request_body(5, [], LOG.note(8)), 422),
    "a short proof": (request_body(5, LOG.proof(5, 8)[:-1], LOG.note(8)), 422),
    "a long proof": (request_body(5, [*LOG.proof(5, 8), hash_leaf(b"")], LOG.note(8)), 422),
    "a proof in another order": (request_body(5, LOG.proof(5, 8)[::-1], LOG.note(8)), 422),
    "a proof for other sizes": (request_body(5, LOG.proof(5, 7), LOG.note(8)), 422),
}


@pytest.mark.parametrize("name", TABLE)
def test_each_request_has_its_status(witness: Witness, name: str) -> None:
    feed(witness, 3, 5)
    request, status = TABLE[name]
    before = witness.checkpoint(origin_hash("log.example/datong")).body
    answer = witness.add_checkpoint(request)
    assert answer.status == status
    if status == 409:
        assert (answer.body, answer.content_type) == ("5\n", "text/x.tlog.size")
        assert size_from_conflict(answer.body.encode()) == 5
    if status != 200:
        assert witness.checkpoint(origin_hash("log.example/datong")).body == before
        assert "—" not in answer.body
        feed_on = witness.add_checkpoint(LOG.request(5, 9))
        assert feed_on.status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (request_body(0, [], EMPTY), 422),
        (request_body(0, [hash_leaf(b"")], LOG.note(8)), 422),
        (LOG.request(3, 8), 409),
    ],
)
def test_a_log_that_was_never_cosigned(witness: Witness, request_: bytes, status: int) -> None:
    answer = witness.add_checkpoint(request_)
    assert answer.status == status
    if status == 409:
        assert answer.body == "0\n"
    assert witness.checkpoint(origin_hash("log.example/datong")).status == 404


GOOD = LOG.request(5, 8)
HASH = b64encode(bytes(32)) + b"\n"
MALFORMED = {
    "empty": b"",
    "no note": b"old 5\n\n",
    "no old size": GOOD.removeprefix(b"old 5\n"),
    "old size with a leading zero": GOOD.replace(b"old 5", b"old 05"),
    "old size with a sign": GOOD.replace(b"old 5", b"old +5"),
    "old size negative": GOOD.replace(b"old 5", b"old -5"),
    "old size in other digits": GOOD.replace(b"old 5", "old ５".encode()),
    "old size beyond 63 bits": GOOD.replace(b"old 5", b"old 9999999999999999999"),
    "old size with two spaces": GOOD.replace(b"old 5", b"old  5"),
    "carriage returns": GOOD.replace(b"\n", b"\r\n"),
    "a proof line that is no hash": GOOD.replace(b"old 5\n", b"old 5\nAAAA\n"),
    "a proof line that is not base64": GOOD.replace(b"old 5\n", b"old 5\n!!!!\n"),
    "64 proof lines": b"old 5\n" + HASH * 64 + b"\n" + LOG.note(8).encode(),
    "no last newline": GOOD[:-1],
    "no signature": GOOD[: GOOD.rindex(b"\n\n") + 1],
    "not UTF-8": GOOD.replace(b"log.example", b"log.\xff"),
    "size with a leading zero": GOOD.replace(b"\n8\n", b"\n08\n"),
    "a root of 31 bytes": GOOD.replace(b64encode(LOG.checkpoint(8).root), b64encode(bytes(31))),
    "too many signatures": GOOD + f"— s {b64encode(bytes(68)).decode()}\n".encode() * 64,
    "too long": GOOD + b"x" * MOST_BYTES,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_is_400(witness: Witness, name: str) -> None:
    feed(witness, 5)
    assert witness.add_checkpoint(MALFORMED[name]).status == 400


def test_the_request_of_the_specification_is_understood() -> None:
    hashes = [
        "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=",
        "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=",
        "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=",
        "/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=",
    ]
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa"
        " Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "— example.com/behind-the-sofa"
        " opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n"
    )
    body = "\n".join(["old 20852014", *hashes, "", note]).encode()
    request = AddCheckpoint.from_body(body)
    assert (request.old_size, request.checkpoint.size, len(request.proof)) == (20852014, 20852163, 4)
    assert request.checkpoint.origin == "example.com/behind-the-sofa"
    assert request.body == body


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_changed_request_gets_another_tree_cosigned(data: st.DataObject) -> None:
    """Whatever is done to the bytes: what is read of them is refused, or says what the good request says."""
    body = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        how = data.draw(st.sampled_from(["change", "cut", "double"]))
        if how == "change":
            body[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del body[at : at + data.draw(st.integers(1, 60))]
        else:
            body[at:at] = body[at : at + data.draw(st.integers(1, 60))]
        if not body:
            return
    try:
        request = AddCheckpoint.from_body(bytes(body))
        open_checkpoint(request.note, [LOG.signer.verifier])
    except (RequestError, NoteError):
        return
    assert request.checkpoint == LOG.checkpoint(8)


@pytest.mark.parametrize("body", [b"", b"5", b" 5\n", b"05\n", b"-1\n", b"x\n", b"5\n\n", b"9" * 40, b"\xff\n"])
def test_a_conflict_that_says_no_size_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        size_from_conflict(body)


def test_forks_and_smaller_trees_are_kept_as_evidence_and_told_once(witness: Witness, tmp_path: Path) -> None:
    feed(witness, 3, 5)
    attempts = [
        ("fork", OTHER_TREE.request(5, 5)),
        ("fork", OTHER_TREE.request(5, 5)),
        ("older", LOG.request(3, 4)),
        ("inconsistent", OTHER_TREE.request(5, 8)),
        ("inconsistent", request_body(5, [], LOG.note(8))),
    ]
    with capture_logs() as told:
        for _, request in attempts:
            assert witness.add_checkpoint(request).status in (409, 422)
        # Nothing wrong with these.
        assert witness.add_checkpoint(LOG.request(3, 8)).status == 409
        assert witness.add_checkpoint(request_body(5, [hash_leaf(b"")], LOG.note(5))).status == 422
    found = WitnessState(WitnessFolder(tmp_path).database).evidence()
    assert [(one.misconduct, one.size) for one in found] == [
        ("fork", 5),
        ("older", 4),
        ("inconsistent", 8),
        ("inconsistent", 8),
    ]
    assert [(one["kind"], one["log_level"]) for one in told if one["event"] == "witness.misconduct"] == [
        ("fork", "critical"),
        ("older", "warning"),
        ("inconsistent", "critical"),
        ("inconsistent", "critical"),
    ]
    # The two notes of a fork convict the log without anybody's word.
    fork = AddCheckpoint.from_body(found[0].request.encode())
    one = open_checkpoint(fork.note, [LOG.signer.verifier])
    two = open_checkpoint(found[0].cosigned, [LOG.signer.verifier])
    assert one.size == two.size
    assert one.root != two.root


def test_evidence_does_not_fill_the_disk(witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MOST_EVIDENCE", 3)
    feed(witness, 40)
    for size in range(1, 10):
        assert witness.add_checkpoint(LOG.request(0, size)).status == 409
    assert witness.add_checkpoint(OTHER_TREE.request(40, 40)).status == 422
    found = WitnessState(WitnessFolder(tmp_path).database).evidence()
    assert [one.misconduct for one in found] == ["older"] * 3 + ["fork"]


def test_the_time_of_cosignatures_never_runs_backwards(tmp_path: Path) -> None:
    clock = Clock(2000)
    witness, verifier = witness_in(tmp_path, VKEY, clock=clock), verifier_in(tmp_path)

    def at(old: int, size: int) -> int:
        return check_cosignatures(LOG.note(size) + witness.add_checkpoint(LOG.request(old, size)).body, [verifier])[
            verifier.name
        ]

    assert at(0, 3) == 2000
    clock.now = 1000.9
    assert at(3, 4) == 2000
    clock.now = 2001.9
    assert at(4, 4) == 2001


def test_a_witness_with_a_post_quantum_key(tmp_path: Path) -> None:
    cosigner = Cosigner.generate("w.example", ML_DSA_44)
    witness = witness_in(tmp_path, VKEY, cosigner=cosigner)
    answer = witness.add_checkpoint(LOG.request(0, 3))
    assert check_cosignatures(LOG.note(3) + answer.body, [cosigner.verifier])
    extended = LOG.signer.sign(LOG.checkpoint(4).text + "extension\n")
    assert witness.add_checkpoint(request_body(3, LOG.proof(3, 4), extended)).status == 400
    assert witness.add_checkpoint(LOG.request(3, 4)).status == 200


def test_extension_lines_of_other_logs_are_cosigned_with_the_rest(witness: Witness, tmp_path: Path) -> None:
    extended = LOG.signer.sign(LOG.checkpoint(4).text + "extension\n")
    answer = witness.add_checkpoint(request_body(0, [], extended))
    assert check_cosignatures(extended + answer.body, [verifier_in(tmp_path)])


def test_only_the_signatures_that_were_verified_are_shown(witness: Witness, tmp_path: Path) -> None:
    stranger = f"— stranger.example {b64encode(bytes(68)).decode()}\n"
    impostor = f"— log.example/datong {b64encode(bytes(68)).decode()}\n"
    answer = witness.add_checkpoint(LOG.request(0, 4) + (stranger + impostor).encode())
    assert witness.checkpoint(origin_hash("log.example/datong")).body == LOG.note(4) + answer.body


def test_logs_may_be_added_while_it_runs(tmp_path: Path) -> None:
    witness = witness_in(tmp_path)
    file = WitnessFolder(tmp_path).logs
    assert witness.add_checkpoint(LOG.request(0, 3)).status == 404
    file.write_text(f"# the mesh\n\n{VKEY}  # since May\n", encoding="utf-8")
    assert witness.add_checkpoint(LOG.request(0, 3)).status == 200
    with capture_logs() as told:
        file.write_text(f"{VKEY}\nnonsense\n", encoding="utf-8")
        # What was read before stays in force.
        assert witness.add_checkpoint(LOG.request(3, 4)).status == 200
        file.write_bytes(b"\xff\xfe")
        assert witness.add_checkpoint(LOG.request(4, 5)).status == 200
    reasons = [one["reason"] for one in told if one["event"] == "witness.logs_unreadable"]
    assert [reason.partition(":")[0] for reason in reasons] == ["logs.txt, line 2", "logs.txt is not UTF-8"]
    renewed = MemoryLog(NoteSigner.generate("log.example/datong"))
    file.write_text(f"{VKEY}\n{renewed.signer.verifier.vkey}\n", encoding="utf-8")
    assert witness.add_checkpoint(renewed.request(5, 8)).status == 200
    file.unlink()
    assert witness.add_checkpoint(LOG.request(8, 9)).status == 404


def test_known_logs_are_added_once(tmp_path: Path) -> None:
    logs = KnownLogs(tmp_path / "logs.txt")
    (tmp_path / "logs.txt").write_text("# no newline at the end", encoding="utf-8")
    for _ in range(2):
        logs.add([VKEY, UNKNOWN.signer.verifier.vkey, VKEY])
    assert (tmp_path / "logs.txt").read_text(encoding="utf-8").splitlines() == [
        "# no newline at the end",
        VKEY,
        UNKNOWN.signer.verifier.vkey,
    ]
    assert KnownLogs(tmp_path / "logs.txt").origins == ["log.example/datong", "elsewhere.example/log"]
    with pytest.raises(NoteError):
        logs.add(["nonsense"])


def test_a_key_is_made_once_and_kept_secret(tmp_path: Path) -> None:
    folder = WitnessFolder(tmp_path / "witness")
    with pytest.raises(NoteError, match="no name"):
        folder.cosigner()
    made = folder.cosigner("w.example")
    assert folder.key.stat().st_mode & 0o777 == 0o600
    assert folder.cosigner().verifier.vkey == folder.cosigner("w.example").verifier.vkey == made.verifier.vkey
    with pytest.raises(NoteError, match=r"w\.example"):
        folder.cosigner("other.example")
    folder.key.write_bytes(b"\xff")
    with pytest.raises(NoteError):
        folder.cosigner()


@pytest.mark.parametrize("when", ["before-commit", "after-commit"])
def test_a_kill_between_storing_and_answering_loses_nothing(tmp_path: Path, when: str) -> None:
    """The witness is killed by SIGKILL at that very point, and started again."""
    feed(witness_in(tmp_path, VKEY), 3)
    victim = subprocess.run(
        [sys.executable, "-m", "tests.exchange.witness_victim", str(tmp_path), when],
        input=LOG.request(3, 8),
        cwd=ROOT,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (victim.returncode, victim.stdout) == (-9, b""), victim.stderr.decode()
    witness = witness_in(tmp_path)
    if when == "before-commit":
        # It knows nothing of it, and the other tree is as good as this one: nothing was given out.
        assert witness.add_checkpoint(LOG.request(3, 8)).status == 200
        return
    # It may have been given out: the other tree is refused now, and the log gets its cosignature by asking again.
    assert witness.add_checkpoint(OTHER_TREE.request(3, 8)).status == 409
    assert witness.add_checkpoint(OTHER_TREE.request(8, 8)).status == 422
    assert witness.add_checkpoint(LOG.request(3, 8)).body == "8\n"
    answer = witness.add_checkpoint(LOG.request(8, 8))
    assert check_cosignatures(LOG.note(8) + answer.body, [verifier_in(tmp_path)])


def test_of_requests_at_once_none_rolls_back_another(tmp_path: Path) -> None:
    """Four threads, each with a connection of its own as processes have, ask for growing trees and see each other's sizes."""
    witness_in(tmp_path, VKEY)
    rounds, cosigned, faults = 30, list[tuple[int, int]](), list[BaseException]()
    turn = threading.Lock()

    def log(seed: int) -> None:
        chance, known = random.Random(seed), 0
        try:
            witness = witness_in(tmp_path)
            for _ in range(rounds):
                size = known + chance.randint(0, 3)
                answer = witness.add_checkpoint(LOG.request(known, size))
                if answer.status == 200:
                    with turn:
                        cosigned.append((known, size))
                    known = size
                else:
                    assert answer.status == 409
                    assert int(answer.body) != known
                    known = int(answer.body)
        except BaseException as error:  # noqa: BLE001  # raised again below, where the test sees it
            faults.append(error)

    threads = [threading.Thread(target=log, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    # Each cosignature began where the one before ended: in order of size they make one chain.
    chain = sorted(set(cosigned))
    grown = [(old, size) for old, size in chain if old != size]
    assert len(grown) > 3
    assert [old for old, _ in grown] == [0, *[size for _, size in grown[:-1]]]


def test_a_database_that_cannot_be_written_is_503_and_recovers(tmp_path: Path) -> None:
    witness = witness_in(tmp_path, VKEY)
    feed(witness, 3)
    database = WitnessFolder(tmp_path).database
    away = database.with_name("away")
    witness._state.close()
    database.rename(away)
    database.mkdir()
    assert witness.add_checkpoint(LOG.request(3, 5)).status == 503
    assert witness.checkpoint(origin_hash("log.example/datong")).status == 503
    database.rmdir()
    away.rename(database)
    assert witness.add_checkpoint(LOG.request(3, 5)).status == 200


def test_a_state_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    witness_in(tmp_path, VKEY).add_checkpoint(LOG.request(0, 3))
    with sqlite3.connect(WitnessFolder(tmp_path).database) as db:
        db.execute("PRAGMA user_version=2")
    db.close()
    with pytest.raises(StateError, match="newer"):
        WitnessState(WitnessFolder(tmp_path).database).latest("log.example/datong")


def test_a_witness_needs_neither_database_toolkit_nor_framework() -> None:
    """It is a small program: what it loads is what it can be attacked with."""
    program = (
        "import sys, exchange.witness.app, exchange.witness.folder\n"
        "print([name for name in ('sqlalchemy', 'alembic', 'fastapi', 'pydantic', 'httpx', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=os.environ,
    )
    assert done.stdout == "[]\n"
