"""What a CA may issue: the limits its operator set, and those of its own certificate. Pure."""

from __future__ import annotations

import ipaddress

from cryptography import x509

from ca_auth.issuing.ca_folder import refused
from ca_auth.issuing.ca_settings import CaSettings
from ca_auth.issuing.issuance import CertificateRequest


def granted_days(
    request: CertificateRequest, days: float | None, settings: CaSettings, issuer: x509.Certificate
) -> float:
    """Return for how many days the certificate may be issued.

    Args:
        days: As asked for; None: the default.

    Raises:
        CaOperationError: The request is outside of the limits; rule `ca-request`.
    """
    granted = settings.default_days if days is None else days
    if not 0 < granted <= settings.max_days:
        raise refused(
            "ca-request",
            f"This CA issues for at most {settings.max_days:g} days (ca.toml).",
            f"本 CA 签发的证书最长 {settings.max_days:g} 天（见 ca.toml）。",
        )
    permitted, identity = settings.permit_members, request.identity
    if permitted and identity is not None and not any(f"{identity}/".startswith(f"{each}/") for each in permitted):
        raise refused(
            "ca-request",
            f"This CA issues for {', '.join(permitted)} only (ca.toml), not for {identity}.",
            f"本 CA 只为 {', '.join(permitted)} 签发（见 ca.toml），不包括 {identity}。",
        )
    limits = _dns_limits(issuer)
    for name in request.server_names:
        if limits is not None and not _is_address(name) and not any(_within(name, each) for each in limits):
            raise refused(
                "ca-request",
                f"The certificate of this CA limits it to {', '.join(limits)}; {name} is outside.",
                f"本 CA 的证书限定其只能用于 {', '.join(limits)}，不包括 {name}。",
            )
    return granted


def _dns_limits(certificate: x509.Certificate) -> list[str] | None:
    try:
        limits = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    return [each.value for each in limits.permitted_subtrees or () if isinstance(each, x509.DNSName)] or None


def _within(name: str, limit: str) -> bool:
    return f".{name.lower()}".endswith(f".{limit.lower().lstrip('.')}")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
