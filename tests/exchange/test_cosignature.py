"""Cosignatures of witnesses against the words of their specification, and against every change of a byte."""

from __future__ import annotations

import hashlib
import struct
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from exchange.transparency.checkpoint import Checkpoint, NoteError, NoteSigner, open_checkpoint
from exchange.transparency.cosignature import (
    ED25519,
    ML_DSA_44,
    CosignatureVerifier,
    Cosigner,
    check_cosignatures,
    read_checkpoint,
)
from exchange.transparency.merkle import hash_leaf

ORIGIN, NAME, AT = "log.example/datong", "audit.example/w1", 1_679_315_147
CHECKPOINT = Checkpoint(ORIGIN, 20852163, hash_leaf(b"root"))


@pytest.fixture(params=[ED25519, ML_DSA_44], ids=["ed25519", "ml-dsa-44"], scope="module")
def witness(request: pytest.FixtureRequest) -> Cosigner:
    return Cosigner.generate(NAME, request.param)


@pytest.fixture(scope="module")
def signer() -> NoteSigner:
    return NoteSigner.generate(ORIGIN)


def parts(line: str) -> tuple[bytes, bytes]:
    """Key id and signature of a line."""
    dash, name, encoded = line.removesuffix("\n").split(" ")
    assert (dash, name) == ("—", NAME)
    data = b64decode(encoded)
    return data[:4], data[4:]


def test_an_ed25519_line_is_made_as_the_specification_says() -> None:
    secret = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = secret.public_key().public_bytes_raw()
    key_id = hashlib.sha256(NAME.encode() + b"\n\x04" + public).digest()[:4]
    witness = Cosigner.from_skey(f"PRIVATE+KEY+{NAME}+{key_id.hex()}+{b64encode(bytes([4, *range(32)])).decode()}")
    assert witness.verifier.vkey == f"{NAME}+{key_id.hex()}+{b64encode(bytes([4]) + public).decode()}"
    text = f"cosignature/v1\ntime {AT}\n{CHECKPOINT.text}"
    blob = key_id + struct.pack(">Q", AT) + secret.sign(text.encode())
    assert witness.cosign(CHECKPOINT.text, AT) == f"— {NAME} {b64encode(blob).decode()}\n"


def test_an_ml_dsa_44_line_signs_the_structure_of_the_specification() -> None:
    witness = Cosigner.generate(NAME, ML_DSA_44)
    key = MLDSA44PublicKey.from_public_bytes(witness.verifier.public_key)
    key_id, signature = parts(witness.cosign(CHECKPOINT.text, AT))
    assert key_id == hashlib.sha256(NAME.encode() + b"\n\x06" + witness.verifier.public_key).digest()[:4]
    assert len(signature) == 8 + 2420
    message = b"subtree/v1\n\0" + bytes([len(NAME)]) + NAME.encode() + struct.pack(">Q", AT)
    message += bytes([len(ORIGIN)]) + ORIGIN.encode() + struct.pack(">QQ", 0, 20852163) + CHECKPOINT.root
    key.verify(signature[8:], message)


def test_keys_survive_their_text_forms(witness: Cosigner) -> None:
    again = Cosigner.from_skey(witness.skey + "\n")
    assert again.verifier.vkey == witness.verifier.vkey
    assert CosignatureVerifier.from_vkey(witness.verifier.vkey).public_key == witness.verifier.public_key
    assert witness.skey.split("+")[4] not in repr(witness)
    _, signature = parts(again.cosign(CHECKPOINT.text, AT))
    assert witness.verifier.check(signature, CHECKPOINT.text) == AT


def test_any_changed_bit_of_time_signature_or_checkpoint_is_refused(witness: Cosigner) -> None:
    _, signature = parts(witness.cosign(CHECKPOINT.text, AT))
    step = 1 if len(signature) < 100 else 37
    for position in [*range(8), *range(8, len(signature), step), len(signature) - 1]:
        changed = bytearray(signature)
        changed[position] ^= 1 << position % 8
        with pytest.raises(NoteError):
            witness.verifier.check(bytes(changed), CHECKPOINT.text)
    for other in (Checkpoint("x" + ORIGIN, 20852163, CHECKPOINT.root), Checkpoint(ORIGIN, 20852162, CHECKPOINT.root)):
        with pytest.raises(NoteError):
            witness.verifier.check(signature, other.text)
    for wrong_length in (signature[:-1], signature + b"\0", signature[:8], b""):
        with pytest.raises(NoteError):
            witness.verifier.check(wrong_length, CHECKPOINT.text)


@pytest.mark.parametrize("at", [0, -1, 1 << 63])
def test_a_cosignature_says_when(witness: Cosigner, at: int) -> None:
    with pytest.raises(NoteError):
        witness.cosign(CHECKPOINT.text, at)


def test_a_signature_over_no_time_is_refused() -> None:
    secret = Ed25519PrivateKey.generate()
    verifier = CosignatureVerifier(NAME, b"1234", ED25519, secret.public_key())
    for at in (0, 1 << 63):
        signature = struct.pack(">Q", at) + secret.sign(f"cosignature/v1\ntime {at}\n{CHECKPOINT.text}".encode())
        with pytest.raises(NoteError):
            verifier.check(signature, CHECKPOINT.text)


def test_a_note_tells_which_witnesses_cosigned(signer: NoteSigner, witness: Cosigner) -> None:
    note, second = CHECKPOINT.signed(signer), Cosigner.generate("bureau.example/w2")
    verifiers = [witness.verifier, second.verifier]
    assert check_cosignatures(note, verifiers) == {}
    cosigned = note + witness.cosign(CHECKPOINT.text, AT + 9) + witness.cosign(CHECKPOINT.text, AT)
    assert check_cosignatures(cosigned, verifiers) == {NAME: AT}
    both = cosigned + second.cosign(CHECKPOINT.text, AT + 1)
    assert check_cosignatures(both, verifiers) == {NAME: AT, "bureau.example/w2": AT + 1}
    assert check_cosignatures(both, [second.verifier]) == {"bureau.example/w2": AT + 1}
    # To the log's own verification the lines are those of strangers.
    assert open_checkpoint(both, [signer.verifier]) == CHECKPOINT


def test_a_stranger_under_the_name_of_a_witness_counts_for_nothing(signer: NoteSigner, witness: Cosigner) -> None:
    stranger = Cosigner.generate(NAME)
    note = CHECKPOINT.signed(signer) + stranger.cosign(CHECKPOINT.text, AT)
    assert check_cosignatures(note, [witness.verifier]) == {}


def test_a_line_of_a_known_key_that_does_not_verify_spoils_the_note(signer: NoteSigner, witness: Cosigner) -> None:
    elsewhere = Checkpoint(ORIGIN, 20852163, hash_leaf(b"another root"))
    note = CHECKPOINT.signed(signer) + witness.cosign(elsewhere.text, AT)
    with pytest.raises(NoteError, match="does not verify"):
        check_cosignatures(note, [witness.verifier])


def test_the_plain_signature_of_a_witness_key_is_no_cosignature(signer: NoteSigner) -> None:
    """Type 1 and type 4 keys have other ids, and other bytes under the signature."""
    plain = NoteSigner.generate(NAME)
    key = Ed25519PublicKey.from_public_bytes(plain.verifier.public_key)
    note = CHECKPOINT.signed(signer)
    signature = CHECKPOINT.signed(plain).split("\n\n")[1]
    encoded = b64encode(b"\x04" + key.public_bytes_raw()).decode()
    key_id = hashlib.sha256(NAME.encode() + b"\n\x04" + key.public_bytes_raw()).hexdigest()[:8]
    verifier = CosignatureVerifier.from_vkey(f"{NAME}+{key_id}+{encoded}")
    assert check_cosignatures(note + signature, [verifier]) == {}
    with pytest.raises(NoteError):
        CosignatureVerifier.from_vkey(plain.verifier.vkey)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u3000b", "a\nb", "a\x00b", "x" * 256])
def test_names_that_would_break_a_line_are_refused(name: str) -> None:
    with pytest.raises(NoteError):
        Cosigner.generate(name)


def test_texts_that_are_no_keys_are_refused(witness: Cosigner) -> None:
    vkey, skey = witness.verifier.vkey, witness.skey
    name, key_id, key = vkey.split("+", 2)
    other_id = f"{int(key_id, 16) ^ 1:08x}"
    bad = ["", "+", name, f"{name}+{key_id}", f"{name}+{other_id}+{key}", f"x{vkey}", vkey + "=", vkey + " ", vkey[:-4]]
    for text in [*bad, f"{name}+{key_id.upper()}x+{key}"]:
        with pytest.raises(NoteError):
            CosignatureVerifier.from_vkey(text)
    for text in ["", vkey, skey.replace("PRIVATE", "PUBLIC"), skey.replace(key_id, other_id), skey[:-4], skey + "AAAA"]:
        with pytest.raises(NoteError):
            Cosigner.from_skey(text)


def test_extension_lines_are_covered_or_refused() -> None:
    text = CHECKPOINT.text + "extension of a log elsewhere\n"
    assert read_checkpoint(text) == CHECKPOINT
    ed25519, ml_dsa = Cosigner.generate(NAME), Cosigner.generate(NAME, ML_DSA_44)
    _, signature = parts(ed25519.cosign(text, AT))
    assert ed25519.verifier.check(signature, text) == AT
    with pytest.raises(NoteError):
        ed25519.verifier.check(signature, CHECKPOINT.text)
    with pytest.raises(NoteError):
        ml_dsa.cosign(text, AT)
    for bad in (text + "\n", text[:-1], text.replace(ORIGIN, ""), text.replace("20852163", "020852163")):
        with pytest.raises(NoteError):
            read_checkpoint(bad)
