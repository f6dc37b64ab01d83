"""Revocations and CRLs: nothing forgotten, numbers that only rise, also when the CA itself was restored from a copy."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca_auth import (
    REASONS,
    CaOperationError,
    CrlKeeper,
    CrlRow,
    Issued,
    IssuingCA,
    OfflineRoot,
    SigningKeyError,
    ca_signing_request,
    create_ca,
    import_upstream_crl,
    install_certificate,
    load_crls,
)
from ca_auth.issuing.ca_certificates import number_of
from ca_auth.issuing.ca_errors import EnrolmentRefusedError
from exchange import UnprocessableError
from tests.ca_auth.issuing_world import (
    DAY,
    PASSPHRASE,
    REQUEST,
    Clock,
    csr_for,
    make_ca,
    new_key,
    openssl,
    pem,
    verdict_of_openssl,
)
from tests.waiting import until


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ca(tmp_path: Path, clock: Clock) -> Iterator[IssuingCA]:
    opened = make_ca(tmp_path / "ca", clock)
    yield opened
    opened.close()


def issue(ca: IssuingCA, **options: Any) -> Issued:
    return ca.issue(REQUEST, new_key().public_key(), by="test", **options)


def listed(row: CrlRow) -> set[str]:
    return {f"{each.serial_number:x}" for each in x509.load_der_x509_crl(row.der)}


def at(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock(), UTC)


def test_openssl_refuses_what_was_revoked_and_verifies_the_crl(ca: IssuingCA, clock: Clock, tmp_path: Path) -> None:
    good, bad = issue(ca), issue(ca)
    ca.revocations.revoke([bad.row], "keyCompromise", by="test", why="lost")
    assert verdict_of_openssl(ca, pem(good.certificate), tmp_path, at=clock()) == "OK"
    assert "certificate revoked" in verdict_of_openssl(ca, pem(bad.certificate), tmp_path, at=clock())
    (tmp_path / "issuing.pem").write_bytes(pem(ca.certificate))
    done = openssl(
        "crl", "-inform", "DER", "-in", ca.folder.crl, "-noout", "-CAfile", tmp_path / "issuing.pem", "-text"
    )
    assert "verify OK" in done.stderr + done.stdout
    assert "Key Compromise" in done.stdout
    assert "CRL Number" in done.stdout


@pytest.mark.parametrize("reason", REASONS)
def test_a_crl_says_why(ca: IssuingCA, reason: str) -> None:
    row = issue(ca).row
    ca.revocations.revoke([row], reason, by="test")  # type: ignore[arg-type]  # of REASONS
    (entry,) = x509.load_der_x509_crl(ca.revocations.current().der)
    if reason == "unspecified":
        assert not list(entry.extensions)
    else:
        assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value == reason


def test_revoking_twice_changes_nothing(ca: IssuingCA) -> None:
    row = issue(ca).row
    assert ca.revocations.revoke([row], "superseded", by="a")
    number = ca.revocations.current().number
    assert not ca.revocations.revoke([row], "keyCompromise", by="b")
    assert ca.revocations.current().number == number
    stored = ca.store.certificate(row.serial)
    assert stored is not None
    assert stored.reason == "superseded"


def test_a_stolen_key_takes_with_it_what_was_renewed_with_it(ca: IssuingCA) -> None:
    first = issue(ca)
    second = ca.renew(first.row.der, csr_for(new_key()))
    key = new_key()
    third = ca.renew(second.row.der, csr_for(key))
    beside = issue(ca)
    revoked = ca.revocations.revoke([first.row], "keyCompromise", by="test")
    assert {row.serial for row in revoked} == {first.row.serial, second.row.serial, third.row.serial}
    assert beside.row.serial not in listed(ca.revocations.current())
    with pytest.raises(UnprocessableError):
        ca.issue(REQUEST, key.public_key(), by="test")  # a key that is known to others stays that


def test_what_was_superseded_leaves_its_successor_alone(ca: IssuingCA) -> None:
    first = issue(ca)
    second = ca.renew(first.row.der, csr_for(new_key()))
    assert [row.serial for row in ca.revocations.revoke([first.row], "superseded", by="test")] == [first.row.serial]
    assert second.row.serial not in listed(ca.revocations.current())


def test_a_spent_code_whose_certificate_was_revoked_gives_nothing(ca: IssuingCA) -> None:
    code, _ = ca.new_code(REQUEST, by="test")
    key = new_key()
    issued = ca.enrol(code, csr_for(key))
    ca.revocations.revoke([issued.row], "superseded", by="test")
    with pytest.raises(EnrolmentRefusedError) as error:
        ca.enrol(code, csr_for(key))
    assert error.value.rule == "certificate-revoked"


def test_crl_numbers_rise_within_one_instant(ca: IssuingCA) -> None:
    numbers = [ca.revocations.new().number for _ in range(5)]
    assert numbers == sorted(set(numbers))


def test_crl_numbers_rise_after_a_restore_from_an_old_copy(ca: IssuingCA, clock: Clock, tmp_path: Path) -> None:
    ca.revocations.new()
    ca.close()
    shutil.copytree(ca.folder.path, tmp_path / "copy")
    later = IssuingCA.open(ca.folder.path, clock=clock)
    for _ in range(30):
        clock.now += 1
        last = later.revocations.new()
    later.close()
    clock.now += 1
    restored = IssuingCA.open(tmp_path / "copy", clock=clock)
    assert restored.revocations.new().number > last.number
    restored.close()


def test_a_restored_ca_takes_over_what_an_earlier_crl_listed(ca: IssuingCA, clock: Clock, tmp_path: Path) -> None:
    ca.close()
    shutil.copytree(ca.folder.path, tmp_path / "copy")
    later = IssuingCA.open(ca.folder.path, clock=clock)
    lost = [issue(later), issue(later)]
    later.revocations.revoke([lost[0].row], "keyCompromise", by="test")
    earlier = x509.load_der_x509_crl(later.revocations.current().der)
    later.close()
    restored = IssuingCA.open(tmp_path / "copy", clock=clock)
    assert restored.revocations.merge(earlier, by="test") == 1
    assert restored.revocations.merge(earlier, by="test") == 0
    assert restored.revocations.revoke_unknown(lost[1].certificate, "superseded", by="test")
    assert not restored.revocations.revoke_unknown(lost[1].certificate, "superseded", by="test")
    current = restored.revocations.current()
    assert listed(current) == {each.row.serial for each in lost}
    assert current.number > number_of(earlier)
    other = make_ca(tmp_path / "other", clock)
    with pytest.raises(CaOperationError):
        restored.revocations.merge(x509.load_der_x509_crl(other.revocations.current().der), by="test")
    with pytest.raises(CaOperationError):
        restored.revocations.revoke_unknown(issue(other).certificate, "superseded", by="test")
    other.close()
    restored.close()


def test_an_entry_leaves_the_crl_after_one_that_was_made_past_the_end(ca: IssuingCA, clock: Clock) -> None:
    row = issue(ca, days=5).row
    ca.revocations.revoke([row], "superseded", by="test")
    clock.pass_days(4)
    assert listed(ca.revocations.new()) == {row.serial}
    clock.pass_days(30)  # nobody made a CRL in the meantime
    assert listed(ca.revocations.new()) == {row.serial}
    assert listed(ca.revocations.new()) == set()


def test_a_crl_is_made_anew_at_half_its_time_and_not_before(ca: IssuingCA, clock: Clock) -> None:
    first = ca.revocations.current()
    assert first.next_update - first.this_update == 7 * DAY
    clock.pass_days(3.4)
    assert ca.revocations.current() == first
    clock.pass_days(0.2)
    second = ca.revocations.current()
    assert second.number > first.number
    assert ca.folder.crl.read_bytes() == second.der


def test_next_update_is_chosen_within_bounds(ca: IssuingCA, clock: Clock) -> None:
    row = ca.revocations.new(next_update=timedelta(hours=12))
    assert row.next_update == clock() + DAY / 2
    for wrong in (timedelta(0), timedelta(days=31)):
        with pytest.raises(CaOperationError):
            ca.revocations.new(next_update=wrong)


def test_a_lost_crl_file_is_written_again(ca: IssuingCA) -> None:
    row = ca.revocations.current()
    ca.folder.crl.unlink()
    assert ca.revocations.current() == row
    assert ca.folder.crl.read_bytes() == row.der


class _TokenAway(ec.EllipticCurvePrivateKey):
    """The CA's key while its token is not there: what a session that broke looks like from here."""

    def __init__(self, public: ec.EllipticCurvePublicKey) -> None:
        self._public = public

    curve = ec.SECP256R1()
    key_size = 256

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(self, data: object, signature_algorithm: object) -> bytes:
        raise SigningKeyError

    def exchange(self, algorithm: object, peer_public_key: object) -> bytes:
        raise SigningKeyError

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        raise SigningKeyError

    def private_bytes(self, *arguments: object) -> bytes:
        raise SigningKeyError

    def __copy__(self) -> _TokenAway:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> _TokenAway:
        return self


def test_a_revocation_holds_although_the_crl_could_not_be_made(ca: IssuingCA, clock: Clock) -> None:
    """The token is away: what was revoked is on disk, and the next CRL lists it although the last is fresh."""
    issued = issue(ca)
    before = ca.revocations.current()
    away = _TokenAway(ca.folder.public_key())
    away_ca = IssuingCA(ca.folder, ca.settings, ca.chain, away, ca.store, clock)
    with pytest.raises(SigningKeyError):
        away_ca.revocations.revoke([issued.row], "keyCompromise", by="test")
    stored = ca.store.certificate(issued.row.serial)
    assert stored is not None
    assert stored.state(clock()) == "revoked"
    after = ca.revocations.current()
    assert after.number > before.number
    assert listed(after) == {issued.row.serial}


def test_a_code_is_not_spent_when_signing_fails(ca: IssuingCA, clock: Clock) -> None:
    code, row = ca.new_code(REQUEST, by="test")
    away = IssuingCA(ca.folder, ca.settings, ca.chain, _TokenAway(ca.folder.public_key()), ca.store, clock)
    with pytest.raises(SigningKeyError):
        away.enrol(code, csr_for(new_key()))
    stored = ca.store.code(row.name)
    assert stored is not None
    assert stored.state(clock()) == "open"
    assert ca.store.certificates() == []


async def test_the_keeper_makes_crls_in_time(ca: IssuingCA, clock: Clock) -> None:
    first = ca.revocations.current()
    task = asyncio.create_task(CrlKeeper(ca, clock=clock, look_every=0.01).run())
    clock.pass_days(4)
    await until(lambda: (ca.store.latest_crl() or first).number > first.number)
    with ca.store.writing():
        pass  # nothing is left open between two looks
    task.cancel()


# The root


def test_the_root_cannot_be_used_without_its_passphrase(ca: IssuingCA) -> None:
    folder = ca.folder
    for wrong in (None, b"", b"not the passphrase"):
        with pytest.raises(CaOperationError) as error:
            OfflineRoot.open(folder.root_certificate, folder.root_key, wrong)
        assert error.value.rule == "ca-key"
    OfflineRoot.open(folder.root_certificate, folder.root_key, PASSPHRASE)


def test_the_issuing_ca_works_when_the_root_key_is_gone(ca: IssuingCA, clock: Clock) -> None:
    ca.close()
    shutil.rmtree(ca.folder.root_key.parent)
    again = IssuingCA.open(ca.folder.path, clock=clock)
    issue(again)
    again.close()


def test_a_root_that_revokes_the_issuing_ca_ends_its_certificates(ca: IssuingCA, clock: Clock, tmp_path: Path) -> None:
    issued = issue(ca)
    root = OfflineRoot.open(ca.folder.root_certificate, ca.folder.root_key, PASSPHRASE)
    (last,) = load_crls(ca.revocations.upstream())
    made = root.crl(last, [(ca.certificate, "keyCompromise")], at(clock), 365)
    assert number_of(made) > number_of(last)
    import_upstream_crl(ca.folder, made)
    assert "certificate revoked" in verdict_of_openssl(ca, pem(issued.certificate), tmp_path, at=clock())
    carried = root.crl(made, [], at(clock), 365)
    assert [each.serial_number for each in carried] == [ca.certificate.serial_number]
    with pytest.raises(CaOperationError):
        import_upstream_crl(ca.folder, last)  # an older one would undo it
    with pytest.raises(CaOperationError):
        import_upstream_crl(ca.folder, x509.load_der_x509_crl(ca.revocations.current().der))
    with pytest.raises(CaOperationError):
        root.crl(last, [(issued.certificate, "superseded")], at(clock), 365)


def test_an_existing_root_is_joined_and_the_issuing_certificate_renewed(
    ca: IssuingCA, clock: Clock, tmp_path: Path
) -> None:
    root = OfflineRoot.open(ca.folder.root_certificate, ca.folder.root_key, PASSPHRASE)
    joined = create_ca(tmp_path / "joined", name="区级 CA", organization="", now=at(clock), root_passphrase=None)
    with pytest.raises(CaOperationError) as error:
        IssuingCA.open(joined.path, clock=clock)
    assert error.value.rule == "ca-not-installed"
    request = x509.load_pem_x509_csr(ca_signing_request(joined, name="区级 CA"))
    signed = root.sign(request, at(clock), 1825)
    with pytest.raises(CaOperationError):
        install_certificate(joined, pem(ca.certificate), pem(root.certificate), at(clock))  # of another CA
    with pytest.raises(CaOperationError):
        install_certificate(joined, pem(signed), pem(signed), at(clock))  # not a root
    install_certificate(joined, pem(signed), pem(root.certificate), at(clock))
    import_upstream_crl(joined, root.crl(load_crls(ca.revocations.upstream())[0], [], at(clock), 365))
    opened = IssuingCA.open(joined.path, clock=clock)
    issued = issue(opened)
    assert verdict_of_openssl(opened, pem(issued.certificate), tmp_path, at=clock()) == "OK"
    opened.close()
    clock.pass_days(1000)
    renewed = root.sign(x509.load_pem_x509_csr(ca_signing_request(joined)), at(clock), 1825)
    install_certificate(joined, pem(renewed), pem(root.certificate), at(clock))
    again = IssuingCA.open(joined.path, clock=clock)
    assert again.certificate == renewed
    assert again.store.certificate(issued.row.serial) is not None
    again.close()
    other = make_ca(tmp_path / "other", clock)
    elsewhere = OfflineRoot.open(other.folder.root_certificate, other.folder.root_key, PASSPHRASE)
    moved = elsewhere.sign(x509.load_pem_x509_csr(ca_signing_request(joined)), at(clock), 100)
    with pytest.raises(CaOperationError):
        install_certificate(joined, pem(moved), pem(elsewhere.certificate), at(clock))  # departments pinned the root
    other.close()


def test_a_leaf_cannot_be_installed_as_a_ca(ca: IssuingCA, clock: Clock, tmp_path: Path) -> None:
    joined = create_ca(tmp_path / "joined", name="x", organization="", now=at(clock), root_passphrase=None)
    leaf = ca.issue(REQUEST, joined.public_key(), by="test")
    with pytest.raises(CaOperationError) as error:
        install_certificate(joined, leaf.pem(), pem(ca.root), at(clock))
    assert error.value.rule == "ca-chain"


def test_the_root_signs_no_weak_ca_and_no_unproven_request(ca: IssuingCA, clock: Clock) -> None:
    root = OfflineRoot.open(ca.folder.root_certificate, ca.folder.root_key, PASSPHRASE)
    wide = x509.load_pem_x509_csr(csr_for(ec.generate_private_key(ec.SECP521R1()), "x"))
    der = x509.load_pem_x509_csr(csr_for(new_key(), "x")).public_bytes(serialization.Encoding.DER)
    forged = x509.load_der_x509_csr(der[:-1] + bytes([der[-1] ^ 1]))
    for request in (wide, forged):
        with pytest.raises(CaOperationError):
            root.sign(request, at(clock), 10)
