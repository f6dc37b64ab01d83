"""A strict reader of DER for time-stamp tokens, one value after the other, and a writer. Pure.

Rules:
1. Lengths are definite and in their shortest form, tags are one byte, integers have no byte too many: one value has one reading.
2. Who opens a value closes it: `end` refuses what nobody has read.
3. Nothing is imported but the standard library: tokens are verified with this.
"""

from __future__ import annotations

from typing import Final

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
UTF8_STRING: Final = 0x0C
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31
_SEVERAL_BYTES: Final = 0x1F
_LONGEST: Final = 4
"""Bytes that say how long a value is."""
_LONGEST_IDENTIFIER: Final = 64
"""Bytes; those in use have less than half of it."""


class DerError(ValueError):
    """These bytes are not the DER that was expected."""


def expect(holds: bool, otherwise: str) -> None:
    """Return if it holds, else raise DerError with what is there instead."""
    if not holds:
        raise DerError(otherwise)


def context(number: int, *, constructed: bool = True) -> int:
    """The tag of a value that its place tells apart."""
    return 0x80 | 0x20 * constructed | number


class Reader:
    """Reads the values in `data` from its begin to its end. Every method raises DerError for what it does not expect."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._data)

    def next_is(self, tag: int) -> bool:
        """Whether a value with this tag comes next."""
        return self.more and self._data[self._at] == tag

    def value(self, tag: int) -> bytes:
        """What is in the next value, whose tag must be this one."""
        return self._next(tag)[0]

    def whole(self, tag: int) -> bytes:
        """The next value with its tag and length."""
        return self._next(tag)[1]

    def any_whole(self) -> bytes:
        """The next value, whatever its tag."""
        expect(self.more, "cut off")
        return self._next(self._data[self._at])[1]

    def inside(self, tag: int) -> Reader:
        """A reader of what is in the next value."""
        return Reader(self.value(tag))

    def all(self, tag: int) -> list[bytes]:
        """All values that are left, whole; each must have this tag."""
        found = []
        while self.more:
            found.append(self.whole(tag))
        return found

    def only(self, tag: int) -> Reader:
        """A reader of the one value that the next value holds, as an explicit tag or a set of one does."""
        content = self.value(tag)
        inside = Reader(content)
        expect(inside.any_whole() == content, "more than one value")
        return Reader(content)

    def integer(self) -> int:
        """The next value, an INTEGER."""
        return integer(self.value(INTEGER))

    def identifier(self) -> str:
        """The next value, an OBJECT IDENTIFIER, as numbers with dots."""
        content = self.value(OBJECT_IDENTIFIER)
        expect(len(content) <= _LONGEST_IDENTIFIER, "an object identifier that is too long")
        numbers, value, begins = [], 0, True
        for octet in content:
            expect(not begins or octet != 0x80, "an object identifier with a byte too many")
            value, begins = value << 7 | octet & 0x7F, octet < 0x80
            if begins:
                numbers.append(value)
                value = 0
        expect(bool(numbers) and begins, "not an object identifier")
        first = min(numbers[0] // 40, 2)
        return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))

    def end(self) -> None:
        """Return if nothing is left."""
        expect(not self.more, "more than was expected")

    def _next(self, tag: int) -> tuple[bytes, bytes]:
        """The content of the next value, and all of it."""
        data, begin = self._data, self._at
        try:
            found, length, start = data[begin], data[begin + 1], begin + 2
            if found != tag or tag & _SEVERAL_BYTES == _SEVERAL_BYTES:
                raise DerError(f"a value with tag {found:#04x} instead of {tag:#04x}")
            if length >= 0x80:
                size = length - 0x80
                if not 1 <= size <= _LONGEST:
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
        self._at = end
        return data[start:end], data[begin:end]


def integer(content: bytes) -> int:
    """The number in an INTEGER's content; raises DerError unless it is in its shortest form."""
    if not content or (len(content) > 1 and content[0] in (0x00, 0xFF) and (content[0] ^ content[1]) < 0x80):
        raise DerError("not an integer in its shortest form")
    return int.from_bytes(content, signed=True)


def write(tag: int, *contents: bytes) -> bytes:
    """A value in DER."""
    content = b"".join(contents)
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, size] if size < 0x80 else [tag, 0x80 | len(octets), *octets]) + content


def write_integer(number: int) -> bytes:
    """An INTEGER that is not negative."""
    return write(INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def write_identifier(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER; raises DerError if the text is none."""
    parts = dotted.split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdecimal() and str(int(part)) == part for part in parts):
        raise DerError("not an object identifier: numbers with dots between them")
    first, second, *rest = map(int, parts)
    if first > 2 or (first < 2 and second > 39):
        raise DerError(
            "not an object identifier: it begins with 0, 1 or 2, and under 0 and 1 a number up to 39 follows"
        )
    content = bytearray()
    for number in (40 * first + second, *rest):
        octets = [number & 0x7F]
        while number := number >> 7:
            octets.append(0x80 | number & 0x7F)
        content += bytes(reversed(octets))
    return write(OBJECT_IDENTIFIER, bytes(content))
