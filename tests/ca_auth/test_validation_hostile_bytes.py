"""Damaged bytes: whatever is changed in a certificate, CRL or OCSP answer, the verdict is a refusal and never a crash."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from ca_auth import ChainRefusedError, PathPolicy, PathValidator, RevocationData, read_certificate_file
from tests.ca_auth.chain_kit import NOW, Holder, root

ROUNDS = 400
SEEDS = (1, 2)
Chain = tuple[bytes, bytes, bytes, bytes, bytes]


def changed(data: bytes, dice: random.Random) -> bytes:
    """The bytes with a few of them altered, left out or put in."""
    result = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        kind, place = dice.random(), dice.randrange(len(result))
        if kind < 0.6:
            result[place] = dice.choice((0, 0xFF, result[place] ^ 1 << dice.randrange(8), dice.randrange(256)))
        elif kind < 0.8:
            del result[place : place + dice.randrange(1, 5)]
        else:
            result[place:place] = dice.randbytes(dice.randrange(1, 5))
    return bytes(result)


def variants(data: bytes, seed: int) -> Iterator[bytes]:
    dice = random.Random(seed)  # it must repeat
    for _ in range(ROUNDS):
        other = changed(data, dice)
        if other != data:
            yield other


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Anchor, intermediate, leaf, the CRLs, and an OCSP answer about the leaf."""
    anchor = root(more=[(x509.NameConstraints([x509.DNSName("example")], None), True)])
    lower = anchor.sub_ca("lower", more=[(x509.PolicyConstraints(0, None), True), _policy()])
    leaf = lower.leaf(names=[x509.DNSName("a.example"), x509.RFC822Name("a@a.example")], more=[_policy()])
    return (
        *(_der(each) for each in (anchor, lower, leaf)),
        anchor.crl([anchor.leaf()]) + lower.crl([lower.leaf()]),
        lower.ocsp(leaf, lower),
    )


def test_the_chain_is_good_as_it_is(chain: Chain) -> None:
    anchor, lower, leaf, crls, answer = chain
    assert _accepted(anchor, leaf, lower, RevocationData.of([crls], [answer]))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("policy", [PathPolicy(), PathPolicy.rfc5280()], ids=["mesh", "rfc5280"])
def test_a_changed_leaf_or_intermediate_is_refused(chain: Chain, seed: int, policy: PathPolicy) -> None:
    anchor, lower, leaf, *_ = chain
    for other in variants(leaf, seed):
        assert not _accepted(anchor, other, lower, policy=policy)
    for other in variants(lower, seed):
        assert not _accepted(anchor, leaf, other, policy=policy)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_changed_anchor_crashes_nothing(chain: Chain, seed: int) -> None:
    """Its own signature does not count, so that some changes go unnoticed: it was to be trusted as it is."""
    anchor, lower, leaf, *_ = chain
    for other in variants(anchor, seed):
        _accepted(other, leaf, lower)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_changed_list_or_answer_is_not_believed(chain: Chain, seed: int) -> None:
    anchor, lower, leaf, crls, answer = chain
    signed = ocsp.load_der_ocsp_response(answer).tbs_response_bytes
    for other in variants(crls, seed):
        assert not _accepted(anchor, leaf, lower, _data(crl=other))
    for other in variants(answer, seed):
        if _accepted(anchor, leaf, lower, _data(ocsp=other), policy=PathPolicy.rfc5280()):
            # The name of the algorithm stands outside what is signed, and has spare bits.
            assert ocsp.load_der_ocsp_response(other).tbs_response_bytes == signed


def test_random_bytes_are_no_certificate_file() -> None:
    dice = random.Random(3)  # it must repeat
    for _ in range(ROUNDS):
        data = dice.choice((b"", b"\x30", b"-----BEGIN CERTIFICATE-----\n")) + dice.randbytes(dice.randrange(60))
        try:
            found = read_certificate_file(data)
        except ValueError:
            continue
        assert all(each.defect for each in found)


def _policy() -> tuple[x509.ExtensionType, bool]:
    return x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.1"), None)]), False


def _der(holder: Holder) -> bytes:
    return holder.certificate.public_bytes(Encoding.DER)


def _data(*, crl: bytes | None = None, ocsp: bytes | None = None) -> RevocationData | None:
    """None stands for bytes that nobody would take for a CRL or answer."""
    try:
        return RevocationData.of([crl] if crl else [], [ocsp] if ocsp else [])
    except ValueError:
        return RevocationData()


def _accepted(
    anchor: bytes, leaf: bytes, lower: bytes, data: RevocationData | None = None, policy: PathPolicy | None = None
) -> bool:
    try:
        PathValidator([anchor], revocation=data, policy=policy).validate(leaf, [lower], NOW)
    except ChainRefusedError:
        return False
    return True
