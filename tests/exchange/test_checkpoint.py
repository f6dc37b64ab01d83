"""Notes, checkpoints and log proofs against the examples of their specifications and against every change of a byte."""

from __future__ import annotations

import pytest

from exchange.transparency.checkpoint import (
    Checkpoint,
    NoteError,
    NoteSigner,
    NoteVerifier,
    TlogProof,
    open_checkpoint,
    open_note,
)
from exchange.transparency.merkle import hash_leaf

# The worked example of c2sp.org/signed-note.
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)


@pytest.fixture(scope="module")
def signer() -> NoteSigner:
    return NoteSigner.generate("log.example/datong")


@pytest.fixture(scope="module")
def note(signer: NoteSigner) -> str:
    return Checkpoint("log.example/datong", 109482, hash_leaf(b"root")).signed(signer)


def test_the_example_of_the_specification_opens_with_its_key() -> None:
    verifier = NoteVerifier.from_vkey(VKEY)
    assert verifier.vkey == VKEY
    assert open_note(NOTE, [verifier]) == ("This is an example message.\n", ["example.com/foo"])


def test_a_signer_key_survives_its_text_form(signer: NoteSigner) -> None:
    again = NoteSigner.from_skey(signer.skey + "\n")
    assert again.verifier.vkey == signer.verifier.vkey
    assert again.sign("text\n") == signer.sign("text\n")
    assert signer.skey.split("+")[4] not in repr(signer)


def test_a_checkpoint_survives_signing_and_opening(signer: NoteSigner, note: str) -> None:
    checkpoint = open_checkpoint(note, [signer.verifier])
    assert checkpoint == Checkpoint("log.example/datong", 109482, hash_leaf(b"root"))


def test_any_changed_byte_of_a_checkpoint_is_refused(signer: NoteSigner, note: str) -> None:
    data = note.encode()
    for position in range(len(data)):
        for bit in (1, 128):
            changed = data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :]
            with pytest.raises((NoteError, UnicodeDecodeError)):
                open_checkpoint(changed.decode(), [signer.verifier])


def test_signatures_of_strangers_count_for_nothing(signer: NoteSigner, note: str) -> None:
    stranger = NoteSigner.generate("log.example/datong")
    with pytest.raises(NoteError):
        open_checkpoint(note, [stranger.verifier])
    witnessed = note + stranger.sign(note.split("\n\n")[0] + "\n").split("\n\n")[1]
    assert open_checkpoint(witnessed, [signer.verifier]).size == 109482
    assert open_note(witnessed, [signer.verifier, stranger.verifier])[1] == ["log.example/datong"] * 2


def test_a_bad_signature_of_a_known_key_spoils_the_note(signer: NoteSigner, note: str) -> None:
    witness = NoteSigner.generate("witness.example")
    forged = note + witness.sign("something else\n").split("\n\n")[1]
    with pytest.raises(NoteError):
        open_checkpoint(forged, [signer.verifier, witness.verifier])


def test_a_witness_alone_does_not_make_a_checkpoint(signer: NoteSigner) -> None:
    witness = NoteSigner.generate("witness.example")
    note = witness.sign(Checkpoint("log.example/datong", 1, hash_leaf(b"")).text)
    with pytest.raises(NoteError):
        open_checkpoint(note, [signer.verifier, witness.verifier])


@pytest.mark.parametrize(
    "text",
    ["", "o\n1\n", "\n1\n{root}\n", "o\n01\n{root}\n", "o\n-1\n{root}\n", "o\n1\n{root}\nextension\n", "o\n1\nAAAA\n"],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.from_text(text.format(root="q6yroAAAAAAAAAAAAAAAAAAAAAAAAAAAAGAGHgASNFY="))


@pytest.mark.parametrize(
    "vkey",
    ["", "name", "name+00000000+AA==", VKEY[:-1] + "l", VKEY.replace("530d903a", "530d903b"), VKEY.replace("Ae", "Be")],
)
def test_what_is_not_a_key_is_refused(vkey: str) -> None:
    with pytest.raises(NoteError):
        NoteVerifier.from_vkey(vkey)
    with pytest.raises(NoteError):
        NoteSigner.from_skey(vkey)
    with pytest.raises(NoteError):
        NoteSigner.generate("two words")


def test_a_log_proof_survives_its_text_form(note: str) -> None:
    for extra in (b"", b"extra"):
        proof = TlogProof(7, (hash_leaf(b"a"), hash_leaf(b"b")), note, extra)
        assert TlogProof.from_text(proof.text) == proof
    assert TlogProof.from_text(TlogProof(0, (), note).text).hashes == ()


@pytest.mark.parametrize(
    "change",
    [
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("index 7", "index 07"),
        ("index 7", "index +7"),
        ("index 7\n", ""),
        ("=\n", "\n"),
        ("\n\n", "\n"),
    ],
)
def test_what_is_not_a_log_proof_is_refused(note: str, change: tuple[str, str]) -> None:
    text = TlogProof(7, (hash_leaf(b"a"), hash_leaf(b"b")), note).text
    with pytest.raises(NoteError):
        TlogProof.from_text(text.replace(*change, 1) if change[0] != "\n\n" else text.replace(*change))
