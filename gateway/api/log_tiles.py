"""`/log/`: the log as static files (c2sp.org/tlog-tiles), for witnesses, monitors and verifiers that others wrote.

Rules:
1. The checkpoint and the tiles of hashes are for anybody, without a certificate: they say nothing of anybody. Asking for them
   signs nothing and reads rows by their keys; strangers wait for each other, not the others for them.
2. Bundles of entries are for auditors, since records name officials, and each look at one is on record before it is answered.
3. Only what the newest signed checkpoint covers is there. It never changes, so it may be kept for ever; the checkpoint may not.
4. Of removed entries there is no bundle, and the answer says so. Their hashes stay, and so does every proof.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter

from exchange import (
    BundleError,
    ExchangeLog,
    MeshError,
    NotFoundError,
    OverloadedError,
    ProofError,
    Removed,
    RoleMissingError,
    StoredEntry,
    TileName,
    TilePathError,
    UnavailableError,
    pack_bundle,
    read_tile,
)
from gateway.api.access_records import record_access
from gateway.api.audit import reading_log
from gateway.api.callers import CallerDep
from gateway.api.exchange_refusals import LOG_AWAY, PARAMETERS, READING
from gateway.api.openapi import BY_CERTIFICATE, problems
from gateway.api.paging import known_parameters

router = APIRouter(prefix="/log", tags=["log"])
events = structlog.get_logger("datong.api")

FOR_EVER: Final = "public, max-age=31536000, immutable"
FOR_EVER_BY_ITS_READER: Final = "private, max-age=31536000, immutable"
FOR_A_MOMENT: Final = "public, max-age=1"
_STRANGERS: Final = 4
"""How many of them read at once. The connections of a log's reader are more."""
_WAITING: Final = 64
"""How many more wait for their turn; the next is told to come again."""
_COMPRESSION: Final = 4


class EntriesRemovedError(NotFoundError):
    """The time of the entries is over."""

    code, rule_name = "entries-removed", "entries-removed"
    title = {"en": "These entries were removed", "zh": "这些记录已按期清除"}
    detail = {
        "en": "Entries {first} to {last} were removed when their time was over, as entry {seq} says.",
        "zh": "第 {first} 至 {last} 条记录保存期满，已清除，见第 {seq} 条记录。",
    }
    next = {
        "en": "Ask the operator for the archive segment {segment}; it verifies by itself, and their hashes are still served.",
        "zh": "请向平台运维人员索取归档分段 {segment}（可自行验证）；其哈希值仍可获取。",
    }

    def __init__(self, found: Removed) -> None:
        super().__init__(first=found.first, last=found.end - 1, seq=found.seq, segment=found.segment)


def no_such_address() -> NotFoundError:
    return NotFoundError(what="such address", what_zh="该地址")


def not_signed_yet() -> NotFoundError:
    return NotFoundError(what="such tile under the newest checkpoint", what_zh="最新检查点之下的该数据块")


_NO_CHECKPOINT: Final = NotFoundError(what="checkpoint yet", what_zh="检查点")
_AUDITOR: Final = RoleMissingError(
    problem="CN/GOV/…/housing does not hold the role auditor.", problem_zh="CN/GOV/…/housing 没有 auditor 角色。"
)
_BYTES: Final = "application/octet-stream"


def _served(description: str, media: str, example: str | None = None) -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {"schema": {"type": "string"}}
    if media == _BYTES:
        content["schema"]["contentMediaType"] = media
    if example is not None:
        content["example"] = example
    return {
        200: {"description": description, "content": {media: content}},
        304: {"description": "`If-None-Match` names what is here. 未变更。"},
    }


Index = Annotated[
    str,
    PathParameter(
        description="Index of the tile in groups of three digits, as `x001/x234/067`; `.p/<W>` behind it names its first `<W>`.",
        examples=["000"],
    ),
]


@router.get(
    "/checkpoint",
    response_class=Response,
    responses={
        **problems(PARAMETERS, _NO_CHECKPOINT, LOG_AWAY, OverloadedError()),
        **_served("A signed note.", "text/plain", "log.example/gov\n42\nq3…=\n\n— log.example/gov …\n"),
    },
)
async def show_checkpoint(request: Request) -> Response:
    """The newest signed checkpoint, with the cosignatures that witnesses have given for it by now. 最新检查点。"""
    known_parameters(request)
    async with _reading_as_stranger(request) as log:
        newest = await log.reader.latest_checkpoint()
        if newest is None:
            raise NotFoundError(what="checkpoint yet", what_zh="检查点")
        lines = await log.reader.cosignatures(newest.size)
    note = newest.note + "".join([line for _, line in sorted(lines.items())])
    return _answer(request, note.encode(), "text/plain; charset=utf-8", FOR_A_MOMENT)


@router.get(
    "/tile/entries/{index:path}",
    response_class=Response,
    responses={
        **problems(
            *READING,
            _AUDITOR,
            no_such_address(),
            not_signed_yet(),
            EntriesRemovedError(Removed(0, 65536, 70000, "9f2c…")),
        ),
        **_served("Entries in order, each behind its length in two bytes.", _BYTES),
    },
    openapi_extra=BY_CERTIFICATE,
)
async def show_bundle(request: Request, caller: CallerDep, index: Index) -> Response:
    """A bundle of up to 256 records, for auditors. That it was asked for is on record before it is answered. 记录数据块。"""
    caller.require("auditor")
    known_parameters(request)
    name = _name(request)
    async with reading_log(request) as log:
        await _check_signed(log, name)
        found = [entry async for entry in log.reader.iter_entries(name.first, name.first + name.width)]
        removed = await log.reader.removed(name.first, name.first + name.width) if len(found) < name.width else []
    if removed:
        raise EntriesRemovedError(removed[0])
    bundle = _bundle(name, found)
    await record_access(request, caller, "log.bundle", {"first": name.first, "count": name.width})
    headers = {"vary": "accept-encoding"}
    if _takes_gzip(request):
        headers["content-encoding"] = "gzip"
        # Aside: half a megabyte takes longer than others should wait. No time in it: the same bundle, the same bytes.
        bundle = await asyncio.to_thread(gzip.compress, bundle, _COMPRESSION, mtime=0)
    return _answer(request, bundle, _BYTES, FOR_EVER_BY_ITS_READER, headers)


@router.get(
    "/tile/{level}/{index:path}",
    response_class=Response,
    responses={
        **problems(PARAMETERS, no_such_address(), not_signed_yet(), LOG_AWAY, OverloadedError()),
        **_served("Hashes of 32 bytes, one after the other: 256 of them, or `<W>`.", _BYTES),
    },
)
async def show_tile(
    request: Request,
    level: Annotated[str, PathParameter(description="0 for leaf hashes, at most 63. 层。", examples=["0"])],
    index: Index,
) -> Response:
    """A tile of the Merkle tree. No certificate is needed. 哈希数据块。"""
    known_parameters(request)
    name = _name(request)
    async with _reading_as_stranger(request) as log:
        size = await _check_signed(log, name)
        try:
            hashes = await read_tile(log.reader, name, size)
        except ProofError as error:
            raise _damaged(name, error) from error
    return _answer(request, hashes, _BYTES, FOR_EVER)


def _name(request: Request) -> TileName:
    """The tile that is asked for, by the address as it was sent: one that is spelled otherwise is kept twice by caches."""
    try:
        return TileName.from_path(request.scope["raw_path"].decode("latin-1").removeprefix(router.prefix + "/"))
    except TilePathError as error:
        raise no_such_address() from error


async def _check_signed(log: ExchangeLog, name: TileName) -> int:
    """The size of the newest signed tree, which holds the tile; raises NotFoundError if it does not."""
    newest = await log.reader.latest_checkpoint()
    if newest is None or not name.is_in(newest.size):
        raise not_signed_yet()
    return newest.size


def _bundle(name: TileName, found: Sequence[StoredEntry]) -> bytes:
    try:
        if len(found) != name.width:
            raise BundleError(f"{len(found)} of {name.width} entries are stored")
        return pack_bundle([entry.leaf for entry in found])
    except BundleError as error:
        raise _damaged(name, error) from error


def _damaged(name: TileName, error: ValueError) -> MeshError:
    """A part of the log is gone, and no record says that it may be: `datong audit check` will name it."""
    events.error("log.damaged", path=name.path, error=str(error))
    return UnavailableError("log-readable")


class _Strangers:
    """Callers without a certificate, who read in turn."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_STRANGERS)
        self._there = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        if self._there >= _STRANGERS + _WAITING:
            raise OverloadedError
        self._there += 1
        try:
            async with self._turns:
                yield
        finally:
            self._there -= 1


@asynccontextmanager
async def _reading_as_stranger(request: Request) -> AsyncIterator[ExchangeLog]:
    """The log, when it is the caller's turn; raises OverloadedError, and what `reading_log` raises."""
    state = request.app.state
    if not hasattr(state, "log_strangers"):
        state.log_strangers = _Strangers()
    async with state.log_strangers.turn(), reading_log(request) as log:
        yield log


def _answer(request: Request, body: bytes, media: str, kept: str, more: Mapping[str, str] | None = None) -> Response:
    """The body, or that the caller has it."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": kept, **(more or {})}
    if _has(request, tag):
        headers.pop("content-encoding", None)
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media, headers=headers)


def _has(request: Request, tag: str) -> bool:
    """Whether If-None-Match names the tag (RFC 9110 section 13.1.2: compared weakly)."""
    named = ",".join(request.headers.getlist("if-none-match"))
    return named.strip() == "*" or tag in re.findall(r'(?:W/)?("[^"]*")', named)


def _takes_gzip(request: Request) -> bool:
    """Whether Accept-Encoding names gzip and does not rule it out."""
    for each in ",".join(request.headers.getlist("accept-encoding")).lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight)
    return False
