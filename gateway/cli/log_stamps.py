"""`datong log stamps`: which checkpoints of the log were stamped by whom, and where stamps are missing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from exchange import (
    Language,
    LogReader,
    StampConfig,
    Stamped,
    StampError,
    StampTime,
    UnprocessableError,
    check_token,
    read_stamped,
    read_timestamps,
    read_token,
)
from gateway.cli import console_io as io
from gateway.cli.audit_io import DatabaseOption, DataOption, read_log, unusable
from gateway.stamping import longest_wait_ms


def stamps(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many stamps.")] = 20,
    cursor: Annotated[int | None, typer.Option(min=0, help="Where the page before ended.")] = None,
    timestamps: Annotated[
        Path | None,
        typer.Option(
            envvar="DATONG_TIMESTAMPS",
            help="TOML file of the authorities: then each token is verified, and one that never stamped is a gap.",
        ),
    ] = None,
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Time stamps on checkpoints, those on the largest trees first, and the gaps in which entries waited for one.

    Exit status: 0, or 1 if a token is not what it should be, 2 if the log could not be read.
    """
    speak = io.language(lang)
    config = _config(timestamps, speak)
    found, problems = read_log(data, database, speak, lambda reader: _read(reader, config, cursor, limit, speak))
    if as_json:
        io.print_json(_plain(found, problems, verified=timestamps is not None))
    else:
        _print(found, problems, speak)
    if any(problems.values()):
        raise typer.Exit(1)


async def _read(
    reader: LogReader, config: StampConfig, cursor: int | None, limit: int, speak: Language
) -> tuple[Stamped, dict[StampTime, str]]:
    """What is stored, and what is wrong with each token; empty if nothing is."""
    found = await read_stamped(
        reader,
        authorities=[each.name for each in config.authorities],
        longest_ms=longest_wait_ms(config),
        now_ms=time.time_ns() // 1_000_000,
        below=cursor,
        limit=limit,
    )
    anchors = {each.name: each.anchors for each in config.authorities}
    problems: dict[StampTime, str] = {}
    for stamp in found.stamps:
        token = (await reader.stamps(stamp.size)).get(stamp.authority, b"")
        checkpoints = await reader.checkpoints_from(stamp.size, 1)
        problems[stamp] = ""
        try:
            if not checkpoints or checkpoints[0].size != stamp.size:
                raise StampError("there is no checkpoint of this size", "没有该大小的检查点")
            text = checkpoints[0].note.partition("\n\n")[0].encode() + b"\n"
            by = anchors.get(stamp.authority)
            said = read_token(token, text) if by is None else check_token(token, text, by)
            if said.gen_ms != stamp.at_ms:
                raise StampError("the time beside the token is not the token's", "所记时间与令牌不符")
        except StampError as error:
            problems[stamp] = {"en": str(error), "zh": error.zh}[speak]
    return found, problems


def _config(path: Path | None, speak: Language) -> StampConfig:
    if path is None:
        return StampConfig(authorities=())
    try:
        return read_timestamps(path)
    except UnprocessableError as error:
        unusable(error.detail_in(speak))


def _plain(found: Stamped, problems: dict[StampTime, str], *, verified: bool) -> dict[str, object]:
    return {
        "stamps": [
            {"size": each.size, "authority": each.authority, "at": _instant(each.at_ms), "problem": problems[each]}
            for each in found.stamps
        ],
        "verified": verified,
        "gaps": [
            {
                "authority": gap.authority,
                "size": gap.size,
                "since": _instant(gap.since_ms),
                "until": None if gap.until_ms is None else _instant(gap.until_ms),
            }
            for gap in found.gaps
        ],
        "next_cursor": found.below,
    }


def _print(found: Stamped, problems: dict[StampTime, str], speak: Language) -> None:
    headers = {"en": ("entries", "at", "authority", "problem"), "zh": ("记录数", "时间", "机构", "问题")}
    rows = [(each.size, io.plain(_instant(each.at_ms)), each.authority, problems[each]) for each in found.stamps]
    io.print_table(headers[speak], rows)
    for gap in found.gaps:
        since, until = io.plain(_instant(gap.since_ms)), gap.until_ms
        end = {
            "en": "now" if until is None else io.plain(_instant(until)),
            "zh": "现在" if until is None else io.plain(_instant(until)),
        }
        typer.echo(
            {
                "en": f"gap: entries from {gap.size} on waited for {gap.authority} from {since} until {end['en']}",
                "zh": f"缺口：自第 {gap.size} 条起的记录从 {since} 至 {end['zh']} 未获 {gap.authority} 的时间戳",
            }[speak]
        )
    if not found.stamps and not found.gaps:
        typer.echo({"en": "There are no time stamps.", "zh": "没有时间戳。"}[speak])
    if found.below is not None:
        typer.echo({"en": f"more: --cursor {found.below}", "zh": f"下一页：--cursor {found.below}"}[speak])


def _instant(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
