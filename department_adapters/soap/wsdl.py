"""WSDL 1.1 with SOAP 1.1 or 1.2 over HTTP: what a service can be asked, and what stands in the messages.

Rules:
1. Documents are files: those the WSDL refers to lie in its folder or below, or are named one by one. Nothing is fetched,
   so that what an adapter asks and tells does not change under the department's feet.
2. Styles are document/literal (wrapped or not) and rpc/literal, as WS-I Basic Profile has them. An operation in another form
   is left out, with the reason; whoever names it is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

from department_adapters.soap.markup import XmlError, local_name, parse
from department_adapters.soap.model import Complex, ElementParticle, Group, SchemaError
from department_adapters.soap.schema import NAMES_IN, Schemas, xsd

WSDL = "http://schemas.xmlsoap.org/wsdl/"
SoapVersion = Literal["1.1", "1.2"]
_BINDINGS: dict[str, SoapVersion] = {
    "http://schemas.xmlsoap.org/wsdl/soap/": "1.1",
    "http://schemas.xmlsoap.org/wsdl/soap12/": "1.2",
}
ENVELOPES: dict[SoapVersion, str] = {
    "1.1": "http://schemas.xmlsoap.org/soap/envelope/",
    "1.2": "http://www.w3.org/2003/05/soap-envelope",
}
"""Namespaces of envelopes."""
_TRANSPORTS = ("http://schemas.xmlsoap.org/soap/http", "http://www.w3.org/2003/05/soap/bindings/HTTP/")
MAX_DOCUMENT = 16 << 20
MAX_DOCUMENTS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of a service. None for a message: its body is empty."""

    name: str
    action: str
    """Of the SOAPAction header, or the `action` parameter of SOAP 1.2."""
    question: ElementParticle | None
    answer: ElementParticle | None
    answer_named: bool
    """Whether the answer's element must have its name; in rpc style the name is a custom only."""
    documentation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wsdl:
    """A service as one of its ports offers it."""

    service: str
    port: str
    soap: SoapVersion
    address: str
    documentation: str
    operations: Mapping[str, Operation]
    unsupported: Mapping[str, str]
    """Operations that cannot be offered -> why."""

    def operation(self, name: str) -> Operation:
        """Raises SchemaError: there is none of this name, or it cannot be offered."""
        if name in self.unsupported:
            raise SchemaError(f"the operation {name!r} cannot be offered: {self.unsupported[name]}")
        try:
            return self.operations[name]
        except KeyError:
            known = ", ".join(sorted(self.operations)) or "none"
            raise SchemaError(f"the WSDL has no operation {name!r}; it has: {known}") from None


def load_wsdl(path: Path, *, port: str = "", documents: Mapping[str, Path] | None = None) -> Wsdl:
    """Read a WSDL and the schemas it refers to.

    Args:
        port: Name of the port to use; empty: the first one with SOAP over HTTP.
        documents: Location as it stands in an import -> the file that was saved from there.

    Raises:
        SchemaError: A document cannot be read or used, or there is no such port. The message names the place.
    """
    reading = _Reading(path, documents or {})
    try:
        return reading.wsdl(port)
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from error


class _Documents:
    """Files that documents refer to."""

    def __init__(self, folder: Path, elsewhere: Mapping[str, Path]) -> None:
        self._folder = folder
        self._elsewhere = elsewhere
        self._read: dict[Path, Element] = {}

    def __call__(self, location: str, base: str) -> tuple[str, Element]:
        path = self._elsewhere.get(location)
        if path is None:
            if urlsplit(location).scheme not in ("", "file") or location.startswith("//"):
                raise SchemaError(f"{location} is not fetched: save it as a file and name that under `documents`")
            path = (Path(base).parent / unquote(urlsplit(location).path)).resolve()
            if not path.is_relative_to(self._folder):
                raise SchemaError(
                    f"{location} lies outside the folder of the WSDL; name it under `documents` if it is meant"
                )
        return str(path), self.root(path)

    def root(self, path: Path) -> Element:
        if path not in self._read:
            if len(self._read) >= MAX_DOCUMENTS:
                raise SchemaError(f"more than {MAX_DOCUMENTS} documents refer to each other")
            try:
                with path.open("rb") as file:
                    content = file.read(MAX_DOCUMENT + 1)
                if len(content) > MAX_DOCUMENT:
                    raise SchemaError(f"{path.name} is larger than {MAX_DOCUMENT} bytes")
                self._read[path] = parse(content, NAMES_IN)
            except OSError as error:
                raise SchemaError(f"{path.name}: {error.strerror}") from error
            except XmlError as error:
                raise SchemaError(f"{path.name}: {error}") from error
        return self._read[path]


def _wsdl(name: str) -> str:
    return f"{{{WSDL}}}{name}"


class _Reading:
    """What the documents declare, collected, then joined."""

    def __init__(self, path: Path, elsewhere: Mapping[str, Path]) -> None:
        self._path = path.resolve()
        self._documents = _Documents(self._path.parent, {name: each.resolve() for name, each in elsewhere.items()})
        self._schemas = Schemas(self._documents)
        self._declared: dict[tuple[str, str], Element] = {}
        self._services: list[Element] = []
        self._wrappers: list[Complex] = []
        self._seen: set[str] = set()

    def wsdl(self, wanted: str) -> Wsdl:
        self._take(self._documents.root(self._path), str(self._path))
        service, port, binding, soap = self._chosen(wanted)
        ns = port_namespace(binding)
        address = port.find(f"{{{ns}}}address")
        operations: dict[str, Operation] = {}
        unsupported: dict[str, str] = {}
        for node in binding.findall(_wsdl("operation")):
            name = node.get("name", "")
            if name in operations or name in unsupported:
                operations.pop(name, None)
                unsupported[name] = "several operations have this name"
                continue
            try:
                operations[name] = self._operation(node, binding, ns)
            except SchemaError as error:
                unsupported[name] = str(error)
        self._schemas.finish()
        for wrapper in self._wrappers:
            wrapper.index()
        for name, each in list(operations.items()):
            if why := _unwritable(each.question):
                unsupported[name] = f"its input cannot be written: {why}"
                del operations[name]
        return Wsdl(
            service=service.get("name", ""),
            port=port.get("name", ""),
            soap=soap,
            address=(address.get("location") or "") if address is not None else "",
            documentation=_documentation(service) or _documentation(self._documents.root(self._path)),
            operations=operations,
            unsupported=unsupported,
        )

    def _take(self, root: Element, location: str) -> None:
        if root.tag == xsd("schema"):
            self._schemas.add(root, location)
            return
        if root.tag != _wsdl("definitions"):
            raise SchemaError(f"{Path(location).name} is no WSDL 1.1, its root is {root.tag}")
        own = root.get("targetNamespace", "")
        for node in root:
            kind = local_name(node.tag)
            if kind == "import" and node.get("location"):
                found, imported = self._documents(node.get("location", ""), location)
                if found not in self._seen:
                    self._seen.add(found)
                    self._take(imported, found)
            elif kind == "types":
                for schema in node.findall(xsd("schema")):
                    self._schemas.add(schema, location)
            elif kind in ("message", "portType", "binding"):
                name = node.get("name", "")
                self._declared[kind, f"{{{own}}}{name}" if own else name] = node
            elif kind == "service":
                self._services.append(node)

    def _declaration(self, kind: str, name: str | None) -> Element:
        try:
            return self._declared[kind, name or ""]
        except KeyError:
            raise SchemaError(f"the {kind} {name} is referred to and nowhere declared") from None

    def _chosen(self, wanted: str) -> tuple[Element, Element, Element, SoapVersion]:
        usable: list[str] = []
        for service in self._services:
            for port in service.findall(_wsdl("port")):
                binding = self._declaration("binding", port.get("binding"))
                ns = port_namespace(binding)
                if not ns:
                    continue
                if wanted in ("", port.get("name")):
                    return service, port, binding, _BINDINGS[ns]
                usable.append(port.get("name", ""))
        if wanted:
            raise SchemaError(f"it has no port {wanted!r} with SOAP over HTTP; it has: {', '.join(usable) or 'none'}")
        raise SchemaError("it has no port with SOAP over HTTP")

    def _operation(self, node: Element, binding: Element, ns: str) -> Operation:
        name = node.get("name", "")
        abstract = self._abstract(binding, name)
        soap = node.find(f"{{{ns}}}operation")
        outer = binding.find(f"{{{ns}}}binding")
        style = "document"
        for each in (outer, soap):
            style = each.get("style", style) if each is not None else style
        if style not in ("document", "rpc"):
            raise SchemaError(f"its style is {style!r}")
        asked = self._message(node, abstract, "input", ns, style, name)
        told = self._message(node, abstract, "output", ns, style, f"{name}Response")
        return Operation(
            name=name,
            action=soap.get("soapAction", "") if soap is not None else "",
            question=asked,
            answer=told,
            answer_named=style == "document",
            documentation=_documentation(abstract) or _documentation(node),
        )

    def _abstract(self, binding: Element, name: str) -> Element:
        port_type = self._declaration("portType", binding.get("type"))
        found = [each for each in port_type.findall(_wsdl("operation")) if each.get("name") == name]
        if len(found) != 1:
            raise SchemaError("several operations have this name" if found else "its port type does not have it")
        return found[0]

    def _message(
        self, node: Element, abstract: Element, direction: str, ns: str, style: str, wrapper: str
    ) -> ElementParticle | None:
        reference = abstract.find(_wsdl(direction))
        if reference is None:
            if direction == "input":
                raise SchemaError("it begins with the service, which nobody can ask for")
            return None
        bound = node.find(_wsdl(direction))
        body = bound.find(f"{{{ns}}}body") if bound is not None else None
        if body is None:
            raise SchemaError(f"its {direction} is no plain SOAP body (MIME attachments are not supported)")
        if body.get("use", "literal") != "literal":
            raise SchemaError(f"its {direction} is SOAP-encoded; only literal messages are supported")
        message = self._declaration("message", reference.get("message"))
        wanted = body.get("parts")
        in_header = {each.get("part") for each in bound.findall(f"{{{ns}}}header")} if bound is not None else set()
        parts = [
            part
            for part in message.findall(_wsdl("part"))
            if (part.get("name") in wanted.split() if wanted is not None else part.get("name") not in in_header)
        ]
        if style == "rpc":
            return self._rpc(parts, body.get("namespace", ""), wrapper)
        if not parts:
            return None
        if len(parts) > 1 or not (element := parts[0].get("element")):
            raise SchemaError(f"its {direction} is not one element, as document/literal wants it")
        return self._schemas.element(element)

    def _rpc(self, parts: list[Element], own: str, wrapper: str) -> ElementParticle:
        particles = []
        for part in parts:
            name, kind = part.get("name"), part.get("type")
            if not name or not kind:
                raise SchemaError("a part of an rpc message has a name and a type")
            particles.append(ElementParticle(name=name, type=self._schemas.type(kind)))
        made = Complex(content=Group(kind="sequence", particles=tuple(particles)))
        self._wrappers.append(made)
        return ElementParticle(name=f"{{{own}}}{wrapper}" if own else wrapper, type=made)


def port_namespace(binding: Element) -> str:
    """The namespace of a binding's SOAP extension; empty if it is not SOAP over HTTP."""
    for ns in _BINDINGS:
        node = binding.find(f"{{{ns}}}binding")
        if node is not None and node.get("transport") in _TRANSPORTS:
            return ns
    return ""


def _unwritable(element: ElementParticle | None) -> str:
    """Why a question cannot be written whatever is given; empty if it can."""
    seen: set[Complex] = set()
    waiting = [element.type] if element is not None else []
    while waiting:
        each = waiting.pop()
        if isinstance(each, Complex) and each not in seen:
            seen.add(each)
            if each.unwritable:
                return each.unwritable
            waiting += [member.element.type for member in each.members.values()]
            waiting += each.derived
    return ""


def _documentation(node: Element) -> str:
    found = node.find(_wsdl("documentation"))
    return re.sub(r"\s+", " ", "".join(found.itertext())).strip() if found is not None else ""
