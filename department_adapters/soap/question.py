"""SOAP envelopes that ask: written from JSON values, as the schema says.

Rules:
1. In order, with what is required, without anything else. What is wrong is told with a pointer to the member.
2. Namespaces are declared on the envelope, and nothing stands in it that was not given.
"""

from __future__ import annotations

from collections.abc import Mapping

from department_adapters.soap import values
from department_adapters.soap.markup import NIL, XSI, XSI_TYPE, local_name, namespace
from department_adapters.soap.model import TEXT, TYPE, Attribute, Complex, ElementParticle, Group, Simple, Wildcard
from department_adapters.soap.wsdl import ENVELOPES, Operation, SoapVersion

MAX_OBJECTS = 64
"""How deep the objects of a question may lie in each other."""
_XML = "http://www.w3.org/XML/1998/namespace"


class QuestionError(ValueError):
    """The JSON is not what the operation takes.

    Attributes:
        pointer: RFC 6901, to the member that is wrong.
    """

    def __init__(self, pointer: str, problem: str) -> None:
        super().__init__(f"{pointer or 'the body'} {problem}")
        self.pointer = pointer
        self.problem = problem


def write_question(operation: Operation, value: object, soap: SoapVersion, header: str = "") -> bytes:
    """The envelope that asks.

    Args:
        value: What `json_of` says of the question: the members of its type.
        header: Content of the header, ready as XML.

    Raises:
        QuestionError: The value is not what the operation takes.
    """
    writer = _Writer()
    if operation.question is not None:
        element = operation.question
        if isinstance(element.type, Simple):
            label = local_name(element.name)
            value = _object(value, "")
            _only(value, {label}, "")
            if label not in value:
                raise QuestionError(f"/{label}", "is required")
            writer.element(element, value[label], f"/{label}")
        else:
            writer.element(element, value, "")
    elif value:
        raise QuestionError("", "must be empty: the operation takes nothing")
    body = "".join(writer.out)
    declared = "".join(f' xmlns:{prefix}="{_attribute_text(ns)}"' for ns, prefix in writer.prefixes.items())
    head = f"<e:Header>{header}</e:Header>" if header else ""
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<e:Envelope xmlns:e="{ENVELOPES[soap]}"{declared}>'
        f"{head}<e:Body>{body}</e:Body></e:Envelope>"
    ).encode()


def _object(value: object, pointer: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise QuestionError(pointer, "must be an object")
    return value


def _only(value: Mapping[str, object], known: Mapping[str, object] | set[str], pointer: str) -> None:
    for name in value:
        if name not in known:
            raise QuestionError(f"{pointer}/{_escaped(name)}", "is not known here")


def _escaped(name: str) -> str:
    return name[:60].replace("~", "~0").replace("/", "~1")


def _text(text: str) -> str:
    # A carriage return that stands as it is would be read as a line feed.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def _attribute_text(text: str) -> str:
    return _text(text).replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#9;")


class _Writer:
    """Writes elements into `out`; prefixes for the namespaces it meets are declared on the envelope."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.prefixes: dict[str, str] = {}
        self._depth = 0

    def element(self, element: ElementParticle, value: object, pointer: str) -> None:
        tag = self._name(element.name)
        kind = element.type
        if value is None:
            if not element.nillable:
                raise QuestionError(pointer, "must not be null")
            self.out.append(f'<{tag} {self._name(NIL)}="true"/>')
        elif isinstance(kind, Simple):
            text = self._simple(kind, value, pointer)
            if element.fixed is not None and text != element.fixed:
                raise QuestionError(pointer, "has a fixed value, and this is another")
            self.out.append(f"<{tag}>{_text(text)}</{tag}>")
        elif kind.anything:
            self.out.append(f"<{tag}>{_text(self._anything(value, pointer))}</{tag}>")
        else:
            self._depth += 1
            if self._depth > MAX_OBJECTS:
                raise QuestionError("", f"is nested deeper than {MAX_OBJECTS}")
            self._complex(tag, kind, _object(value, pointer), pointer)
            self._depth -= 1

    def _complex(self, tag: str, kind: Complex, value: dict[str, object], pointer: str) -> None:
        given = value
        actual = self._variant(kind, value, pointer)
        attributes = ""
        if TYPE in value:
            given = {name: each for name, each in value.items() if name != TYPE}
            attributes = f' {self._name(XSI_TYPE)}="{self._name(actual.name)}"' if actual is not kind else ""
        kind = actual
        text_known = {TEXT} if kind.text is not None else set()
        _only(given, {*kind.members, *kind.attribute_members, *text_known}, pointer)
        for label, attribute in kind.attribute_members.items():
            if (text := self._attribute(attribute, given, label, pointer)) is not None:
                attributes += f' {self._name(attribute.name)}="{_attribute_text(text)}"'
        self.out.append(f"<{tag}{attributes}>")
        if kind.text is not None:
            if TEXT not in given:
                raise QuestionError(f"{pointer}/{TEXT}", "is required")
            self.out.append(_text(self._simple(kind.text, given[TEXT], f"{pointer}/{TEXT}")))
        elif kind.content is not None:
            self._group(kind.content, kind, given, pointer, required=True)
        self.out.append(f"</{tag}>")

    def _variant(self, kind: Complex, value: dict[str, object], pointer: str) -> Complex:
        if TYPE in value:
            for each in kind.variants():
                if each.name and local_name(each.name) == value[TYPE]:
                    return each
            raise QuestionError(f"{pointer}/{TYPE}", "names no type that may stand here")
        if kind.abstract:
            raise QuestionError(f"{pointer}/{TYPE}", "is required")
        return kind

    def _attribute(self, attribute: Attribute, given: dict[str, object], label: str, pointer: str) -> str | None:
        if label not in given:
            if attribute.required and attribute.fixed is None:
                raise QuestionError(f"{pointer}/{_escaped(label)}", "is required")
            return attribute.fixed if attribute.required else None
        text = self._simple(attribute.type, given[label], f"{pointer}/{_escaped(label)}")
        if attribute.fixed is not None and text != attribute.fixed:
            raise QuestionError(f"{pointer}/{_escaped(label)}", "has a fixed value, and this is another")
        return text

    def _group(self, group: Group, kind: Complex, given: dict[str, object], pointer: str, *, required: bool) -> None:
        required = required and group.minimum > 0
        if group.kind == "choice":
            self._choice(group, kind, given, pointer, required=required)
            return
        # An optional group is there as a whole or not at all.
        required = required or _is_given(group, given)
        for particle in group.particles:
            if isinstance(particle, Group):
                self._group(particle, kind, given, pointer, required=required)
            elif isinstance(particle, ElementParticle):
                self._repeated(particle, kind, given, pointer, required=required and particle.minimum > 0)

    def _choice(self, group: Group, kind: Complex, given: dict[str, object], pointer: str, *, required: bool) -> None:
        chosen = [each for each in group.particles if _is_given(each, given)]
        names = " or ".join(sorted({repr(name) for each in group.particles for name in _labels(each)})[:20])
        if len(chosen) > 1 and group.maximum == 1:
            raise QuestionError(pointer, f"must have one of {names}, not several")
        if not chosen and required and all(_least(each) > 0 for each in group.particles):
            raise QuestionError(pointer, f"must have {names}")
        for particle in chosen:
            if isinstance(particle, Group):
                self._group(particle, kind, given, pointer, required=True)
            elif isinstance(particle, ElementParticle):
                self._repeated(particle, kind, given, pointer, required=True)

    def _repeated(
        self, element: ElementParticle, kind: Complex, given: dict[str, object], pointer: str, *, required: bool
    ) -> None:
        label = local_name(element.name)
        where = f"{pointer}/{_escaped(label)}"
        if label not in given:
            if required and element.fixed is not None and isinstance(element.type, Simple):
                self.element(element, values.read(element.type, element.fixed), where)
            elif required:
                raise QuestionError(where, "is required")
            return
        value = given[label]
        if not kind.members[label].many:
            self.element(element, value, where)
            return
        if not isinstance(value, list):
            raise QuestionError(where, "must be an array")
        if required and len(value) < element.minimum:
            raise QuestionError(where, f"must have {element.minimum} or more")
        if element.maximum is not None and element.maximum > 1 and len(value) > element.maximum:
            raise QuestionError(where, f"must have {element.maximum} at most")
        for index, each in enumerate(value):
            self.element(element, each, f"{where}/{index}")

    @staticmethod
    def _simple(kind: Simple, value: object, pointer: str) -> str:
        try:
            return values.write(kind, value)
        except ValueError as error:
            raise QuestionError(pointer, str(error)) from None

    def _anything(self, value: object, pointer: str) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return repr(value)
        return self._simple(Simple(base="string"), value, pointer)

    def _name(self, name: str) -> str:
        ns = namespace(name)
        if not ns:
            return name
        if ns == _XML:
            return f"xml:{local_name(name)}"
        prefix = self.prefixes.setdefault(ns, "xsi" if ns == XSI else f"n{len(self.prefixes)}")
        return f"{prefix}:{local_name(name)}"


def _labels(particle: ElementParticle | Group | Wildcard) -> list[str]:
    if isinstance(particle, ElementParticle):
        return [local_name(particle.name)]
    return [name for each in particle.particles for name in _labels(each)] if isinstance(particle, Group) else []


def _is_given(particle: ElementParticle | Group | Wildcard, given: Mapping[str, object]) -> bool:
    return any(name in given for name in _labels(particle))


def _least(particle: ElementParticle | Group | Wildcard) -> int:
    """0 if nothing need be there for it."""
    if isinstance(particle, Group):
        if particle.minimum == 0 or not particle.particles:
            return 0
        least = [_least(each) for each in particle.particles]
        return min(least) if particle.kind == "choice" else max(least)
    return particle.minimum if isinstance(particle, ElementParticle) else 0
