"""The named certificate profiles: which field of a certificate says whom it names. The trust file picks one per anchor.

`docs/profiles/` has a page for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from cryptography import x509

from ca_auth.profiles import profile_gmt0015, profile_organization_identifier, profile_subject_serial_number
from ca_auth.profiles.identity import Identity
from ca_auth.profiles.naming import Naming
from ca_auth.profiles.profile import identity_of

DEFAULT: Final = "datong-uri"


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to read an identity out of a certificate."""

    name: str
    _read: Callable[[x509.Certificate, Naming], Identity]

    def identity(self, certificate: x509.Certificate, naming: Naming) -> Identity:
        """Return whom `certificate` names by this profile. Pure; checks no path, date or revocation.

        Raises:
            UnauthenticatedError: Rule `certificate-profile`: it does not say, or says wrongly, what the profile wants.
                Rule `certificate-member`: the organisation that it names is no member.
        """
        return replace(self._read(certificate, naming), profile=self.name)


def _by_uri(certificate: x509.Certificate, naming: Naming) -> Identity:
    return identity_of(certificate)


PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(DEFAULT, _by_uri),
            Profile(profile_organization_identifier.NAME, profile_organization_identifier.identity),
            Profile(profile_gmt0015.NAME, profile_gmt0015.identity),
            Profile(profile_subject_serial_number.NAME, profile_subject_serial_number.identity),
        )
    }
)
"""Every profile by its name in the trust file and in `datong ca check --profile`."""
