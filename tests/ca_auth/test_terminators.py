"""Behind a TLS terminator: RFC 9440, believed from those who are pinned and from nobody else."""

from __future__ import annotations

import base64

import pytest

from ca_auth import TerminatorTrust
from tests.ca_auth.edge_world import Pki, running_edge


def header(*ders: bytes, name: str = "Client-Cert") -> str:
    return f"{name}: {', '.join(f':{base64.b64encode(der).decode()}:' for der in ders)}\r\n"


def test_a_pinned_terminator_speaks_for_each_caller_of_its_connection(pki: Pki) -> None:
    trust = TerminatorTrust(fingerprints=[pki.member.fingerprint])
    with running_edge(pki, terminators=lambda: trust) as edge, edge.connect(pki.member) as connection:
        for caller in (pki.tax, pki.member, pki.tax):
            said = connection.get(more=header(caller.der)).json()
            assert (said["fingerprint"], said["spoken_for"]) == (caller.fingerprint, True)


def test_a_terminator_without_the_header_is_no_caller(pki: Pki) -> None:
    trust = TerminatorTrust(fingerprints=[pki.member.fingerprint])
    with running_edge(pki, terminators=lambda: trust) as edge, edge.connect(pki.member) as connection:
        connection.get(more=header(pki.tax.der))
        answer = connection.get()
        assert (answer.status, answer.json()["rule"]) == (401, "client-certificate")


@pytest.mark.parametrize(
    "more",
    [
        "Client-Cert: nonsense\r\n",
        "Client-Cert: ::\r\n",
        "Client-Cert-Chain: :AAAA:\r\n",
        "Client-Cert: :AAAA:\r\nClient-Cert: :AAAA:\r\n",
    ],
)
def test_a_terminator_that_breaks_rfc_9440_is_refused(pki: Pki, more: str) -> None:
    trust = TerminatorTrust(fingerprints=[pki.member.fingerprint])
    with running_edge(pki, terminators=lambda: trust) as edge, edge.connect(pki.member) as connection:
        answer = connection.get(more=more)
        assert (answer.status, answer.json()["rule"]) == (401, "client-cert-header")


def test_what_a_terminator_hands_over_is_examined_like_any_other(pki: Pki) -> None:
    trust = TerminatorTrust(fingerprints=[pki.member.fingerprint])
    with running_edge(pki, terminators=lambda: trust) as edge:
        for der, rule in ((pki.stranger.der, "certificate-signature"), (b"junk", "certificate-malformed")):
            with edge.connect(pki.member) as connection:
                answer = connection.get(more=header(der))
                assert (answer.status, answer.json()["rule"]) == (401, rule)


def test_a_terminator_that_is_no_longer_trusted_loses_its_word_on_an_open_connection(pki: Pki) -> None:
    trusted = [TerminatorTrust(fingerprints=[pki.member.fingerprint])]
    with running_edge(pki, terminators=lambda: trusted[-1]) as edge, edge.connect(pki.member) as connection:
        assert connection.get(more=header(pki.tax.der)).json()["fingerprint"] == pki.tax.fingerprint
        trusted.append(TerminatorTrust())
        said = connection.get(more=header(pki.tax.der)).json()
        assert (said["fingerprint"], said["spoken_for"]) == (pki.member.fingerprint, False)


def test_a_terminators_own_certificate_has_to_count_for_every_request(pki: Pki) -> None:
    trust = TerminatorTrust(fingerprints=[pki.member.fingerprint])
    with running_edge(pki, terminators=lambda: trust) as edge, edge.connect(pki.member) as connection:
        assert connection.get(more=header(pki.tax.der)).status == 200
        edge.authenticator.disable(pki.member.fingerprint)
        answer = connection.get(more=header(pki.tax.der))
        assert (answer.status, answer.json()["rule"]) == (401, "certificate-disabled")


@pytest.mark.parametrize("name", ["Client-Cert", "client-cert", "CLIENT-CERT"])
def test_nobody_else_speaks_for_others(pki: Pki, name: str) -> None:
    trust = TerminatorTrust(fingerprints=[pki.member.fingerprint])
    with running_edge(pki, terminators=lambda: trust) as edge, edge.connect(pki.tax) as connection:
        assert connection.get(more=header(pki.member.der, name=name)).json()["fingerprint"] == pki.tax.fingerprint
    with running_edge(pki) as edge, edge.connect(pki.member) as connection:
        assert connection.get(more=header(pki.tax.der, name=name)).json()["fingerprint"] == pki.member.fingerprint


def test_a_terminators_heads_may_be_larger_and_no_one_elses(pki: Pki) -> None:
    more = header(pki.tax.der) + header(*[bytes(8000)] * 3, name="Client-Cert-Chain")
    trust = TerminatorTrust(fingerprints=[pki.member.fingerprint])
    with running_edge(pki, terminators=lambda: trust) as edge, edge.connect(pki.member) as connection:
        assert connection.get(more=more).json()["fingerprint"] == pki.tax.fingerprint
    with running_edge(pki) as edge, edge.connect(pki.member) as connection:
        assert connection.get(more=more).status == 431
