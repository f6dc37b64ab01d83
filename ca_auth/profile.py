"""The certificate profile of the mesh: what a caller's certificate must say, and whom it names. Pure.

Rules:
1. The subject alternative name holds exactly one URI `datong:instance/class/member[/subsystem]`, each part
   percent-encoded in its one canonical spelling. Other names carry no authority. A second `datong:` URI is refused, in
   whatever case, since two readers might choose differently (the bus maps its users by the same URI).
2. It is not a CA certificate.
3. If it has a key usage, that includes digitalSignature; if it has extended key usages, they include clientAuth.
4. Its extensions can be parsed and none occurs twice.

Not checked here: the path to a trust anchor, validity, revocation (see `ca_auth.authenticator`).
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from exchange import MemberId, SubsystemId, UnauthenticatedError, from_wire, member_id, member_of, subsystem_id, to_wire

URI_SCHEME = "datong:"

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class Identity(NamedTuple):
    """Whom a certificate names."""

    member: MemberId
    subsystem: SubsystemId | None


def identity_uri(identifier: MemberId | SubsystemId) -> str:
    """The URI that names a member or subsystem in a certificate."""
    return URI_SCHEME + to_wire(identifier)


def identity_of(certificate: x509.Certificate) -> Identity:
    """Return whom the certificate names.

    Raises:
        UnauthenticatedError: It breaks the profile; rule `certificate-profile`, and the text says what is wrong.
    """
    try:
        extensions = certificate.extensions
        constraints = _value(extensions, x509.BasicConstraints)
        usage = _value(extensions, x509.KeyUsage)
        purposes = _value(extensions, x509.ExtendedKeyUsage)
        names = _value(extensions, x509.SubjectAlternativeName)
        uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    except (ValueError, x509.DuplicateExtension) as error:
        raise _breach("its extensions cannot be read", "扩展项无法解析") from error
    if constraints is not None and constraints.ca:
        raise _breach("it is a CA certificate", "它是 CA 证书")
    if usage is not None and not usage.digital_signature:
        raise _breach("its key usage lacks digitalSignature", "密钥用法缺少 digitalSignature")
    if purposes is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise _breach("its extended key usage lacks clientAuth", "扩展密钥用法缺少 clientAuth")
    ours = [uri for uri in uris if uri.lower().startswith(URI_SCHEME)]
    if len(ours) != 1:
        raise _breach(
            f"it names {len(ours)} members of the mesh (URI datong:...) instead of one",
            f"它包含 {len(ours)} 个平台成员标识（URI datong:...），应当恰好一个",
        )
    return _parse(ours[0])


def _parse(uri: str) -> Identity:
    try:
        identifier = from_wire(uri.removeprefix(URI_SCHEME))
        if identifier.count("/") == 2:
            identity = Identity(member_id(identifier), None)
        else:
            subsystem = subsystem_id(identifier)
            identity = Identity(member_of(subsystem), subsystem)
        if identity_uri(identity.subsystem or identity.member) != uri:
            raise ValueError("not the canonical spelling")
    except ValueError as error:
        raise _breach(
            "the identifier in its URI datong:... is malformed", "URI datong:... 中的标识格式不正确"
        ) from error
    return identity


def _value(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _breach(english: str, chinese: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        "certificate-profile",
        problem=f"The certificate breaks the profile of the mesh: {english}.",
        problem_zh=f"证书不符合平台的证书规范：{chinese}。",
    )
