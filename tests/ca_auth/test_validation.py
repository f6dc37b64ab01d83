"""Path validation beyond the published vectors: what an attacker or a careless CA would try, with real keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca_auth import CHAIN_RULES, ChainRefusedError, PathPolicy, PathValidator
from tests.ca_auth.chain_kit import (
    DAY,
    KEY_IDENTIFIERS,
    NOW,
    Holder,
    name,
    new_key,
    refused_by,
    root,
    signed_with_sha1,
    usage,
    validate,
    without_dsa_parameters,
)

RFC5280 = PathPolicy.rfc5280()
QUICKLY = 1.0
"""Seconds, for what must not take long whatever is sent."""


@pytest.fixture(scope="module")
def anchor() -> Holder:
    return root()


def constraints(
    permitted: Sequence[x509.GeneralName] = (), excluded: Sequence[x509.GeneralName] = ()
) -> x509.NameConstraints:
    return x509.NameConstraints(permitted or None, excluded or None)


def of_organization(organization: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])


class TestPaths:
    def test_a_good_chain_is_accepted_whatever_the_order_of_its_intermediates(self, anchor: Holder) -> None:
        upper = anchor.sub_ca("upper")
        lower = upper.sub_ca("lower")
        leaf = lower.leaf()
        for between in ((upper, lower), (lower, upper), (lower, lower, upper, anchor)):
            path = validate(anchor, leaf, *between)
            assert [each.subject for each in path.certificates] == [
                leaf.subject,
                lower.subject,
                upper.subject,
                anchor.subject,
            ]
            assert path.revocation == "unchecked"

    def test_a_verdict_holds_until_the_first_certificate_of_the_path_ends(self, anchor: Holder) -> None:
        lower = anchor.sub_ca("lower", end=NOW + 3 * DAY)
        assert validate(anchor, lower.leaf(), lower).until == (NOW + 3 * DAY).timestamp()

    def test_an_expired_intermediate_is_passed_by_where_there_is_another_way(self, anchor: Holder) -> None:
        key = new_key()
        old = anchor.sub_ca("lower", key=key, end=NOW - DAY)
        new = anchor.sub_ca("lower", key=key)
        leaf = new.leaf()
        assert refused_by(anchor, leaf, old) == "certificate-expired"
        assert validate(anchor, leaf, old, new).certificates[1] == new.certificate

    def test_of_two_cas_with_one_name_the_one_that_signed_counts(self, anchor: Holder) -> None:
        first, second = anchor.sub_ca("twin"), anchor.sub_ca("twin")
        for leave_out in ((), KEY_IDENTIFIERS):
            leaf = second.leaf(leave_out=leave_out)
            assert refused_by(anchor, leaf, first, second, policy=RFC5280) == ""
            assert refused_by(anchor, leaf, first, policy=RFC5280) == "certificate-signature"

    def test_two_anchors_with_one_name_are_told_apart_by_their_keys(self) -> None:
        first, second, stranger = root("same"), root("same"), root("same")
        assert refused_by((first, second), second.leaf()) == ""
        assert refused_by((first, second), stranger.leaf()) == "certificate-signature"

    def test_cas_that_certify_each_other_are_no_trap(self, anchor: Holder) -> None:
        keys = {letter: new_key() for letter in "ABC"}
        cas = {letter: root(letter, key=key) for letter, key in keys.items()}
        crossed = [cas[issuer].sub_ca(subject, key=keys[subject]) for issuer in "ABC" for subject in "ABC"]
        leaf = cas["A"].leaf()
        assert refused_by(anchor, leaf, *crossed) == "certificate-chain"
        way_out = anchor.sub_ca("C", key=keys["C"])
        assert refused_by(anchor, leaf, *crossed, way_out) == ""

    def test_a_path_is_found_past_many_branches_that_go_wrong_high_up(self, anchor: Holder) -> None:
        """Each level has certificates for one key that are expired, limited, not for CAs, or lead nowhere."""
        above = anchor
        sent: list[Holder] = []
        for level in range(4):
            key, label = new_key(), f"level {level}"
            stranger = root(f"stranger {level}")
            sent += [
                above.sub_ca(label, key=key, end=NOW - DAY),
                above.sub_ca(label, key=key, path_length=0),
                above.sub_ca(label, key=key, usage=usage("crl_sign")),
                above.sub_ca(label, key=key, more=[(constraints(excluded=[x509.DNSName("")]), True)]),
                stranger.sub_ca(label, key=key),
                stranger,
            ]
            if level == 3:
                sent = [each for each in sent if each.certificate.subject != name(label)] + sent[-5:-1]
            good = above.sub_ca(label, key=key)
            sent.append(good)
            above = good
        leaf = above.leaf(names=[x509.DNSName("agency.example")])
        begin = time.perf_counter()
        assert refused_by(anchor, leaf, *sent) == ""
        assert time.perf_counter() - begin < QUICKLY

    @pytest.mark.parametrize("same_key", [False, True])
    def test_a_hundred_and_fifty_decoys_cost_no_more_than_a_moment(self, anchor: Holder, same_key: bool) -> None:
        """They have the name of the real intermediate, come first and carry no key identifiers to tell them by."""
        key, stranger = new_key(), root("stranger")
        decoys = [
            stranger.sub_ca("lower", key=key if same_key else None, leave_out=KEY_IDENTIFIERS) for _ in range(150)
        ]
        real = anchor.sub_ca("lower", key=key, leave_out=KEY_IDENTIFIERS)
        begin = time.perf_counter()
        assert refused_by(anchor, real.leaf(leave_out=KEY_IDENTIFIERS), *decoys, real, policy=RFC5280) == ""
        assert time.perf_counter() - begin < QUICKLY

    def test_a_thicket_of_cas_that_leads_nowhere_is_given_up_in_time(self, anchor: Holder) -> None:
        keys = [new_key() for _ in range(12)]
        cas = [root("thicket", key=key) for key in keys]
        sent = [issuer.sub_ca("thicket", key=key) for issuer in cas for key in keys]
        begin = time.perf_counter()
        assert refused_by(anchor, cas[0].leaf(), *sent) in ("certificate-chain-effort", "certificate-chain")
        assert time.perf_counter() - begin < QUICKLY

    def test_keys_that_are_slow_to_verify_with_are_not_tried(self, anchor: Holder) -> None:
        """An RSA exponent as long as the modulus makes each verification as slow as signing."""
        good = rsa.generate_private_key(65537, 3072)
        numbers = good.private_numbers()
        turned = rsa.RSAPublicNumbers(numbers.d, numbers.public_numbers.n).public_key()
        slow = anchor.sub_ca("slow", public_key=turned)
        decoys = [anchor.sub_ca("slow", public_key=turned) for _ in range(60)]
        leaf = Holder(slow.certificate, good).leaf()
        begin = time.perf_counter()
        assert refused_by(anchor, leaf, slow, *decoys) == "certificate-signature"
        assert time.perf_counter() - begin < QUICKLY

    def test_more_certificates_than_any_honest_client_has_are_refused_unseen(self, anchor: Holder) -> None:
        assert refused_by(anchor, anchor.leaf(), *[anchor] * 201) == "certificate-chain-effort"

    def test_issuer_names_are_compared_without_case_and_runs_of_spaces(self) -> None:
        anchor = root("Root CA")
        assert refused_by(anchor, anchor.leaf(issuer_name=name("ROOT   ca "))) == ""
        assert refused_by(anchor, anchor.leaf(issuer_name=name("RootCA"))) == "certificate-chain"

    def test_no_certificate_vouches_for_itself(self, anchor: Holder) -> None:
        alone = root("alone", ca=False, purposes=[ExtendedKeyUsageOID.CLIENT_AUTH], leave_out=())
        assert refused_by(anchor, alone, policy=RFC5280) == "certificate-chain"
        assert refused_by(anchor, anchor, policy=RFC5280) == "certificate-chain"

    def test_a_client_cannot_make_itself_an_anchor_by_sending_one(self, anchor: Holder) -> None:
        other = root("other")
        assert refused_by(anchor, other.leaf(), other) == "certificate-chain"

    def test_the_refusal_is_that_of_the_path_that_came_furthest(self, anchor: Holder) -> None:
        """A branch of strangers fails sooner than the one whose upper CA has expired: the second is told."""
        key = new_key()
        upper = anchor.sub_ca("upper", end=NOW - DAY)
        lower, wrong = upper.sub_ca("lower", key=key), root("stranger").sub_ca("lower", key=key)
        with pytest.raises(ChainRefusedError) as refused:
            validate(anchor, lower.leaf(), wrong, lower, upper)
        assert refused.value.rule == "certificate-expired"
        assert refused.value.rejection.certificate.startswith("CN=upper, serial ")

    def test_depth_counts_intermediates_but_not_those_a_ca_issued_to_itself(self, anchor: Holder) -> None:
        upper = anchor.sub_ca("upper")
        rolled = upper.sub_ca("upper")
        leaf = rolled.leaf()
        assert refused_by(anchor, leaf, upper, rolled, policy=PathPolicy(max_depth=1)) == ""
        assert refused_by(anchor, leaf, upper, rolled, policy=PathPolicy(max_depth=0)) == "certificate-chain-depth"

    def test_a_path_length_holds_for_all_cas_below(self, anchor: Holder) -> None:
        upper = anchor.sub_ca("upper", path_length=1)
        lower = upper.sub_ca("lower")
        lowest = lower.sub_ca("lowest")
        assert refused_by(anchor, lower.leaf(), upper, lower) == ""
        assert refused_by(anchor, lowest.leaf(), upper, lower, lowest) == "certificate-path-length"
        limited = root("limited", path_length=0)
        below = limited.sub_ca("below")
        assert refused_by(limited, below.leaf(), below) == "certificate-path-length"

    def test_an_anchor_that_has_expired_or_cannot_be_used_accepts_nobody(self, anchor: Holder) -> None:
        old = root("old", end=NOW - timedelta(seconds=1))
        assert refused_by((old, anchor), old.leaf()) == "certificate-expired"
        assert refused_by((old, anchor), anchor.leaf()) == ""

    def test_a_dsa_key_may_take_its_parameters_from_its_issuer(self) -> None:
        """RFC 5280 section 6.1.4 (e): the sub-CA's certificate holds y and no parameters (made by cutting them out)."""
        first = dsa.generate_private_key(2048)
        anchor = root("root", key=first)
        second = first.parameters().generate_private_key()
        whole = anchor.sub_ca("sub", key=second)
        inheriting = without_dsa_parameters(whole.certificate, first)
        leaf = whole.leaf()
        assert refused_by(anchor, leaf, inheriting, policy=RFC5280) == ""
        assert refused_by(anchor, leaf, inheriting) == "certificate-algorithm"
        stranger = Holder(whole.certificate, first.parameters().generate_private_key())
        assert refused_by(anchor, stranger.leaf(), inheriting, policy=RFC5280) == "certificate-signature"


class TestKeysAndForm:
    @pytest.mark.parametrize(
        ("key", "rule"),
        [
            (rsa.generate_private_key(65537, 1024), "certificate-key"),
            (rsa.generate_private_key(65537, 2052), "certificate-key"),
            (rsa.generate_private_key(65537, 2048), ""),
            (ec.generate_private_key(ec.SECP256K1()), "certificate-key"),
            (ec.generate_private_key(ec.SECP224R1()), "certificate-key"),
            (ec.generate_private_key(ec.SECP384R1()), ""),
            (ec.generate_private_key(ec.SECP521R1()), ""),
            (ed25519.Ed25519PrivateKey.generate(), ""),
        ],
        ids=lambda value: f"{getattr(value, 'key_size', '')}{getattr(getattr(value, 'curve', None), 'name', '')}",
    )
    def test_the_key_policy_holds_for_leaves_and_for_cas(self, anchor: Holder, key: object, rule: str) -> None:
        assert refused_by(anchor, anchor.leaf(key=key)) == rule
        lower = anchor.sub_ca("lower", key=key)
        assert refused_by(anchor, lower.leaf(), lower) == rule

    def test_an_ed25519_ca_is_one_like_others(self) -> None:
        anchor = root("root", key=ed25519.Ed25519PrivateKey.generate())
        assert refused_by(anchor, anchor.leaf()) == ""

    def test_a_signature_with_sha1_is_refused_but_for_the_anchors_own(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        new_root, leaf = root("old root", key=key), root("old root", key=key).leaf()
        old_root = Holder(signed_with_sha1(new_root.certificate, key), key)
        old_leaf = Holder(signed_with_sha1(leaf.certificate, key), leaf.key)
        assert refused_by(old_root, leaf) == ""
        assert refused_by(old_root, old_leaf) == "certificate-algorithm"
        assert refused_by(old_root, old_leaf, policy=RFC5280) == ""

    @pytest.mark.parametrize(
        ("purposes", "rule"),
        [
            (None, "certificate-purpose"),
            ([ExtendedKeyUsageOID.SERVER_AUTH], "certificate-purpose"),
            ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], "certificate-purpose"),
            ([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], ""),
        ],
    )
    def test_a_leaf_names_client_auth_itself(
        self, anchor: Holder, purposes: Sequence[x509.ObjectIdentifier] | None, rule: str
    ) -> None:
        assert refused_by(anchor, anchor.leaf(purposes=purposes)) == rule
        assert refused_by(anchor, anchor.leaf(purposes=purposes), policy=RFC5280) == ""

    def test_a_ca_for_servers_does_not_issue_for_clients(self, anchor: Holder) -> None:
        for purposes, rule in (
            ([ExtendedKeyUsageOID.SERVER_AUTH], "certificate-purpose"),
            ([ExtendedKeyUsageOID.CLIENT_AUTH], ""),
        ):
            lower = anchor.sub_ca("lower", purposes=purposes)
            assert refused_by(anchor, lower.leaf(), lower) == rule

    def test_a_leaf_cannot_issue(self, anchor: Holder) -> None:
        leaf = anchor.leaf("not a CA")
        assert refused_by(anchor, leaf.leaf(), leaf) == "certificate-issuer-not-ca"
        pretender = anchor.sub_ca("no signing", usage=usage("digital_signature", "crl_sign"))
        assert refused_by(anchor, pretender.leaf(), pretender, policy=RFC5280) == "certificate-issuer-not-ca"

    def test_an_unknown_critical_extension_refuses_and_a_known_one_does_not(self, anchor: Holder) -> None:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
        assert refused_by(anchor, anchor.leaf(more=[(unknown, True)])) == "certificate-critical-extension"
        assert refused_by(anchor, anchor.leaf(more=[(unknown, False)])) == ""

    def test_what_the_form_requires_of_a_careful_ca(self, anchor: Holder) -> None:
        assert refused_by(anchor, anchor.leaf(leave_out=["authorityKeyIdentifier"])) == "certificate-form"
        for leave_out, rule in ((KEY_IDENTIFIERS[1:], "certificate-form"), ((), "")):
            no_root = anchor.sub_ca("accepted although it is no root", leave_out=leave_out)
            assert refused_by(no_root, no_root.leaf()) == rule
        without = anchor.sub_ca("lower", leave_out=["subjectKeyIdentifier"])
        assert refused_by(anchor, without.leaf(), without) == "certificate-form"
        no_usage = anchor.sub_ca("lower", no_usage=True)
        assert refused_by(anchor, no_usage.leaf(), no_usage) == "certificate-form"
        assert refused_by(anchor, anchor.leaf(names=[x509.DNSName("under_score.example")])) == "certificate-form"


class TestNameConstraints:
    @pytest.mark.parametrize("critical", [True, False])
    def test_a_tax_ca_issues_for_tax_and_not_for_the_police(self, anchor: Holder, critical: bool) -> None:
        """The hole that was measured: a directory name constraint that is not critical was passed over in silence."""
        limit = constraints([x509.DirectoryName(of_organization("Tax"))])
        tax = anchor.sub_ca("tax CA", more=[(limit, critical)])
        assert refused_by(anchor, tax.leaf(subject=name("leaf", "tax")), tax) == ""
        assert refused_by(anchor, tax.leaf(subject=name("leaf", "Police")), tax) == "certificate-name-constraints"
        lower = tax.sub_ca("lower", subject=name("lower", "Tax"))
        assert (
            refused_by(anchor, lower.leaf(subject=name("leaf", "Police")), lower, tax) == "certificate-name-constraints"
        )

    @pytest.mark.parametrize(
        "base",
        [
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
            x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
            x509.RFC822Name._init_without_validation("a@b@c"),
            x509.UniformResourceIdentifier("https://agency.example/"),
            x509.DNSName(".agency.example"),
        ],
        ids=lambda base: type(base).__name__,
    )
    @pytest.mark.parametrize("critical", [True, False])
    def test_a_constraint_that_cannot_be_evaluated_refuses_the_chain(
        self, anchor: Holder, base: x509.GeneralName, critical: bool
    ) -> None:
        for limit in (constraints([base]), constraints(excluded=[base])):
            lower = anchor.sub_ca("lower", more=[(limit, critical)])
            assert refused_by(anchor, lower.leaf(), lower) == "certificate-constraint-unsupported"

    def test_a_subtree_with_a_distance_cannot_be_evaluated(self, anchor: Holder) -> None:
        # permitted { { dNSName "a.example", maximum 1 } }
        raw = bytes.fromhex("3012a010300e8209612e6578616d706c65810101")
        lower = anchor.sub_ca("lower", more=[(x509.UnrecognizedExtension(x509.NameConstraints.oid, raw), True)])
        assert (
            refused_by(anchor, lower.leaf(names=[x509.DNSName("a.example")]), lower)
            == "certificate-constraint-unsupported"
        )

    @pytest.mark.parametrize(
        ("base", "inside", "outside"),
        [
            (
                x509.DNSName("agency.example"),
                [x509.DNSName("agency.example"), x509.DNSName("a.B.AGENCY.example"), x509.DNSName("*.agency.example")],
                [x509.DNSName("notagency.example"), x509.DNSName("example"), x509.DNSName("*.example")],
            ),
            (
                x509.RFC822Name("agency.example"),
                [x509.RFC822Name("a@agency.example"), x509.RFC822Name("b@AGENCY.example")],
                [
                    x509.RFC822Name("a@sub.agency.example"),
                    x509.RFC822Name._init_without_validation("a@agency.example@other.example"),
                ],
            ),
            (
                x509.RFC822Name(".agency.example"),
                [x509.RFC822Name("a@sub.agency.example")],
                [x509.RFC822Name("a@agency.example")],
            ),
            (
                x509.RFC822Name("a@agency.example"),
                [x509.RFC822Name("a@agency.example")],
                [x509.RFC822Name("b@agency.example")],
            ),
            (
                x509.UniformResourceIdentifier("agency.example"),
                [x509.UniformResourceIdentifier("https://user@agency.example:8443/x")],
                [
                    x509.UniformResourceIdentifier("https://sub.agency.example/"),
                    x509.UniformResourceIdentifier("https://192.0.2.1/"),
                    x509.UniformResourceIdentifier("datong:CN/GOV/11990000000001011Q"),
                    x509.UniformResourceIdentifier("https://other.example\\@agency.example/"),
                ],
            ),
            (
                x509.UniformResourceIdentifier(".agency.example"),
                [x509.UniformResourceIdentifier("https://sub.agency.example/")],
                [x509.UniformResourceIdentifier("https://agency.example/")],
            ),
            (
                x509.IPAddress(ip_network("192.0.2.0/24")),
                [x509.IPAddress(ip_address("192.0.2.7"))],
                [x509.IPAddress(ip_address("192.0.3.7")), x509.IPAddress(ip_address("2001:db8::1"))],
            ),
        ],
        ids=lambda value: str(getattr(value, "value", "")),
    )
    def test_names_lie_where_rfc_5280_says(
        self, anchor: Holder, base: x509.GeneralName, inside: list[x509.GeneralName], outside: list[x509.GeneralName]
    ) -> None:
        permitting = anchor.sub_ca("permitting", more=[(constraints([base]), True)])
        excluding = anchor.sub_ca("excluding", more=[(constraints(excluded=[base]), True)])
        for each in inside:
            assert refused_by(anchor, permitting.leaf(names=[each]), permitting, policy=RFC5280) == ""
            assert (
                refused_by(anchor, excluding.leaf(names=[each]), excluding, policy=RFC5280)
                == "certificate-name-constraints"
            )
        for each in outside:
            assert (
                refused_by(anchor, permitting.leaf(names=[each]), permitting, policy=RFC5280)
                == "certificate-name-constraints"
            )

    def test_a_wildcard_that_might_stand_for_an_excluded_name_is_refused(self, anchor: Holder) -> None:
        lower = anchor.sub_ca("lower", more=[(constraints(excluded=[x509.DNSName("secret.agency.example")]), True)])
        wild = lower.leaf(names=[x509.DNSName("*.agency.example")])
        assert refused_by(anchor, wild, lower) == "certificate-name-constraints"

    def test_an_address_in_the_subject_is_bound_like_one_in_the_alternative_name(self, anchor: Holder) -> None:
        lower = anchor.sub_ca("lower", more=[(constraints([x509.RFC822Name("agency.example")]), True)])
        subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@other.example")])
        assert refused_by(anchor, lower.leaf(subject=subject), lower) == "certificate-name-constraints"

    def test_an_internationalised_mailbox_does_not_slip_past_mail_constraints(self, anchor: Holder) -> None:
        """RFC 9598 puts it into an otherName and binds it all the same."""
        lower = anchor.sub_ca("lower", more=[(constraints([x509.RFC822Name("agency.example")]), True)])
        mailbox = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), b"\x0c\x0fa@other.example")
        assert refused_by(anchor, lower.leaf(names=[mailbox]), lower) == "certificate-name-constraints"

    def test_many_names_against_many_constraints_are_given_up_in_time(self, anchor: Holder) -> None:
        many = [x509.DNSName(f"n{number}.agency.example") for number in range(2000)]
        lower = anchor.sub_ca(
            "lower", more=[(constraints(many[:1000], [x509.DNSName(f"x{n}.example") for n in range(1000)]), True)]
        )
        begin = time.perf_counter()
        assert refused_by(anchor, lower.leaf(names=many), lower) == "certificate-chain-effort"
        assert time.perf_counter() - begin < QUICKLY


class TestCertificatePolicies:
    def test_a_ca_that_requires_a_policy_is_heard_although_we_ask_for_none(self, anchor: Holder) -> None:
        def policies(dotted: str) -> tuple[x509.ExtensionType, bool]:
            information = x509.PolicyInformation(x509.ObjectIdentifier(dotted), None)
            return x509.CertificatePolicies([information]), False

        require = (x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None), True)
        lower = anchor.sub_ca("lower", more=[policies("1.2.3.1"), require])
        assert refused_by(anchor, lower.leaf(more=[policies("1.2.3.1")]), lower) == ""
        assert refused_by(anchor, lower.leaf(more=[policies("1.2.3.2")]), lower) == "certificate-policies"
        assert refused_by(anchor, lower.leaf(), lower) == "certificate-policies"


class TestWhatIsTold:
    def test_each_rule_says_what_to_do_in_both_languages(self) -> None:
        for rule, (english, chinese) in CHAIN_RULES.items():
            assert english.endswith("."), rule
            assert chinese.endswith("。"), rule

    def test_a_refusal_is_an_error_that_a_caller_can_be_shown(self, anchor: Holder) -> None:
        with pytest.raises(ChainRefusedError) as refused:
            validate(anchor, anchor.leaf(end=NOW - DAY))
        error = refused.value
        assert (error.status, error.rule) == (401, "certificate-expired")
        assert "2026-05-31" in error.detail_in("en")
        assert "2026-05-31" in error.detail_in("zh")
        assert error.next_in("en") == "Renew the certificate."
        assert error.next_in("zh") == "请更新证书。"

    def test_names_from_a_hostile_certificate_are_cleaned_and_persons_are_not_named(self, anchor: Holder) -> None:
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, "\x1b[2J{rule}"),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, "IDCCN-110101199003070011"),
            ]
        )
        with pytest.raises(ChainRefusedError) as refused:
            validate(anchor, anchor.leaf(subject=subject, end=NOW - DAY))
        shown = refused.value.rejection.certificate
        assert "\x1b" not in shown
        assert "{rule}" in shown
        assert "110101" not in shown

    def test_a_validator_without_anchors_accepts_nobody(self, anchor: Holder) -> None:
        with pytest.raises(ChainRefusedError) as refused:
            PathValidator([]).validate(anchor.leaf().certificate, [anchor.certificate], NOW)
        assert refused.value.rule == "certificate-chain"
