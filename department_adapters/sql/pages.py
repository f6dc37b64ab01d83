"""Pages of an answer, each found by the key of the row before it.

Rules:
1. A page begins after a key, not after a number of rows: rows that come or go between two pages move no other row to a page
   that has been read, or out of one that has not.
2. The key must be unique and never NULL. Two rows of a page with the same key, or one without, are a failure of the
   department's system: the next page would leave rows out and nobody would know.
3. The declared query is a table to the query of a page. That makes no difference to an index: databases take such a table
   apart, as long as the query itself has no LIMIT, GROUP BY or DISTINCT.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Double,
    LargeBinary,
    Numeric,
    String,
    Time,
    Uuid,
    bindparam,
    text,
)
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.types import TypeEngine

from department_adapters.source import UnusableAnswerError
from department_adapters.sql.database import dialect_of, quoted
from department_adapters.sql.operation import OWN, Page, SqlOperation, parameters_of
from department_adapters.sql.rows import Rows

Key = tuple[Any, ...]
"""Values of the columns a page is ordered by."""

_TABLE = f"{OWN}page"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[tuple[str, str]]).decode


class PageRows(Rows):
    """What a page holds so far, and the key of its last row."""

    def __init__(self, page: Page, **limits: Any) -> None:
        super().__init__(max_rows=page.size, **limits)
        self._by = page.by
        self._columns: list[int] = []
        self.last: Key = ()

    def begin(self, names: Sequence[str]) -> None:
        super().begin(names)
        try:
            self._columns = [names.index(name) for name in self._by]
        except ValueError as error:
            raise UnusableAnswerError from error
        self.last = ()

    def take(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            key = tuple(row[column] for column in self._columns)
            if None in key:
                raise UnusableAnswerError from ValueError(f"page.by: {', '.join(self._by)} is NULL in a row")
            if key == self.last:
                raise UnusableAnswerError from ValueError(f"page.by: {', '.join(self._by)} is the same in two rows")
            super().take((row,))
            if self.more:
                return
            self.last = key


class PagedQuery:
    """The statements of an operation's pages."""

    def __init__(self, operation: SqlOperation, page: Page, kind: str) -> None:
        """
        Args:
            kind: Of database, from `kind_of`.
        """
        dialect = dialect_of(kind)
        self._columns = [quoted(dialect, name) for name in page.by]
        self._kind = kind
        self._parameters = parameters_of(operation)
        # On a line of its own: the query may end with a comment.
        self._from = f"SELECT * FROM (\n{operation.query.strip().rstrip(';')}\n) AS {_TABLE}"
        self._rest = f"ORDER BY {', '.join(self._columns)} LIMIT {page.size + 1:d}"
        self._after: dict[tuple[str, ...], TextClause] = {}
        self.first = text(f"{self._from} {self._rest}").bindparams(*self._parameters)

    def after(self, place: bytes) -> tuple[TextClause, Mapping[str, object]]:
        """The statement of the page after a place, and its values; raises ValueError if it is no place of this query."""
        try:
            key = _decode(place)
            values = [_FORMS[form].read(told, self._kind) for form, told in key]
        except (msgspec.DecodeError, KeyError, InvalidOperation) as error:
            raise ValueError("the cursor names no place") from error
        if len(values) != len(self._columns):
            raise ValueError("the cursor is of other columns")
        forms = tuple(form for form, _ in key)
        if forms not in self._after:
            self._after[forms] = self._statement(forms)
        return self._after[forms], {_name(number): value for number, value in enumerate(values)}

    def _statement(self, forms: Sequence[str]) -> TextClause:
        condition = ""
        for number in reversed(range(len(forms))):
            column, bound = self._columns[number], f":{_name(number)}"
            if self._kind == "mysql" and forms[number] == "n":  # which would be compared as floats
                bound = f"CAST({bound} AS DECIMAL(65, 30))"
            condition = f"{column} > {bound}" + (f" OR ({column} = {bound} AND ({condition}))" if condition else "")
            if number == 0 and len(forms) > 1:  # what an index can begin with
                condition = f"{column} >= {bound} AND ({condition})"
        types = [bindparam(_name(number), type_=_FORMS[form].type) for number, form in enumerate(forms)]
        return text(f"{self._from} WHERE {condition} {self._rest}").bindparams(*self._parameters, *types)


def place_of(key: Key) -> bytes:
    """The place after a key; raises UnusableAnswerError if a column of it has no order a page can go by."""
    return _encode([_form_of(value) for value in key])


def _name(number: int) -> str:
    return f"{OWN}after_{number}"


def _form_of(value: object) -> tuple[str, str]:
    match value:
        case bool():
            return "l", "1" if value else ""
        case int():
            return "i", str(value)
        case float():
            return "f", repr(value)
        case Decimal():
            return "n", str(value)
        case datetime():
            return ("z" if value.tzinfo else "t"), value.isoformat()
        case date():
            return "d", value.isoformat()
        case time():
            return "c", value.isoformat()
        case UUID():
            return "u", str(value)
        case bytes():
            return "b", base64.b64encode(value).decode()
        case str():
            return "s", value
    raise UnusableAnswerError from ValueError(f"page.by: a {type(value).__name__} is no key")


class _Form(NamedTuple):
    """How a value of one kind comes out of a place."""

    type: TypeEngine[Any]
    read: Callable[[str, str], object]
    """From its text, as the kind of database takes it."""


def _as_text_for_mysql(read: Callable[[str], object]) -> Callable[[str, str], object]:
    """Its driver is handed what is no text and no number as text."""
    return lambda told, kind: told if kind == "mysql" else read(told)


def _moment(told: str, kind: str) -> object:
    value = datetime.fromisoformat(told)
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ") if kind == "mysql" else value


_FORMS: dict[str, _Form] = {
    "l": _Form(Boolean(), lambda told, kind: bool(told)),
    "i": _Form(BigInteger(), lambda told, kind: int(told)),
    "f": _Form(Double(), lambda told, kind: float(told)),
    "n": _Form(Numeric(), _as_text_for_mysql(Decimal)),
    "t": _Form(DateTime(), _as_text_for_mysql(datetime.fromisoformat)),
    "z": _Form(DateTime(timezone=True), _moment),
    "d": _Form(Date(), _as_text_for_mysql(date.fromisoformat)),
    "c": _Form(Time(), _as_text_for_mysql(time.fromisoformat)),
    "u": _Form(Uuid(), _as_text_for_mysql(UUID)),
    "b": _Form(LargeBinary(), lambda told, kind: base64.b64decode(told)),
    "s": _Form(String(), lambda told, kind: told),
}
