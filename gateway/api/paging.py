"""Lists of the management API: their parameters, their pages and the cursors that lead from one to the next.

Rules:
1. A parameter that is not known, or is given twice, is refused: a filter that is silently ignored shows something else.
2. A cursor says after which item to go on, so pages stay correct while items are added. It is opaque to callers, and holds
   nothing but the keys of an item they were shown; what they make up themselves shows them nothing more.
"""

from __future__ import annotations

import base64
import binascii
import bisect
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Request
from pydantic import BaseModel, Field

from exchange import InvalidRequestError

MAX_PAGE = 500
DEFAULT_PAGE = 50
_LONGEST_CURSOR = 1000

_T = TypeVar("_T")
_Key = str | int
Key = tuple[_Key, ...]
"""What orders a list: the same kinds of values in each item."""


class PageQuery(BaseModel):
    """Query parameters of every list; a list with filters adds its own."""

    cursor: str | None = Field(
        None,
        description="`next_cursor` of the page before. 上一页的 next_cursor。",
        pattern=f"^[A-Za-z0-9_-]{{1,{_LONGEST_CURSOR}}}$",
    )
    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="How many at most. 每页条数上限。")


Words = Annotated[
    str | None, Field(min_length=1, max_length=100, description="Part of a name or identifier. 名称或标识的一部分。")
]
"""A query parameter that `contains` looks for."""


def contains(words: str | None, *texts: str) -> bool:
    """Whether one of the texts holds the words, whatever their case; None is in all."""
    return words is None or any(words.casefold() in text.casefold() for text in texts)


def known_parameters(request: Request, known: type[BaseModel] | Iterable[str] = ()) -> None:
    """Return if each query parameter is a known one and given once; raises InvalidRequestError.

    Args:
        known: Their names, or the model that reads them.
    """
    names = frozenset(known.model_fields if isinstance(known, type) else known)
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name not in names:
            raise InvalidRequestError(
                "query-parameter",
                problem=f"There is no query parameter {name[:40]!r}.",
                problem_zh=f"没有查询参数 {name[:40]!r}。",
            )
        if name in seen:
            raise InvalidRequestError(
                "query-parameter",
                problem=f"The query parameter {name} is given more than once.",
                problem_zh=f"查询参数 {name} 重复出现。",
            )
        seen.add(name)


def cursor_of(*key: _Key) -> str:
    """The cursor that goes on after the item with this key."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def read_cursor(cursor: str, *kinds: type[_Key]) -> Key:
    """The key in a cursor.

    Args:
        kinds: `str` or `int` for each part of the key.

    Raises:
        InvalidRequestError: No cursor of this list.
    """
    try:
        data = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = msgspec.json.decode(data, type=tuple[_Key, ...])
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise _no_cursor() from error
    if tuple(map(type, found)) != kinds:
        raise _no_cursor()
    # A text that no database takes cannot come from us.
    if any("\0" in part if isinstance(part, str) else abs(part) >= 1 << 63 for part in found):
        raise _no_cursor()
    return found


def page_of(
    items: Sequence[_T], key: Callable[[_T], Any], page: PageQuery, *kinds: type[_Key]
) -> tuple[Sequence[_T], str | None]:
    """One page of items in memory, and the cursor of the next page, None at the end.

    Args:
        items: In the order of their keys.
        key: Key of an item; a text or number alone stands for a key of one part.
        kinds: As for `read_cursor`; one text unless said otherwise.
    """

    def whole(item: _T) -> Key:
        found = key(item)
        return found if isinstance(found, tuple) else (found,)

    first = 0
    if page.cursor is not None:
        first = bisect.bisect_right(items, read_cursor(page.cursor, *(kinds or (str,))), key=whole)
    shown = items[first : first + page.limit]
    more = first + page.limit < len(items)
    return shown, cursor_of(*whole(shown[-1])) if more else None


def _no_cursor() -> InvalidRequestError:
    return InvalidRequestError(
        "query-parameter",
        problem="The query parameter cursor is no next_cursor of this list.",
        problem_zh="查询参数 cursor 不是本列表返回的 next_cursor。",
    )
