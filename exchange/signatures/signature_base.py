"""The bytes that a request signature is over (RFC 9421 section 2.5), built from a request. Pure.

Rules:
1. Known components: `@method`, `@authority`, `@path`, `@query`, `@request-target`, `@target-uri`, `@scheme`, and header
   fields. The only parameter is `;bs` on a field (section 2.1.3). Everything else is refused: what we do not understand
   we cannot say was signed.
2. A base is ASCII, and a field's value on its line holds printable characters and tabs only. A value with others (a
   purpose in Chinese) is covered with `;bs`, as RFC 9421 wants it.
3. Every name is lower-case and stands once, with or without `;bs`.
4. Parameters are `created`, `expires`, `nonce`, `keyid`, `alg` and `tag`, each of its type and at most once. Strings hold
   visible characters and spaces but no `"` and no backslash, so that there is one spelling.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

MAX_COMPONENTS: Final = 64

_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_TEXT: Final = re.compile(r"[ !#-\[\]-~]*")
PARAMETERS_LINE: Final = b'"@signature-params": '
_OWS: Final = b" \t"
_FIELD_BYTES: Final = bytes([9, *range(32, 127)])
_DERIVED_BYTES: Final = bytes(range(33, 127))
_DEFAULT_PORTS: Final = {"https": b":443", "http": b":80"}
_TYPES: Final = {"created": int, "expires": int, "nonce": str, "keyid": str, "alg": str, "tag": str}


class SignatureBaseError(ValueError):
    """There is no such base, or it is not what it should be. `component` names the one concerned, or is empty."""

    def __init__(self, problem: str, *, component: str = "") -> None:
        super().__init__(problem)
        self.component = component


class Component(NamedTuple):
    """A covered component."""

    name: str
    wrapped: bool = False
    """`;bs`: each line of the field as a byte sequence."""

    @property
    def identifier(self) -> str:
        """As it stands in the base and in Signature-Input."""
        return f'"{self.name}";bs' if self.wrapped else f'"{self.name}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The components and parameters of one signature, in their order."""

    components: tuple[Component, ...]
    values: Mapping[str, int | str]

    @property
    def text(self) -> str:
        """As in Signature-Input behind the label, and in the last line of the base (RFC 9421 section 2.3)."""
        inner = " ".join([component.identifier for component in self.components])
        parts = [
            f";{name}={value}" if isinstance(value, int) else f';{name}="{value}"'
            for name, value in self.values.items()
        ]
        return f"({inner}){''.join(parts)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParts:
    """What components are taken from."""

    method: str
    authority: bytes
    """The Host header's value, or what stands for it."""
    path: bytes
    """Raw, as in the request line."""
    query: bytes
    """Raw, without `?`."""
    fields: Mapping[bytes, Sequence[bytes]]
    """Name in lower case -> values of its lines."""
    scheme: str = "https"

    def value(self, component: Component) -> bytes:
        """The value of a component; raises SignatureBaseError if there is none."""
        name = component.name
        if name.startswith("@"):
            value = self._derived(name)
            if value.translate(None, _DERIVED_BYTES):
                raise SignatureBaseError(f"{name} holds characters that a base cannot hold", component=name)
            return value
        lines = self.fields.get(name.encode())
        if not lines:
            raise SignatureBaseError(f"{name} is covered and not in the request", component=name)
        if component.wrapped:
            return b", ".join([b":%b:" % base64.b64encode(line.strip(_OWS)) for line in lines])
        value = b", ".join([line.strip(_OWS) for line in lines])
        if value.translate(None, _FIELD_BYTES):
            raise SignatureBaseError(f'{name} is not plain ASCII: cover it as "{name}";bs', component=name)
        return value

    def _derived(self, name: str) -> bytes:
        path = self.path or b"/"
        match name:
            case "@method" if self.method.isascii():
                return self.method.encode()
            case "@authority":
                return self._normal_authority()
            case "@path":
                return path
            case "@query":
                return b"?" + self.query
            case "@request-target":
                return path + b"?" + self.query if self.query else path
            case "@target-uri":
                target = path + b"?" + self.query if self.query else path
                return b"%b://%b%b" % (self.scheme.encode(), self._normal_authority(), target)
            case "@scheme":
                return self.scheme.encode()
        raise SignatureBaseError(f"{name} has no value here", component=name)

    def _normal_authority(self) -> bytes:
        return self.authority.strip(_OWS).lower().removesuffix(_DEFAULT_PORTS[self.scheme])


def fields_of(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """Headers, names in lower case, as `RequestParts` wants them."""
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in fields:
            fields[name].append(value)
        else:
            fields[name] = [value]
    return fields


def signature_base(parts: RequestParts, parameters: Parameters) -> bytes:
    """The bytes to sign; raises SignatureBaseError if a component has no value."""
    lines = [b"%b: %b\n" % (each.identifier.encode(), parts.value(each)) for each in parameters.components]
    lines += (PARAMETERS_LINE, parameters.text.encode())
    return b"".join(lines)


def read_parameters(member: Any) -> Parameters:
    """One member of a parsed Signature-Input; raises SignatureBaseError if it breaks rule 1, 3 or 4.

    Args:
        member: What `http_sf` makes of it: an inner list with parameters.
    """
    if not (isinstance(member, tuple) and isinstance(member[0], list)):
        raise SignatureBaseError("a signature's input is a list of components in parentheses")
    items, values = member
    if len(items) > MAX_COMPONENTS:
        raise SignatureBaseError(f"more than {MAX_COMPONENTS} components")
    components = []
    names = set()
    for name, own in items:
        if not isinstance(name, str) or not _NAME.fullmatch(name.removeprefix("@")):
            raise SignatureBaseError("a component is a lower-case name in double quotes")
        if own and (own != {"bs": True} or name.startswith("@")):
            raise SignatureBaseError(f"{name}: of the parameters of components only ;bs on fields is supported")
        if name in names:
            raise SignatureBaseError(f"{name} is covered twice", component=name)
        names.add(name)
        components.append(Component(name, bool(own)))
    for name, value in values.items():
        wanted = _TYPES.get(name)
        if wanted is None:
            raise SignatureBaseError("only the parameters created, expires, nonce, keyid, alg and tag are supported")
        if type(value) is not wanted or (isinstance(value, str) and not _TEXT.fullmatch(value)):
            raise SignatureBaseError(f"the parameter {name} is not of its form")
    return Parameters(components=tuple(components), values=values)
