"""What a schema says of a message, in the form in which questions are written, answers read and contracts told.

One model serves all three, so that what a contract promises is what is written and read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from department_adapters.soap.markup import local_name


class SchemaError(ValueError):
    """A schema or WSDL that cannot be used; the message names the place and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simple:
    """A type of texts."""

    base: str
    """Local name of the built-in type it comes from: `string`, `date`, `decimal`."""
    enumeration: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    """Expressions of XML Schema; a text keeps to all."""
    facets: Mapping[str, str] = field(default_factory=dict)
    """The others, `maxLength` and the like, by name."""
    items: Simple | None = None
    """Of a list type: what is listed, separated by blanks."""
    members: tuple[Simple, ...] = ()
    """Of a union type: what it may be."""
    documentation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    name: str
    type: Simple
    required: bool = False
    fixed: str | None = None
    documentation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementParticle:
    """An element, as often as it may stand at its place."""

    name: str
    type: Simple | Complex
    nillable: bool = False
    minimum: int = 1
    maximum: int | None = 1
    """None: without limit."""
    fixed: str | None = None
    documentation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Particles in order (`sequence`), one of them (`choice`) or all in any order (`all`)."""

    kind: Literal["sequence", "choice", "all"]
    particles: tuple[ElementParticle | Group | Wildcard, ...]
    minimum: int = 1
    maximum: int | None = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wildcard:
    """`xsd:any`: elements that the schema does not know. They are neither written nor read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of the JSON object that stands for a type."""

    element: ElementParticle
    many: bool
    """Whether it may be there several times: then the member is an array."""
    required: bool


@dataclass(slots=True, eq=False)
class Complex:
    """A type of elements; made empty and filled later, because types may contain each other."""

    name: str = ""
    """Empty if it has none of its own."""
    content: Group | None = None
    text: Simple | None = None
    attributes: tuple[Attribute, ...] = ()
    abstract: bool = False
    anything: bool = False
    """`xsd:anyType`."""
    documentation: str = ""
    derived: list[Complex] = field(default_factory=list)
    """Types that say they extend or restrict this one."""
    members: dict[str, Member] = field(default_factory=dict)
    by_name: dict[str, str] = field(default_factory=dict)
    """Element name -> member."""
    attribute_members: dict[str, Attribute] = field(default_factory=dict)
    unwritable: str = ""
    """Why no content can be written from JSON; empty if it can."""

    def variants(self) -> Iterator[Complex]:
        """This type and those derived from it that an element may have."""
        seen: list[Complex] = []
        waiting = [self]
        while waiting:
            each = waiting.pop(0)
            if each not in seen:
                seen.append(each)
                waiting += each.derived
        return (each for each in seen if not each.abstract)

    def index(self) -> None:
        """Work out the members; raises SchemaError if two would have one name."""
        if self.content is not None:
            self._add(self.content, many=False, required=True)
        for attribute in self.attributes:
            label = local_name(attribute.name)
            taken = label in self.members or (label == TEXT and self.text is not None)
            label = f"@{label}" if taken else label
            if label in self.attribute_members:
                raise SchemaError(f"{self.name or 'a type'}: two attributes would be {label!r} in JSON")
            self.attribute_members[label] = attribute

    def _add(self, group: Group, *, many: bool, required: bool) -> None:
        many = many or group.maximum != 1
        required = required and group.minimum > 0 and (group.kind != "choice" or len(group.particles) == 1)
        if group.maximum != 1 and group.kind != "choice" and len(group.particles) > 1:
            self.unwritable = "a group of several elements that repeats as a whole has no form in JSON"
        for particle in group.particles:
            if isinstance(particle, Group):
                self._add(particle, many=many, required=required)
            elif isinstance(particle, ElementParticle):
                self._add_element(particle, many=many, required=required)

    def _add_element(self, element: ElementParticle, *, many: bool, required: bool) -> None:
        label = local_name(element.name)
        known = self.members.get(label)
        if known is not None:
            if known.element.name != element.name:
                raise SchemaError(f"{self.name or 'a type'}: two elements of different namespaces are called {label!r}")
            # In a row, or in two branches of a choice: an array holds what is there in both cases.
            self.unwritable = self.unwritable or f"the element {label!r} stands at two places"
        self.by_name[element.name] = label
        self.members[label] = Member(
            element=element,
            many=many or element.maximum != 1 or known is not None,
            required=(required and element.minimum > 0) or (known is not None and known.required),
        )


TEXT = "value"
"""The member that holds the text of an element with attributes."""
TYPE = "@type"
"""The member that names the type, where an element has another than its schema says."""
