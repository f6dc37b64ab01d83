"""A declared question to a database: its path, its query and its parameters. Nothing else can be asked.

Rules:
1. A parameter is text, or a whole number of 64 bits when it is listed under `integers`; for any other type the query says
   so: `WHERE born = CAST(:born AS date)`. An optional parameter that is not given is NULL:
   `WHERE (:name IS NULL OR name = :name)`.
2. A parameter that is not declared, given twice or not UTF-8 is refused: a filter that is misspelt must not answer with
   everything.
3. What an operation contradicts itself in is found when it is declared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote

from sqlalchemy import BigInteger, String, bindparam, text
from sqlalchemy.sql.elements import BindParameter, TextClause

CURSOR = "cursor"
"""Name of the parameter that says where a page begins."""
OWN = "datong_"
"""What names of parameters of the adapter's own begin with."""

_PARAMETER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_INTEGER = re.compile(r"-?[0-9]{1,18}")  # what fits into 64 bits, in ASCII digits
_SEGMENT_SAFE = "!$&'()*+,;=:@-._~/"
"""As the gateway writes paths, so that a template in other scripts meets them."""

Values = dict[str, str | int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """How an answer is cut into pages.

    Args:
        by: Columns of the query that together are unique and never NULL; pages are in their order.
        size: Most rows of one page.
    """

    by: tuple[str, ...]
    size: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlOperation:
    """One declared question to the database.

    Args:
        path: Template such as `/divisions/{code}`; the parameters in braces are bound to the query by name.
        query: SQL with named parameters, `SELECT ... WHERE code = :code`.
        result: `one` row or `many`.
        optional: Parameters taken from the query string, absent ones bound as NULL.
        required: Parameters that must be in the query string, else 400.
        integers: Parameters that must be whole numbers, else 400.
        booleans: Columns in which 0 and 1 are told as false and true.
        json: Columns whose text is JSON and told as such. PostgreSQL and MySQL tell by themselves of columns of that type.
        page: Rows come in pages; of `many` only.
        max_rows: Of `many` without pages: rows beyond are left out, and the answer says so.
        max_bytes: Most bytes of rows in an answer; None: what the adapter may answer.
        timeout: Seconds after which the query is ended; None: at the exchange's deadline.

    Raises:
        ValueError: The parts contradict each other; the message says how.
    """

    method: Literal["GET"] = "GET"
    path: str
    query: str
    result: Literal["one", "many"] = "one"
    optional: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    booleans: tuple[str, ...] = ()
    json: tuple[str, ...] = ()
    page: Page | None = None
    max_rows: int = 500
    max_bytes: int | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        names = [*_PARAMETER.findall(self.path), *self.optional, *self.required]
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"the parameter {name!r} must be a-z, 0-9 and _, and not begin with a digit")
            if name.startswith(OWN):
                raise ValueError(f"the parameter {name!r} must not begin with {OWN}")
            if names.count(name) > 1:
                raise ValueError(f"the parameter {name!r} is declared twice")
        if "{" in _PARAMETER.sub("", self.path) or "}" in _PARAMETER.sub("", self.path):
            raise ValueError(f"the path {self.path!r} has a brace that belongs to no parameter")
        if unknown := set(self.integers) - set(names):
            raise ValueError(f"integers names {min(unknown)!r}, which is no parameter")
        bound = set(text(self.query).compile().params)
        if unknown := bound - set(names):
            raise ValueError(f"the query binds :{min(unknown)}, which is no parameter (a colon of its own is \\:)")
        if unused := set(names) - bound:
            raise ValueError(f"the parameter {min(unused)!r} is not used in the query")
        if both := set(self.booleans) & set(self.json):
            raise ValueError(f"the column {min(both)!r} is under booleans and under json")
        if self.page is not None:
            self._agrees_with(self.page, names)

    def _agrees_with(self, page: Page, names: list[str]) -> None:
        if self.result != "many":
            raise ValueError('an answer in pages is result = "many"')
        if CURSOR in names:
            raise ValueError(f"the parameter {CURSOR!r} is the pages' own")
        if not page.by or len(set(page.by)) != len(page.by):
            raise ValueError("page.by names each column once, and one at least")

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of those in the path, then of those in the query string."""
        return (*_PARAMETER.findall(self.path), *self.required, *self.optional)


def path_pattern(template: str) -> re.Pattern[str]:
    """What matches the paths of a template, still percent-encoded."""
    parts = _PARAMETER.split(template)
    return re.compile(
        "".join(
            f"(?P<{part}>[^/]+)" if index % 2 else re.escape(quote(part, safe=_SEGMENT_SAFE))
            for index, part in enumerate(parts)
        )
    )


def statement(operation: SqlOperation) -> TextClause:
    """The declared query, for all rows."""
    return text(operation.query).bindparams(*parameters_of(operation))


def parameters_of(operation: SqlOperation) -> list[BindParameter[Any]]:
    """The declared parameters as the database gets them."""
    # With a type, a parameter that is NULL or stands where any type may stand has one in PostgreSQL as well.
    return [
        bindparam(name, type_=BigInteger() if name in operation.integers else String()) for name in operation.parameters
    ]


def values_of(operation: SqlOperation, in_path: dict[str, str], query_string: str) -> tuple[Values, str | None]:
    """The parameters' values, and the cursor if there is one; raises ValueError with a text for the caller."""
    given: dict[str, str] = {}
    cursor: str | None = None
    try:
        for name, value in in_path.items():
            given[name] = unquote(value, errors="strict")
        pairs = parse_qsl(query_string, keep_blank_values=True, errors="strict", max_num_fields=100)
    except UnicodeDecodeError as error:
        raise ValueError("A parameter is not UTF-8.") from error
    except ValueError as error:
        raise ValueError("There are too many parameters.") from error
    for name, value in pairs:
        if name == CURSOR and operation.page is not None:
            if cursor is not None:
                raise ValueError(f"The query parameter {name!r} is given twice.")
            cursor = value
            continue
        if name not in operation.required and name not in operation.optional:
            raise ValueError(f"The query parameter {name[:40]!r} is not known here.")
        if name in given:
            raise ValueError(f"The query parameter {name!r} is given twice.")
        given[name] = value
    values: Values = dict.fromkeys(operation.optional)
    for name in operation.required:
        if not given.get(name):
            raise ValueError(f"The query parameter {name!r} is required.")
    for name, value in given.items():
        if name in operation.integers:
            if not _INTEGER.fullmatch(value):
                raise ValueError(f"The parameter {name!r} must be a whole number.")
            values[name] = int(value)
        elif "\0" in value:  # which PostgreSQL has no place for
            raise ValueError(f"The parameter {name!r} holds a character that cannot be stored.")
        else:
            values[name] = value
    return values, cursor
