"""XML Schema 1.0, as far as messages are described with it: types, elements, groups, attributes, imports and includes.

Rules:
1. What is not understood is refused by name (`redefine`, arrays of SOAP encoding), never passed over, unless it does not
   change what a message looks like (keys, notations).
2. A type may contain itself, and types each other: complex types are made empty and filled when all documents are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, cast
from xml.etree.ElementTree import Element

from department_adapters.soap.markup import local_name, namespace
from department_adapters.soap.model import (
    Attribute,
    Complex,
    ElementParticle,
    Group,
    SchemaError,
    Simple,
    Wildcard,
)

XSD = "http://www.w3.org/2001/XMLSchema"
ENCODING = "http://schemas.xmlsoap.org/soap/encoding/"
_XML = "http://www.w3.org/XML/1998/namespace"
NAMES_IN = frozenset(
    {"type", "base", "ref", "itemType", "memberTypes", "substitutionGroup", "element", "message", "binding"}
)
"""Attributes of schemas and WSDLs that hold names."""

Read = Callable[[str, str], tuple[str, Element]]
"""(location, where it stands) -> (where it was found, root)."""
Particle = ElementParticle | Group | Wildcard

_NAMES = """
string normalizedString token language Name NCName NMTOKEN NMTOKENS ID IDREF IDREFS ENTITY ENTITIES anyURI QName NOTATION
boolean decimal float double integer nonPositiveInteger negativeInteger nonNegativeInteger positiveInteger long int short byte
unsignedLong unsignedInt unsignedShort unsignedByte date dateTime time duration gYear gYearMonth gMonth gMonthDay gDay
hexBinary base64Binary anySimpleType
"""
BUILT_IN = frozenset(_NAMES.split())
_KINDS = ("element", "complexType", "simpleType", "group", "attribute", "attributeGroup")
_LISTS = {"NMTOKENS": "NMTOKEN", "IDREFS": "IDREF", "ENTITIES": "ENTITY"}


def xsd(name: str) -> str:
    """A name in the namespace of XML Schema."""
    return f"{{{XSD}}}{name}"


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a schema document says of all that is declared in it."""

    namespace: str
    adopted: bool
    """Whether it has no namespace of its own and takes that of the document which includes it."""
    elements_qualified: bool
    attributes_qualified: bool

    def name(self, text: str) -> str:
        """A name that is referred to."""
        return self.own(text) if self.adopted and not text.startswith("{") else text

    def own(self, local: str) -> str:
        """A name that is declared."""
        return f"{{{self.namespace}}}{local}" if self.namespace else local


class Schemas:
    """The schema documents of one WSDL. Add all, then ask, then `finish`."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._seen: set[tuple[str, str]] = set()
        self._declared: dict[tuple[str, str], tuple[Element, _Scope]] = {}
        self._substitutes: dict[str, list[str]] = {}
        self._elements: dict[str, ElementParticle] = {}
        self._types: dict[str, Simple | Complex] = {}
        self._unfilled: dict[Complex, tuple[Element, _Scope]] = {}
        self._made: list[Complex] = []
        self._open: set[tuple[str, str]] = set()

    def add(self, root: Element, location: str, including: str | None = None) -> None:
        """Take a schema, and what it imports and includes.

        Args:
            location: Where it stands, for what it refers to.
            including: Namespace of the document that includes it.

        Raises:
            SchemaError: It cannot be used, or one it refers to.
        """
        if root.tag != xsd("schema"):
            raise SchemaError(f"{location}: {root.tag} is no schema of XML Schema 1.0")
        own = root.get("targetNamespace", "")
        if including is not None and own and own != including:
            raise SchemaError(f"{location}: it is included into another namespace than its own")
        scope = _Scope(
            own or including or "",
            not own and bool(including),
            root.get("elementFormDefault") == "qualified",
            root.get("attributeFormDefault") == "qualified",
        )
        for node in root:
            kind = local_name(node.tag)
            if kind in ("include", "import"):
                self._follow(node, location, scope.namespace if kind == "include" else None)
            elif kind in ("redefine", "override"):
                raise SchemaError(f"{location}: xsd:{kind} is not supported")
            elif kind in _KINDS:
                name = scope.own(_needed(node, "name"))
                self._declared.setdefault((kind, name), (node, scope))
                if head := node.get("substitutionGroup"):
                    self._substitutes.setdefault(scope.name(head), []).append(name)

    def _follow(self, node: Element, location: str, including: str | None) -> None:
        where = node.get("schemaLocation")
        if not where or (including is None and node.get("namespace") in (_XML, ENCODING)):
            return  # what is missing in the end is told by its name
        found, root = self._read(where, location)
        key = (found, including or "")
        if key not in self._seen:
            self._seen.add(key)
            self.add(root, found, including)

    def finish(self) -> None:
        """Fill all types that were asked for and work out their members; raises SchemaError."""
        known = -1
        while known < len(self._types):
            known = len(self._types)
            self._ask_derived()
            while self._unfilled:
                self._fill(next(iter(self._unfilled)))
        for each in self._made:
            if not each.members and not each.attribute_members:
                each.index()

    def _ask_derived(self) -> None:
        """Types that nobody names and that may stand, with `xsi:type`, where one stands that was asked for."""
        for (kind, name), (node, scope) in self._declared.items():
            if kind == "complexType" and name not in self._types:
                changes = (
                    each for part in node for each in part if local_name(each.tag) in ("extension", "restriction")
                )
                if any(scope.name(each.get("base", "")) in self._types for each in changes):
                    self.type(name)

    def element(self, name: str) -> ElementParticle:
        """A global element, once; raises SchemaError if there is none."""
        if name not in self._elements:
            node, scope = self._declaration("element", name)
            self._elements[name] = self._declared_element(node, scope, name)
        return self._elements[name]

    def type(self, name: str) -> Simple | Complex:
        """A global or built-in type; raises SchemaError if there is none. A complex one may be unfilled yet."""
        found = self._types.get(name)
        if found is None:
            if namespace(name) == XSD:
                found = _built_in(local_name(name))
            elif ("simpleType", name) in self._declared:
                found = self._global_simple(name)
            else:
                node, scope = self._declaration("complexType", name)
                found = self._complex(node, scope, name)
            self._types[name] = found
        return found

    def _declaration(self, kind: str, name: str) -> tuple[Element, _Scope]:
        try:
            return self._declared[kind, name]
        except KeyError:
            hint = "; arrays of SOAP encoding are not supported" if namespace(name) == ENCODING else ""
            raise SchemaError(f"{kind} {name} is referred to and nowhere declared{hint}") from None

    # -- simple types

    def _global_simple(self, name: str) -> Simple:
        node, scope = self._declaration("simpleType", name)
        with self._opened("simpleType", name):
            return self._simple(node, scope)

    def _simple(self, node: Element, scope: _Scope) -> Simple:
        documentation = _documentation(node)
        for child in node:
            kind = local_name(child.tag)
            if kind == "restriction":
                return replace(_restricted(child, self._simple_base(child, scope, "base")), documentation=documentation)
            if kind == "list":
                items = self._simple_base(child, scope, "itemType")
                return Simple(base="list", items=items, documentation=documentation)
            if kind == "union":
                named = [self._simple_named(scope.name(name)) for name in child.get("memberTypes", "").split()]
                inside = [self._simple(each, scope) for each in child.findall(xsd("simpleType"))]
                return Simple(base="union", members=(*named, *inside), documentation=documentation)
        raise SchemaError(f"the simple type {node.get('name', '')!r} says nothing")

    def _simple_base(self, node: Element, scope: _Scope, attribute: str) -> Simple:
        if name := node.get(attribute):
            return self._simple_named(scope.name(name))
        inside = node.find(xsd("simpleType"))
        if inside is None:
            raise SchemaError(f"xsd:{local_name(node.tag)} without {attribute}")
        return self._simple(inside, scope)

    def _simple_named(self, name: str) -> Simple:
        found = self.type(name)
        if isinstance(found, Complex):
            raise SchemaError(f"{name} is no simple type")
        return found

    # -- complex types

    def _complex(self, node: Element, scope: _Scope, name: str = "") -> Complex:
        made = Complex(name=name, abstract=node.get("abstract") in ("true", "1"), documentation=_documentation(node))
        self._unfilled[made] = (node, scope)
        self._made.append(made)
        return made

    def _fill(self, made: Complex) -> None:
        if made not in self._unfilled:
            return
        node, scope = self._unfilled.pop(made)
        derivation = next(
            (child for child in node if local_name(child.tag) in ("complexContent", "simpleContent")), None
        )
        if derivation is None:
            made.content = self._content(node, scope)
            made.attributes = tuple(self._attributes(node, scope))
            return
        change = next((child for child in derivation if local_name(child.tag) in ("extension", "restriction")), None)
        if change is None:
            raise SchemaError(f"{made.name or 'a type'}: neither xsd:extension nor xsd:restriction")
        base = self.type(scope.name(_needed(change, "base")))
        if isinstance(base, Complex):
            self._fill(base)
            if not base.anything:
                base.derived.append(made)
        own = tuple(self._attributes(change, scope))
        if local_name(derivation.tag) == "simpleContent":
            text = base.text if isinstance(base, Complex) else base
            if text is None:
                raise SchemaError(f"{made.name or 'a type'}: xsd:simpleContent of a type that has none")
            made.text = _restricted(change, text) if local_name(change.tag) == "restriction" else text
        elif not isinstance(base, Complex):
            raise SchemaError(f"{made.name or 'a type'}: xsd:complexContent of a simple type")
        else:
            made.content, made.text = self._content(change, scope), base.text
            if local_name(change.tag) == "extension":
                parts = [each for each in (base.content, made.content) if each is not None]
                made.content = Group(kind="sequence", particles=tuple(parts)) if parts else None
        if isinstance(base, Complex):
            changed = (
                {each.name for each in own} | {scope.own(name) for name in _prohibited(change)} | _prohibited(change)
            )
            made.attributes = (*(each for each in base.attributes if each.name not in changed), *own)
        else:
            made.attributes = own

    def _content(self, node: Element, scope: _Scope) -> Group | None:
        for child in node:
            if local_name(child.tag) in ("sequence", "choice", "all", "group"):
                particle = self._particle(child, scope)
                return particle if isinstance(particle, Group) else None
        return None

    def _particle(self, node: Element, scope: _Scope) -> Particle | None:
        minimum, maximum = _occurrence(node)
        if maximum == 0:
            return None
        kind = local_name(node.tag)
        if kind == "element":
            return self._element_particle(node, scope, minimum, maximum)
        if kind == "any":
            return Wildcard()
        if kind == "group":
            name = scope.name(_needed(node, "ref"))
            definition, scope = self._declaration("group", name)
            with self._opened("group", name):
                group = self._content(definition, scope)
            return replace(group, minimum=minimum, maximum=maximum) if group is not None else None
        if kind in ("sequence", "choice", "all"):
            inside = (self._particle(each, scope) for each in node)
            return Group(
                kind=cast(Literal["sequence", "choice", "all"], kind),
                particles=tuple(each for each in inside if each is not None),
                minimum=minimum,
                maximum=maximum,
            )
        return None  # an annotation

    def _element_particle(self, node: Element, scope: _Scope, minimum: int, maximum: int | None) -> Particle:
        if ref := node.get("ref"):
            heads = list(self._with_substitutes(scope.name(ref)))
            if len(heads) == 1:
                return replace(heads[0], minimum=minimum, maximum=maximum)
            return Group(kind="choice", particles=tuple(heads), minimum=minimum, maximum=maximum)
        qualified = node.get("form") == "qualified" if "form" in node.attrib else scope.elements_qualified
        local = _needed(node, "name")
        element = self._declared_element(node, scope, scope.own(local) if qualified else local)
        return replace(element, minimum=minimum, maximum=maximum)

    def _with_substitutes(self, head: str) -> Iterator[ElementParticle]:
        """The elements that may stand where a global one is referred to."""
        names = [head]
        for name in names:
            names += [each for each in self._substitutes.get(name, ()) if each not in names]
            node, _ = self._declaration("element", name)
            if node.get("abstract") not in ("true", "1"):
                yield self.element(name)

    def _declared_element(self, node: Element, scope: _Scope, name: str) -> ElementParticle:
        kind: Simple | Complex
        inside = node.find(xsd("complexType"))
        if type_name := node.get("type"):
            kind = self.type(scope.name(type_name))
        elif inside is not None:
            # Named after a global element: it may contain itself, and then a contract must be able to refer to it.
            kind = self._complex(inside, scope, name if ("element", name) in self._declared else "")
        elif (inside := node.find(xsd("simpleType"))) is not None:
            kind = self._simple(inside, scope)
        elif head := node.get("substitutionGroup"):
            kind = self.element(scope.name(head)).type
        else:
            kind = self.type(xsd("anyType"))
        return ElementParticle(
            name=name,
            type=kind,
            nillable=node.get("nillable") in ("true", "1"),
            fixed=node.get("fixed"),
            documentation=_documentation(node),
        )

    # -- attributes

    def _attributes(self, node: Element, scope: _Scope) -> Iterator[Attribute]:
        for child in node:
            kind = local_name(child.tag)
            if kind == "attributeGroup":
                name = scope.name(_needed(child, "ref"))
                definition, other = self._declaration("attributeGroup", name)
                with self._opened("attributeGroup", name):
                    yield from self._attributes(definition, other)
            elif kind == "attribute" and child.get("use") != "prohibited":
                yield self._attribute(child, scope)

    def _attribute(self, node: Element, scope: _Scope) -> Attribute:
        required = node.get("use") == "required"
        if ref := node.get("ref"):
            name = scope.name(ref)
            if namespace(name) == _XML:
                return Attribute(name=name, type=Simple(base="string"), required=required)
            declared, other = self._declaration("attribute", name)
            return replace(self._typed_attribute(declared, other, name), required=required)
        qualified = node.get("form") == "qualified" if "form" in node.attrib else scope.attributes_qualified
        local = _needed(node, "name")
        return replace(self._typed_attribute(node, scope, scope.own(local) if qualified else local), required=required)

    def _typed_attribute(self, node: Element, scope: _Scope, name: str) -> Attribute:
        inside = node.find(xsd("simpleType"))
        if type_name := node.get("type"):
            kind = self._simple_named(scope.name(type_name))
        else:
            kind = self._simple(inside, scope) if inside is not None else Simple(base="anySimpleType")
        return Attribute(name=name, type=kind, fixed=node.get("fixed"), documentation=_documentation(node))

    def _opened(self, kind: str, name: str) -> _Opened:
        return _Opened(self._open, (kind, name))


class _Opened:
    """While a definition is read: one that comes back to itself says nothing."""

    def __init__(self, held: set[tuple[str, str]], key: tuple[str, str]) -> None:
        self._held, self._key = held, key

    def __enter__(self) -> None:
        if self._key in self._held:
            raise SchemaError(f"{self._key[0]} {self._key[1]} is defined by itself")
        self._held.add(self._key)

    def __exit__(self, *_: object) -> None:
        self._held.discard(self._key)


def _needed(node: Element, attribute: str) -> str:
    value = node.get(attribute)
    if not value:
        raise SchemaError(f"xsd:{local_name(node.tag)} {node.get('name', '')!r} has no {attribute}")
    return value


def _occurrence(node: Element) -> tuple[int, int | None]:
    least, most = node.get("minOccurs", "1"), node.get("maxOccurs", "1")
    try:
        return int(least), None if most == "unbounded" else int(most)
    except ValueError:
        raise SchemaError(
            f"xsd:{local_name(node.tag)} {node.get('name', '')!r}: minOccurs or maxOccurs is no number"
        ) from None


def _prohibited(node: Element) -> set[str]:
    return {each.get("name", "") for each in node.findall(xsd("attribute")) if each.get("use") == "prohibited"}


def _built_in(name: str) -> Simple | Complex:
    if name == "anyType":
        return Complex(name=xsd(name), anything=True)
    if name in _LISTS:
        return Simple(base="list", items=Simple(base=_LISTS[name]))
    if name not in BUILT_IN:
        raise SchemaError(f"{name!r} is no type of XML Schema 1.0 that is supported")
    return Simple(base=name)


def _restricted(node: Element, base: Simple) -> Simple:
    """`base` with the facets of an xsd:restriction."""
    enumeration: list[str] = []
    patterns: list[str] = []
    facets = dict(base.facets)
    for child in node:
        kind, value = local_name(child.tag), child.get("value")
        if value is None:
            continue
        if kind == "enumeration":
            enumeration.append(value)
        elif kind == "pattern":
            patterns.append(value)
        else:
            facets[kind] = value
    joined = (_either(patterns),) if patterns else ()
    return replace(
        base,
        enumeration=tuple(enumeration) or base.enumeration,
        patterns=(*base.patterns, *joined),
        facets=facets,
        documentation="",
    )


def _either(patterns: Iterable[str]) -> str:
    """One expression for those of one step, of which a text keeps to any."""
    several = list(patterns)
    return several[0] if len(several) == 1 else "|".join(f"({each})" for each in several)


def _documentation(node: Element) -> str:
    texts = ("".join(each.itertext()) for each in node.iterfind(f"{xsd('annotation')}/{xsd('documentation')}"))
    return " ".join(" ".join(texts).split())
