"""Seals: one signature for many statements, and none of them worth less for it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.signatures import seal as seal_module
from exchange.signatures.seal import (
    ANSWER_CONTEXT,
    MAX_BATCH,
    QUERY_CONTEXT,
    PrivateKey,
    SealError,
    SealVerifier,
    check_seal,
    open_seal,
    seal_all,
)

KEY = ec.generate_private_key(ec.SECP256R1())
KEYS: list[PrivateKey] = [KEY, ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()]


def statements(count: int) -> list[bytes]:
    return [b"statement %d" % number for number in range(count)]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, MAX_BATCH])
def test_every_statement_of_a_batch_has_a_seal_of_its_own(key: PrivateKey, count: int) -> None:
    said = statements(count)
    seals = seal_all(key, QUERY_CONTEXT, said)
    for number in {0, 1 % count, count // 2, count - 1}:
        check_seal(key.public_key(), QUERY_CONTEXT, seals[number], said[number])
        with pytest.raises(SealError):
            check_seal(key.public_key(), QUERY_CONTEXT, seals[number], said[number] + b".")
        if count > 1:
            with pytest.raises(SealError):
                check_seal(key.public_key(), QUERY_CONTEXT, seals[number], said[(number + 1) % count])


def test_a_seal_counts_for_one_context_and_one_key_only() -> None:
    [seal] = seal_all(KEY, QUERY_CONTEXT, [b"statement"])
    with pytest.raises(SealError):
        check_seal(KEY.public_key(), ANSWER_CONTEXT, seal, b"statement")
    for other in KEYS[1:]:
        with pytest.raises(SealError):
            check_seal(other.public_key(), QUERY_CONTEXT, seal, b"statement")


# Ed25519, whose signatures are of one length: the search wants seals that are the same each time.
@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 40), data=st.data())
def test_a_seal_with_any_byte_changed_is_refused(count: int, data: st.DataObject) -> None:
    said = statements(count)
    number = data.draw(st.integers(0, count - 1))
    seal = seal_all(KEYS[2], QUERY_CONTEXT, said)[number]
    position = data.draw(st.integers(0, len(seal) - 1))
    changed = seal[:position] + bytes([seal[position] ^ data.draw(st.integers(1, 255))]) + seal[position + 1 :]
    if 1 <= position <= 4:
        # Index and size only say how to walk the path: where others lead the same way, the same is proven.
        with suppress(SealError):
            assert open_seal(changed, said[number]) == open_seal(seal, said[number])
            return
    with pytest.raises(SealError):
        check_seal(KEYS[2].public_key(), QUERY_CONTEXT, changed, said[number])


@given(st.binary(max_size=300))
def test_what_is_not_a_seal_is_refused(garbage: bytes) -> None:
    with pytest.raises(SealError):
        check_seal(KEY.public_key(), QUERY_CONTEXT, garbage, b"statement")


def test_a_seal_that_is_cut_or_longer_is_refused() -> None:
    seal = seal_all(KEY, QUERY_CONTEXT, statements(5))[2]
    for changed in (b"", seal[:5], seal[:-1], seal[:-32], seal + b"x", seal + seal[-32:]):
        with pytest.raises(SealError):
            check_seal(KEY.public_key(), QUERY_CONTEXT, changed, b"statement 2")


def test_a_verified_root_vouches_for_its_other_leaves_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []

    def count(key: object, signature: bytes, message: bytes) -> None:
        checked.append(message)
        original(key, signature, message)  # type: ignore[arg-type]

    original = seal_module.check_signature
    monkeypatch.setattr(seal_module, "check_signature", count)
    verifier = SealVerifier(QUERY_CONTEXT, remember=2)
    said = statements(20)
    seals = seal_all(KEY, QUERY_CONTEXT, said)
    for seal, one in zip(seals, said, strict=True):
        verifier.check("signer", KEY.public_key(), seal, one)
    assert len(checked) == 1
    # The same root under another name of the signer is another matter.
    other = KEYS[1].public_key()
    with pytest.raises(SealError):
        verifier.check("other", other, seals[0], said[0])
    with pytest.raises(SealError):
        verifier.check("signer", KEY.public_key(), seals[0], b"another")
    # What is remembered is bounded.
    for number in range(3):
        [seal] = seal_all(KEY, QUERY_CONTEXT, [b"%d" % number])
        verifier.check("signer", KEY.public_key(), seal, b"%d" % number)
    before = len(checked)
    verifier.check("signer", KEY.public_key(), seals[0], said[0])
    assert len(checked) == before + 1
