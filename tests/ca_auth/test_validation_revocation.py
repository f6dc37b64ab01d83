"""Revocation beyond the published vectors: CRLs and OCSP answers that an attacker or a careless CA would hand in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca_auth import ChainRefusedError, CrlNumberError, PathPolicy, RevocationData, check_supersedes
from tests.ca_auth.chain_kit import DAY, NOW, Holder, entry, name, refused_by, root, usage, validate

RFC5280 = PathPolicy.rfc5280()
MINUTE = timedelta(minutes=1)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")


@pytest.fixture(scope="module")
def anchor() -> Holder:
    return root()


@pytest.fixture(scope="module")
def lower(anchor: Holder) -> Holder:
    return anchor.sub_ca("lower")


@pytest.fixture(scope="module")
def leaf(lower: Holder) -> Holder:
    return lower.leaf()


def scope(**what: object) -> tuple[x509.ExtensionType, bool]:
    parts: dict[str, object] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**parts, **what}), True  # type: ignore[arg-type]


def points(
    *urls: str, issuer: x509.Name | None = None, reasons: frozenset[x509.ReasonFlags] | None = None
) -> tuple[x509.ExtensionType, bool]:
    names = [x509.UniformResourceIdentifier(url) for url in urls] or None
    issuers = [x509.DirectoryName(issuer)] if issuer is not None else None
    return x509.CRLDistributionPoints([x509.DistributionPoint(names, None, reasons, issuers)]), False


class TestLists:
    def test_each_certificate_but_the_anchor_needs_a_list(self, anchor: Holder, lower: Holder, leaf: Holder) -> None:
        path = validate(anchor, leaf, lower, crls=[anchor.crl(), lower.crl(end=NOW + DAY / 2)])
        assert path.revocation == "crl"
        assert path.until == (NOW + DAY / 2).timestamp()
        assert refused_by(anchor, leaf, lower, crls=[anchor.crl()]) == "crl-missing"
        assert refused_by(anchor, leaf, lower, crls=[lower.crl()]) == "crl-missing"
        assert refused_by(anchor, leaf, lower, data=RevocationData()) == "crl-missing"

    def test_a_revoked_leaf_and_a_revoked_intermediate_are_refused(
        self, anchor: Holder, lower: Holder, leaf: Holder
    ) -> None:
        assert refused_by(anchor, leaf, lower, crls=[anchor.crl(), lower.crl([leaf])]) == "certificate-revoked"
        with pytest.raises(ChainRefusedError) as refused:
            validate(anchor, leaf, lower, crls=[anchor.crl([lower]), lower.crl()])
        assert refused.value.rule == "certificate-revoked"
        assert refused.value.rejection.certificate.startswith("CN=lower, serial ")

    def test_a_ca_of_the_same_name_that_is_not_revoked_offers_another_way(
        self, anchor: Holder, lower: Holder, leaf: Holder
    ) -> None:
        again = Holder(anchor.sub_ca("lower", key=lower.key).certificate, lower.key)
        assert refused_by(anchor, leaf, lower, again, crls=[anchor.crl([lower]), lower.crl()]) == ""

    def test_on_hold_is_revoked(self, anchor: Holder) -> None:
        held = anchor.leaf()
        crl = anchor.crl([held], reason=x509.ReasonFlags.certificate_hold)
        assert refused_by(anchor, held, crls=[crl]) == "certificate-revoked"

    def test_the_right_name_with_the_wrong_key_is_no_list_of_the_ca(self, anchor: Holder) -> None:
        leaf = anchor.leaf()
        assert refused_by(anchor, leaf, crls=[root("root").crl()]) == "crl-signature"
        assert refused_by(anchor, leaf, crls=[root("other").crl()]) == "crl-missing"
        assert refused_by(anchor, leaf, crls=[root("other").crl(issuer=anchor.subject)]) == "crl-signature"

    def test_a_signer_needs_the_key_usage_for_lists(self) -> None:
        anchor = root(usage=usage("key_cert_sign"))
        assert refused_by(anchor, anchor.leaf(), crls=[anchor.crl()]) == "crl-signature"

    @pytest.mark.parametrize(
        ("begin", "end", "rule"),
        [
            (NOW - DAY, NOW, ""),
            (NOW - 2 * DAY, NOW - timedelta(seconds=1), "crl-stale"),
            (NOW + MINUTE, NOW + DAY, ""),
            (NOW + 2 * MINUTE, NOW + DAY, "crl-not-yet-valid"),
        ],
    )
    def test_a_list_holds_from_its_beginning_to_its_end(
        self, anchor: Holder, begin: object, end: object, rule: str
    ) -> None:
        assert refused_by(anchor, anchor.leaf(), crls=[anchor.crl(begin=begin, end=end)]) == rule  # type: ignore[arg-type]

    def test_a_grace_period_works_only_if_it_is_set_and_is_told(self, anchor: Holder) -> None:
        leaf, stale = anchor.leaf(), anchor.crl(end=NOW - timedelta(hours=1))
        assert refused_by(anchor, leaf, crls=[stale]) == "crl-stale"
        data = RevocationData.of([stale], grace=timedelta(hours=2))
        path = validate(anchor, leaf, data=data)
        assert path.revocation == "grace"
        assert path.until == (NOW + timedelta(hours=1)).timestamp()
        assert refused_by(anchor, leaf, data=data, at=NOW + timedelta(hours=1, seconds=1)) == "crl-stale"
        fresh = RevocationData.of([stale, anchor.crl(number=2)], grace=timedelta(hours=2))
        assert validate(anchor, leaf, data=fresh).revocation == "crl"

    def test_of_several_lists_the_one_with_the_highest_number_counts(self, anchor: Holder) -> None:
        leaf = anchor.leaf()
        old, new = anchor.crl([leaf], number=1), anchor.crl(number=2)
        for crls in ([old, new], [new, old]):
            assert refused_by(anchor, leaf, crls=crls) == ""
        assert (
            refused_by(anchor, leaf, crls=[anchor.crl(number=1), anchor.crl([leaf], number=2)]) == "certificate-revoked"
        )
        with_a_forged_one = [old, root("root").crl(number=99)]
        assert refused_by(anchor, leaf, crls=with_a_forged_one) == "certificate-revoked"

    @pytest.mark.parametrize(
        "options",
        [
            {"number": None},
            {"more": [(UNKNOWN, True)]},
            {"revoked": [entry(4711, None, (UNKNOWN, True))]},
            {"revoked": [entry(4711, x509.ReasonFlags.remove_from_crl)]},
            {"revoked": [entry(4711, None, (x509.CertificateIssuer([x509.DirectoryName(name("other"))]), True))]},
        ],
        ids=[
            "no number",
            "critical extension",
            "critical entry extension",
            "removed in a complete list",
            "another's entry",
        ],
    )
    def test_a_list_that_breaks_a_rule_is_not_used(self, anchor: Holder, options: dict[str, object]) -> None:
        assert refused_by(anchor, anchor.leaf(), crls=[anchor.crl(**options)]) == "crl-form"  # type: ignore[arg-type]

    def test_bytes_that_are_no_list_are_said_to_be_none(self, anchor: Holder) -> None:
        good = anchor.crl()
        assert refused_by(anchor, anchor.leaf(), crls=[good[:-20]]) == "crl-malformed"
        with pytest.raises(ValueError, match="no CRL"):
            RevocationData.of([b"hello"])

    def test_numbers_never_go_back(self, anchor: Holder) -> None:
        first, second = (RevocationData.of([anchor.crl(number=each)]).lists[0] for each in (1, 2))
        check_supersedes(first, second)
        check_supersedes(second, second)
        with pytest.raises(CrlNumberError):
            check_supersedes(second, first)
        (another,) = RevocationData.of([anchor.crl([entry(4711)], number=2)]).lists
        with pytest.raises(CrlNumberError):
            check_supersedes(second, another)
        (foreign,) = RevocationData.of([root("other").crl(number=3)]).lists
        with pytest.raises(ValueError, match="scope"):
            check_supersedes(second, foreign)


class TestScopes:
    def test_a_list_for_cas_says_nothing_of_a_leaf_and_the_other_way_round(
        self, anchor: Holder, lower: Holder, leaf: Holder
    ) -> None:
        for_cas, for_users = scope(only_contains_ca_certs=True), scope(only_contains_user_certs=True)
        good = [anchor.crl(more=[for_cas]), lower.crl(more=[for_users])]
        assert refused_by(anchor, leaf, lower, crls=good) == ""
        swapped = [anchor.crl(more=[for_users]), lower.crl(more=[for_cas])]
        assert refused_by(anchor, leaf, lower, crls=swapped) == "crl-scope"

    def test_a_partition_is_the_one_the_certificate_names(self, anchor: Holder) -> None:
        first, second = "http://ca.example/1.crl", "http://ca.example/2.crl"
        leaf = anchor.leaf(more=[points(first)])
        lists = {
            url: anchor.crl(
                [leaf] if url == second else [], more=[scope(full_name=[x509.UniformResourceIdentifier(url)])]
            )
            for url in (first, second)
        }
        assert refused_by(anchor, leaf, crls=[lists[first]]) == ""
        assert refused_by(anchor, leaf, crls=[lists[second]]) == "crl-scope"
        assert refused_by(anchor, leaf, crls=[anchor.crl()]) == ""
        assert refused_by(anchor, anchor.leaf(), crls=[lists[first]]) == "crl-scope"

    def test_lists_for_some_reasons_count_when_together_they_are_all(self, anchor: Holder) -> None:
        leaf = anchor.leaf()
        every = set(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}
        keys = frozenset({x509.ReasonFlags.key_compromise, x509.ReasonFlags.ca_compromise})
        one, other = (anchor.crl(more=[scope(only_some_reasons=each)]) for each in (keys, frozenset(every - keys)))
        assert refused_by(anchor, leaf, crls=[one]) == "crl-scope"
        assert refused_by(anchor, leaf, crls=[one, other]) == ""
        bad = anchor.crl([leaf], more=[scope(only_some_reasons=frozenset(every - keys))])
        assert refused_by(anchor, leaf, crls=[one, bad]) == "certificate-revoked"

    def test_a_delta_list_adds_and_removes_and_is_nothing_by_itself(self, anchor: Holder) -> None:
        leaf = anchor.leaf()
        indicator = (x509.DeltaCRLIndicator(5), True)
        complete, held = anchor.crl(number=5), anchor.crl([leaf], number=5, reason=x509.ReasonFlags.certificate_hold)
        adding = anchor.crl([leaf], number=7, more=[indicator])
        removing = anchor.crl([leaf], number=7, more=[indicator], reason=x509.ReasonFlags.remove_from_crl)
        assert refused_by(anchor, leaf, crls=[adding]) == "crl-missing"
        assert refused_by(anchor, leaf, crls=[complete, adding]) == "certificate-revoked"
        assert refused_by(anchor, leaf, crls=[held]) == "certificate-revoked"
        assert refused_by(anchor, leaf, crls=[held, removing]) == ""
        too_new_a_base = anchor.crl(
            [leaf], number=7, more=[(x509.DeltaCRLIndicator(6), True)], reason=x509.ReasonFlags.remove_from_crl
        )
        assert refused_by(anchor, leaf, crls=[held, too_new_a_base]) == "certificate-revoked"
        forged = root("root").crl([leaf], number=9, more=[indicator], reason=x509.ReasonFlags.remove_from_crl)
        assert refused_by(anchor, leaf, crls=[held, forged]) == "certificate-revoked"

    def test_an_indirect_list_speaks_for_a_ca_only_if_the_certificate_says_so(self, anchor: Holder) -> None:
        office = anchor.leaf("CRL office", usage=usage("crl_sign"), purposes=None)
        leaf, unaware = anchor.leaf(more=[points(issuer=office.subject)]), anchor.leaf()
        theirs = (x509.CertificateIssuer([x509.DirectoryName(anchor.subject)]), True)
        clean, listed = (
            office.crl(entries, more=[scope(indirect_crl=True)]) for entries in ([], [entry(leaf, None, theirs)])
        )
        # Of the office's own certificate the root's list says that it is not revoked.
        assert refused_by(anchor, unaware, office, crls=[clean]) == "crl-missing"
        only_for_the_office = anchor.crl(more=[scope(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise}))])
        assert refused_by(anchor, leaf, office, crls=[clean, only_for_the_office]) == "crl-signature"
        assert refused_by(anchor, leaf, office, crls=[clean, anchor.crl()]) == ""
        assert refused_by(anchor, leaf, office, crls=[listed, anchor.crl()]) == "certificate-revoked"
        not_indirect = office.crl()
        assert refused_by(anchor, leaf, office, crls=[not_indirect]) == "crl-scope"


class TestSignersOfLists:
    def test_a_ca_may_have_a_key_of_its_own_for_lists(self, anchor: Holder, lower: Holder, leaf: Holder) -> None:
        """Its certificate has the CA's name, comes from the CA above, and is checked like any other."""
        signer = anchor.leaf("lower", usage=usage("crl_sign"), purposes=None)
        lists = [anchor.crl(), signer.crl()]
        assert refused_by(anchor, leaf, lower, signer, crls=lists) == ""
        assert refused_by(anchor, leaf, lower, crls=lists) == "crl-signature"
        assert refused_by(anchor, leaf, lower, signer, crls=[anchor.crl([signer]), signer.crl()]) == "crl-signature"
        expired = anchor.leaf("lower", usage=usage("crl_sign"), purposes=None, end=NOW - DAY)
        assert refused_by(anchor, leaf, lower, expired, crls=[anchor.crl(), expired.crl()]) == "crl-signature"

    def test_who_gets_a_certificate_with_a_cas_name_elsewhere_cannot_clear_its_clients(
        self, anchor: Holder, lower: Holder, leaf: Holder
    ) -> None:
        """Another CA under the same anchor issues a CRL signer named like the CA: RFC 5280 alone would take its lists."""
        neighbour = anchor.sub_ca("neighbour")
        impostor = neighbour.leaf("lower", usage=usage("crl_sign"), purposes=None)
        lists = [anchor.crl(), neighbour.crl(), impostor.crl(number=9), lower.crl([leaf])]
        assert refused_by(anchor, leaf, lower, neighbour, impostor, crls=lists) == "certificate-revoked"
        assert refused_by(anchor, leaf, lower, neighbour, impostor, crls=lists[:3]) == "crl-signature"

    def test_a_leaf_cannot_sign_the_list_it_is_on(self, anchor: Holder) -> None:
        odd = anchor.leaf("root", usage=usage("digital_signature", "crl_sign"))
        assert refused_by(anchor, odd, crls=[odd.crl()]) == "crl-signature"
        plain = anchor.leaf("root")
        assert refused_by(anchor, anchor.leaf(), plain, crls=[plain.crl(), anchor.crl(number=2)]) == ""
        assert refused_by(anchor, anchor.leaf(), plain, crls=[plain.crl()]) == "crl-signature"


class TestAnswers:
    def test_the_ca_answers_itself_or_has_somebody_answer(self, anchor: Holder) -> None:
        leaf, delegate = anchor.leaf(), anchor.responder()
        for answer in (
            anchor.ocsp(leaf, anchor),
            anchor.ocsp(leaf, anchor, by_name=True),
            delegate.ocsp(leaf, anchor),
            delegate.ocsp(leaf, anchor, by_name=True),
        ):
            path = validate(anchor, leaf, answers=[answer])
            assert path.revocation == "ocsp"
            assert path.until == (NOW + DAY).timestamp()

    @pytest.mark.parametrize(
        ("status", "rule"),
        [(ocsp.OCSPCertStatus.REVOKED, "certificate-revoked"), (ocsp.OCSPCertStatus.UNKNOWN, "ocsp-unknown")],
    )
    def test_only_good_is_good(self, anchor: Holder, status: ocsp.OCSPCertStatus, rule: str) -> None:
        leaf = anchor.leaf()
        assert refused_by(anchor, leaf, answers=[anchor.ocsp(leaf, anchor, status=status)]) == rule

    def test_an_answer_about_another_certificate_is_no_answer(self, anchor: Holder) -> None:
        leaf, other = anchor.leaf(), anchor.leaf()
        assert refused_by(anchor, leaf, answers=[anchor.ocsp(other, anchor)]) == "ocsp-missing"
        twin = root("root")
        same_number = twin.leaf(serial_number=leaf.certificate.serial_number)
        assert refused_by(anchor, leaf, answers=[twin.ocsp(same_number, twin)]) == "ocsp-mismatch"

    def test_a_delegate_needs_the_purpose_the_same_ca_and_its_days(self, anchor: Holder, lower: Holder) -> None:
        leaf = anchor.leaf()
        for delegate in (
            anchor.leaf("responder"),
            anchor.responder(purposes=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)),
            anchor.responder(purposes=None),
            anchor.responder(end=NOW - MINUTE),
            anchor.responder(usage=usage("key_encipherment")),
            anchor.responder(more=[(UNKNOWN, True), (x509.OCSPNoCheck(), False)]),
            lower.responder(),
            root("root").responder(),
        ):
            assert refused_by(anchor, leaf, lower, answers=[delegate.ocsp(leaf, anchor)]) == "ocsp-responder"
        assert refused_by(anchor, leaf, answers=[anchor.responder().ocsp(leaf, anchor, send=False)]) == "ocsp-responder"

    def test_a_delegate_that_is_not_exempt_must_not_be_revoked(self, anchor: Holder) -> None:
        leaf, delegate = anchor.leaf(), anchor.responder(no_check=False)
        answer = delegate.ocsp(leaf, anchor)
        assert refused_by(anchor, leaf, answers=[answer]) == "ocsp-responder"
        assert refused_by(anchor, leaf, answers=[answer], policy=RFC5280) == ""
        for_delegates_only = points("http://ca.example/2.crl")
        apart = anchor.leaf(more=[for_delegates_only])
        lists = [anchor.crl([delegate])]
        assert refused_by(anchor, apart, answers=[delegate.ocsp(apart, anchor)], crls=[anchor.crl()]) == ""
        # The list says of the leaf that it is good, so that the answer is not needed.
        assert validate(anchor, leaf, answers=[answer], crls=lists).revocation == "crl"

    @pytest.mark.parametrize(
        ("begin", "end", "rule"),
        [
            (NOW - 2 * DAY, NOW - timedelta(seconds=1), "ocsp-stale"),
            (NOW - DAY, None, ""),
            (NOW - DAY - timedelta(seconds=1), None, "ocsp-stale"),
            (NOW + 2 * MINUTE, NOW + DAY, "ocsp-not-yet-valid"),
        ],
    )
    def test_an_answer_is_fresh(self, anchor: Holder, begin: object, end: object, rule: str) -> None:
        leaf = anchor.leaf()
        answer = anchor.ocsp(leaf, anchor, begin=begin, end=end)  # type: ignore[arg-type]
        assert refused_by(anchor, leaf, answers=[answer]) == rule

    @pytest.mark.parametrize(("sent", "rule"), [(b"12345678", ""), (b"87654321", "ocsp-nonce"), (None, "ocsp-nonce")])
    def test_an_answer_to_a_question_with_a_nonce_carries_it(
        self, anchor: Holder, sent: bytes | None, rule: str
    ) -> None:
        leaf = anchor.leaf()
        data = RevocationData.of(ocsp=[anchor.ocsp(leaf, anchor, nonce=sent)], nonce=b"12345678")
        assert refused_by(anchor, leaf, data=data) == rule

    def test_a_forged_answer_does_not_spoil_a_good_list_and_a_bad_word_is_believed_from_either(
        self, anchor: Holder
    ) -> None:
        leaf = anchor.leaf()
        forged = root("root").ocsp(leaf, anchor)
        assert validate(anchor, leaf, answers=[forged], crls=[anchor.crl()]).revocation == "crl"
        good, bad = anchor.ocsp(leaf, anchor), anchor.ocsp(leaf, anchor, status=ocsp.OCSPCertStatus.REVOKED)
        assert refused_by(anchor, leaf, answers=[good], crls=[anchor.crl([leaf])]) == "certificate-revoked"
        assert refused_by(anchor, leaf, answers=[good, bad]) == "certificate-revoked"
        assert refused_by(anchor, leaf, answers=[bad], crls=[anchor.crl()]) == "certificate-revoked"

    def test_an_unsuccessful_or_damaged_answer_is_told(self, anchor: Holder) -> None:
        leaf = anchor.leaf()
        later = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
        damaged = anchor.ocsp(leaf, anchor)[:-9]
        for answer in (later.public_bytes(Encoding.DER), damaged):
            assert refused_by(anchor, leaf, answers=[answer]) == "ocsp-malformed"
        with pytest.raises(ValueError, match="no OCSP answer"):
            RevocationData.of(ocsp=[b"hello"])

    def test_cas_above_are_covered_as_well(self, anchor: Holder, lower: Holder, leaf: Holder) -> None:
        """The mesh wants to know of every certificate; RFC 6960 alone is asked for the leaf, and the rest is told."""
        about_the_leaf, about_the_ca = lower.ocsp(leaf, lower), anchor.ocsp(lower, anchor)
        assert refused_by(anchor, leaf, lower, answers=[about_the_leaf]) == "ocsp-missing"
        assert refused_by(anchor, leaf, lower, answers=[about_the_leaf, about_the_ca]) == ""
        assert refused_by(anchor, leaf, lower, answers=[about_the_leaf], crls=[anchor.crl()]) == ""
        path = validate(anchor, leaf, lower, answers=[about_the_leaf], policy=RFC5280)
        assert [label.split(",")[0] for label in path.unchecked] == ["CN=lower"]
        assert refused_by(anchor, leaf, lower, answers=[about_the_ca], policy=RFC5280) == "ocsp-missing"
