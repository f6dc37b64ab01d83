"""A reader of DER, for what certificate libraries parse and do not hand out: raw names, raw extensions, tags. Pure.

It reads what a strict parser has accepted already, and is strict itself: definite lengths in their shortest form,
one-byte tags.
"""

from __future__ import annotations

from typing import Final, NamedTuple

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OBJECT_IDENTIFIER: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
BOOLEAN: Final = 0x01
SEQUENCE: Final = 0x30


class DerError(ValueError):
    """These bytes are not the DER that was expected."""


class Element(NamedTuple):
    """One value: its tag, what is in it, and all of it."""

    tag: int
    content: bytes
    whole: bytes


def read(data: bytes, at: int = 0) -> Element:
    """Return the element that begins at `at`; more may follow it.

    Raises:
        DerError: It is cut off, or not in DER.
    """
    try:
        tag, length, start = data[at], data[at + 1], at + 2
        if tag & 0x1F == 0x1F:
            raise DerError("a tag of several bytes")
        if length >= 0x80:
            size = length - 0x80
            if not 1 <= size <= 4:
                raise DerError("a length that is indefinite or too long")
            length = int.from_bytes(data[start : start + size])
            if length < 0x80 or length >> (8 * (size - 1)) == 0:
                raise DerError("a length that is not in its shortest form")
            start += size
    except IndexError as error:
        raise DerError("cut off") from error
    end = start + length
    if end > len(data):
        raise DerError("cut off")
    return Element(tag, data[start:end], data[at:end])


def elements(content: bytes) -> list[Element]:
    """Return all elements of a constructed value's content, in order.

    Raises:
        DerError: The content is not a row of elements.
    """
    found, at = [], 0
    while at < len(content):
        element = read(content, at)
        found.append(element)
        at += len(element.whole)
    return found


def sequence(data: bytes) -> list[Element]:
    """Return what is in the one SEQUENCE that `data` is.

    Raises:
        DerError: It is something else, or something follows it.
    """
    element = read(data)
    if element.tag != SEQUENCE or len(element.whole) != len(data):
        raise DerError("not one sequence")
    return elements(element.content)


def integer(element: Element) -> int:
    """Return the value of an INTEGER.

    Raises:
        DerError: It is something else.
    """
    if element.tag != INTEGER or not element.content:
        raise DerError("not an integer")
    return int.from_bytes(element.content, signed=True)


def dotted(identifier: Element) -> str:
    """Return an OBJECT IDENTIFIER as numbers with dots.

    Raises:
        DerError: It is something else.
    """
    numbers, value = [], 0
    for octet in identifier.content:
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            numbers.append(value)
            value = 0
    if identifier.tag != OBJECT_IDENTIFIER or not numbers:
        raise DerError("not an object identifier")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def concatenated(data: bytes) -> list[bytes]:
    """Split values that were written one after the other (several certificates in one DER file).

    Raises:
        DerError: The data is not a row of sequences.
    """
    found = elements(data)
    if not found or any(element.tag != SEQUENCE for element in found):
        raise DerError("not a row of sequences")
    return [element.whole for element in found]


def encode(tag: int, content: bytes) -> bytes:
    """Return a value in DER."""
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, size] if size < 0x80 else [tag, 0x80 | len(octets), *octets]) + content


def encode_integer(number: int) -> bytes:
    """Return an INTEGER that is not negative, in DER."""
    return encode(INTEGER, number.to_bytes(number.bit_length() // 8 + 1))
