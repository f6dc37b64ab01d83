"""Profile `datong-uri`, which our own CAs use: the identity is a URI in the subject alternative name. Pure.

Rules, beside those of `ca_auth.profiles.identity`:
1. The subject alternative name holds exactly one URI `datong:instance/class/member[/subsystem]`, each part
   percent-encoded in its one canonical spelling. Other names carry no authority. A second `datong:` URI is refused, in
   whatever case, since two readers might choose differently (the bus maps its users by the same URI).

Not checked here: the path to a trust anchor, validity, revocation (see `ca_auth.authenticator`).
"""

from __future__ import annotations

from typing import Final

from cryptography import x509

from ca_auth.profiles.identity import UNREADABLE, Identity, breach, check_purpose, extension_of
from exchange import MemberId, SubsystemId, from_wire, member_id, member_of, subsystem_id, to_wire

URI_SCHEME: Final = "datong:"


def identity_uri(identifier: MemberId | SubsystemId) -> str:
    """The URI that names a member or subsystem in a certificate."""
    return URI_SCHEME + to_wire(identifier)


def identity_of(certificate: x509.Certificate) -> Identity:
    """Return whom the certificate names.

    Raises:
        UnauthenticatedError: It breaks the profile; rule `certificate-profile`, and the text says what is wrong.
    """
    uris = uris_of(check_purpose(certificate))
    if len(uris) != 1:
        raise breach(
            f"it names {len(uris)} members of the mesh (URI datong:...) instead of one",
            f"它包含 {len(uris)} 个平台成员标识（URI datong:...），应当恰好一个",
        )
    return _parse(uris[0])


def uris_of(extensions: x509.Extensions) -> list[str]:
    """The URIs of the mesh in a subject alternative name, in whatever case and number.

    Raises:
        UnauthenticatedError: The extension cannot be read.
    """
    try:
        names = extension_of(extensions, x509.SubjectAlternativeName)
        uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    except UNREADABLE as error:
        raise breach("its alternative names cannot be read", "主体备用名称无法解析") from error
    return [uri for uri in uris if uri.lower().startswith(URI_SCHEME)]


def _parse(uri: str) -> Identity:
    try:
        identifier = from_wire(uri.removeprefix(URI_SCHEME))
        if identifier.count("/") == 2:
            identity = Identity(member_id(identifier))
        else:
            subsystem = subsystem_id(identifier)
            identity = Identity(member_of(subsystem), subsystem)
        if identity_uri(identity.subsystem or identity.member) != uri:
            raise ValueError("not the canonical spelling")
    except ValueError as error:
        raise breach(
            "the identifier in its URI datong:... is malformed", "URI datong:... 中的标识格式不正确"
        ) from error
    return identity
