"""SOAP envelopes that answer, read into JSON values, and faults.

Rules:
1. Elements and attributes that the schema does not know are left out: what nobody declared does not leave the department.
   What the schema requires and is not there, or has not the form of its type, is an error.
2. A repeated element is always an array, `xsi:nil` is null, text of mixed content is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

from department_adapters.soap import values
from department_adapters.soap.markup import NIL, XSI_TYPE, XmlError, local_name, parse
from department_adapters.soap.model import TEXT, TYPE, Complex, ElementParticle, Member, Simple
from department_adapters.soap.wsdl import ENVELOPES, Operation


@dataclass(frozen=True, slots=True)
class Fault:
    """What a service says when it does not do what it was asked."""

    code: str
    """Local name: `Client`, `Server`, those of SOAP 1.2 told as these."""
    names: tuple[str, ...]
    """By which it can be known, the most telling first: of the elements in the detail, of the subcodes, of the code."""
    text: str
    """For the department's own log."""


def read_answer(operation: Operation, document: bytes, charset: str = "") -> object | Fault:
    """What an envelope tells: members as for questions, None for an empty answer, or a fault.

    Args:
        charset: Encoding that came with the document, for one that does not tell it.

    Raises:
        XmlError: It is no SOAP envelope, or its body is not what the WSDL says. The message holds no values.
    """
    root = parse(document, charset=charset)
    soap = next((version for version, ns in ENVELOPES.items() if root.tag == f"{{{ns}}}Envelope"), None)
    if soap is None:
        raise XmlError("the answer is no SOAP envelope")
    ns = ENVELOPES[soap]
    body = root.find(f"{{{ns}}}Body")
    if body is None:
        raise XmlError("the envelope has no body")
    fault = body.find(f"{{{ns}}}Fault")
    if fault is not None:
        return _fault_11(fault) if soap == "1.1" else _fault_12(fault, ns)
    expected = operation.answer
    if expected is None:
        return None
    found = next((each for each in body if each.tag == expected.name or not operation.answer_named), None)
    if found is None:
        raise XmlError(f"the body does not hold {expected.name}")
    value = _Reader.element(expected, found)
    return {local_name(expected.name): value} if isinstance(expected.type, Simple) else value


class _Reader:
    """Reads elements into JSON values."""

    @classmethod
    def element(cls, element: ElementParticle, node: Element) -> object:
        if node.get(NIL) in ("true", "1"):
            return None
        kind = element.type
        if isinstance(kind, Simple):
            if len(node):
                raise XmlError(f"{element.name} holds elements, and its type is a text")
            return _value(kind, node.text or "", element.name)
        if kind.anything:
            return _anything(node)
        return cls._complex(kind, node)

    @classmethod
    def _complex(cls, kind: Complex, node: Element) -> dict[str, object]:
        value: dict[str, object] = {}
        if named := node.get(XSI_TYPE):
            actual = next((each for each in kind.variants() if each.name == named), None)
            if actual is None:
                raise XmlError(f"{node.tag} says that its type is one which may not stand there")
            if actual is not kind:
                value[TYPE] = local_name(actual.name)
                kind = actual
        elif kind.abstract:
            raise XmlError(f"{node.tag} does not say which type it has")
        for label, attribute in kind.attribute_members.items():
            given = node.get(attribute.name)
            if given is not None:
                value[label] = _value(attribute.type, given, attribute.name)
            elif attribute.required:
                raise XmlError(f"{node.tag} lacks the attribute {attribute.name}")
        if kind.text is not None:
            value[TEXT] = _value(kind.text, node.text or "", node.tag)
            return value
        found: dict[str, list[object]] = {}
        for child in node:
            known = kind.by_name.get(child.tag)
            if known is not None:
                element = kind.members[known].element
                told = found.setdefault(known, [])
                # Null where the schema knows none is as good as nothing.
                if element.nillable or child.get(NIL) not in ("true", "1"):
                    told.append(cls.element(element, child))
        for label, member in kind.members.items():
            if member.required and label not in found:
                raise XmlError(f"{node.tag} lacks the element {member.element.name}")
            _put(value, label, member, found.get(label, []), node.tag)
        return value


def _put(value: dict[str, object], label: str, member: Member, found: list[object], tag: str) -> None:
    if member.many:
        value[label] = found
    elif len(found) > 1:
        raise XmlError(f"{tag} has the element {member.element.name} several times")
    elif found:
        value[label] = found[0]


def _value(kind: Simple, text: str, name: str) -> object:
    try:
        return values.read(kind, text)
    except ValueError as error:
        raise XmlError(f"{name}: its text {error}") from None


def _anything(node: Element) -> object:
    """Content of a type that says nothing: text, or an object of its elements."""
    if node.get(NIL) in ("true", "1"):
        return None
    if not len(node):
        return node.text or ""
    found: dict[str, object] = {}
    for child in node:
        label, value = local_name(child.tag), _anything(child)
        if label not in found:
            found[label] = value
        elif isinstance(known := found[label], list):
            known.append(value)
        else:
            found[label] = [known, value]
    return found


def _fault_11(node: Element) -> Fault:
    code = _plain(node.findtext("faultcode", ""))
    # Codes may be refined with a dot: Client.Authentication.
    return Fault(code.partition(".")[0], (*_names_in(node.find("detail")), code), node.findtext("faultstring", ""))


def _fault_12(node: Element, ns: str) -> Fault:
    codes: list[str] = []
    each = node.find(f"{{{ns}}}Code")
    while each is not None:
        codes.append(_plain(each.findtext(f"{{{ns}}}Value", "")))
        each = each.find(f"{{{ns}}}Subcode")
    code = codes[0] if codes else ""
    told = {"Sender": "Client", "Receiver": "Server"}.get(code, code)
    text = node.findtext(f"{{{ns}}}Reason/{{{ns}}}Text", "")
    return Fault(told, (*_names_in(node.find(f"{{{ns}}}Detail")), *reversed(codes)), text)


def _names_in(detail: Element | None) -> list[str]:
    return [local_name(each.tag) for each in detail] if detail is not None else []


def _plain(code: str) -> str:
    return code.strip().rpartition(":")[2]
