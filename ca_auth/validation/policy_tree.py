"""Certificate policies along a path (RFC 5280 sections 6.1.2 to 6.1.5, in the bounded form of RFC 9618). Pure.

The mesh asks for no policy of its own, so a path is refused only if a CA in it requires one (policy constraints) that
does not hold down to the leaf. RFC 9618 keeps a graph instead of a tree; as nothing ever asks for more than its deepest
level, one level is kept here, and each node remembers whether a way to it begins with a policy the caller wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import CertificatePoliciesOID

from ca_auth.validation import der
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.rejection import ChainRefusedError, refusal

POLICY_MAPPINGS: Final = "2.5.29.33"
ANY_POLICY: Final = CertificatePoliciesOID.ANY_POLICY.dotted_string


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInputs:
    """What the caller asks of certificate policies (RFC 5280 section 6.1.1 (c), (e), (f), (g))."""

    wanted: frozenset[str] = frozenset({ANY_POLICY})
    """Dotted identifiers: user-initial-policy-set."""
    explicit: bool = False
    inhibit_mapping: bool = False
    inhibit_any: bool = False


@dataclass(slots=True)
class _Node:
    expected: set[str]
    wanted: bool


_Level = dict[str, _Node]


def check_policies(path: Sequence[PathCertificate], inputs: PolicyInputs) -> None:
    """Check the policies of a path.

    Args:
        path: Leaf first, trust anchor last; the anchor's own policies do not count.
        inputs: What the caller asks.

    Raises:
        ChainRefusedError: Rule `certificate-policies`.
    """
    certificates = list(reversed(path[:-1]))
    count = len(certificates)
    explicit = 0 if inputs.explicit else count + 1
    mapping = 0 if inputs.inhibit_mapping else count + 1
    inhibit_any = 0 if inputs.inhibit_any else count + 1
    level: _Level = {ANY_POLICY: _Node({ANY_POLICY}, True)}
    for index, certificate in enumerate(certificates, start=1):
        last = index == count
        may_use_any = inhibit_any > 0 or (not last and certificate.is_self_issued)
        level = _next_level(certificate, level, inputs, may_use_any)
        if explicit == 0 and not level:
            raise _refused(certificate)
        if not last:
            level = _map(certificate, level, inputs, permitted=mapping > 0)
        if last or not certificate.is_self_issued:
            explicit, mapping, inhibit_any = (max(each - 1, 0) for each in (explicit, mapping, inhibit_any))
        constraints = certificate.get(x509.PolicyConstraints)
        if constraints is not None:
            required, inhibited = constraints.require_explicit_policy, constraints.inhibit_policy_mapping
            if required is not None and (not last or required == 0):
                explicit = min(explicit, required)
            if inhibited is not None:
                mapping = min(mapping, inhibited)
        skip = certificate.get(x509.InhibitAnyPolicy)
        if skip is not None:
            inhibit_any = min(inhibit_any, skip.skip_certs)
    if explicit == 0 and not any(node.wanted for node in level.values()):
        raise _refused(path[0])


def _next_level(certificate: PathCertificate, above: _Level, inputs: PolicyInputs, may_use_any: bool) -> _Level:
    """Section 6.1.3 (d) and (e)."""
    policies = certificate.get(x509.CertificatePolicies)
    if policies is None or not above:
        return {}
    named = {policy.policy_identifier.dotted_string for policy in policies}
    level: _Level = {}
    for policy in named - {ANY_POLICY}:
        parents = [node for node in above.values() if policy in node.expected]
        if parents:
            level[policy] = _Node({policy}, any(node.wanted for node in parents))
        elif ANY_POLICY in above:
            level[policy] = _Node({policy}, _is_wanted(policy, inputs))
    if ANY_POLICY in named and may_use_any:
        for node in above.values():
            for policy in node.expected - named:
                level.setdefault(policy, _Node({policy}, False)).wanted |= node.wanted
        if ANY_POLICY in above:
            level[ANY_POLICY] = _Node({ANY_POLICY}, True)
    return level


def _map(certificate: PathCertificate, level: _Level, inputs: PolicyInputs, *, permitted: bool) -> _Level:
    """Section 6.1.4 (a) and (b)."""
    mappings: dict[str, set[str]] = {}
    for theirs, ours in _mappings(certificate):
        if ANY_POLICY in (theirs, ours):
            raise refusal(
                "certificate-policies",
                certificate.label,
                "It maps a certificate policy to or from anyPolicy.",
                "其策略映射涉及 anyPolicy。",
            )
        mappings.setdefault(theirs, set()).add(ours)
    for policy, subjects in mappings.items():
        if not permitted:
            level.pop(policy, None)
        elif policy in level:
            level[policy].expected = subjects
        elif ANY_POLICY in level:
            level[policy] = _Node(subjects, _is_wanted(policy, inputs))
    return level


def _mappings(certificate: PathCertificate) -> list[tuple[str, str]]:
    raw = certificate.raw_extensions.get(POLICY_MAPPINGS)
    if raw is None:
        return []
    try:
        return [
            (der.dotted(issuers), der.dotted(subjects))
            for issuers, subjects in (der.elements(mapping.content) for mapping in der.sequence(raw))
        ]
    except ValueError as error:
        raise refusal(
            "certificate-malformed",
            certificate.label,
            "Its policy mappings cannot be read.",
            "其策略映射无法解析。",
        ) from error


def _is_wanted(policy: str, inputs: PolicyInputs) -> bool:
    return policy in inputs.wanted or ANY_POLICY in inputs.wanted


def _refused(certificate: PathCertificate) -> ChainRefusedError:
    return refusal(
        "certificate-policies",
        certificate.label,
        "A CA above it requires a certificate policy that does not hold along the path.",
        "上级 CA 要求的证书策略在该路径上不成立。",
    )
