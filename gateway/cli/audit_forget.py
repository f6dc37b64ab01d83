"""`datong audit forget`: erase the keys of subjects, so that nobody can tell any more which records are theirs.

The command works on the databases themselves, beside a running gateway or without one, and puts what it did on the log.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.exc import SQLAlchemyError

from exchange import (
    CorruptLogError,
    Erasure,
    ExchangeLog,
    Language,
    MeshError,
    SubjectKeys,
    database_url,
    record_erasures,
    sqlite_path,
)
from gateway.cli import console_io as io
from gateway.cli.settings import from_environment, from_folder, from_running_mesh, variable

BY = "datong audit forget"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Whose keys are to be erased: of these numbers, or of those unused since a day."""

    numbers: tuple[str, ...]
    before: date | None


def forget(
    why: Annotated[
        str,
        typer.Option("--why", help="The reason, kept on record. A document number is a good one; never the subject."),
    ],
    subject: Annotated[
        str, typer.Option("--subject", help="File with the numbers of subjects, one a line; - reads standard input.")
    ] = "",
    unused_before: Annotated[
        str, typer.Option("--unused-before", help="Date: every subject that was put on record last before that day.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many there are; erase nothing.")] = False,
    by: io.ByOption = "",
    data: Annotated[
        Path, typer.Option("--data", help="Data folder of the mesh; DATONG_* variables count before it.")
    ] = io.DATA,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Erase the keys under which subjects were hashed. This cannot be undone; records and proofs stay as they are.

    Example: datong audit forget --unused-before 2023-11-01 --why "批复〔2026〕7号"
    """
    speak = io.language(lang)
    wanted = _wanted(subject, unused_before)
    if not why.strip():
        raise typer.BadParameter("say why", param_hint="--why")
    places: dict[str, Any] = from_folder(data) | from_running_mesh(data) | from_environment()
    with io.clear_errors(speak, as_json):
        try:
            _check_there(places)
            if dry_run:
                count = asyncio.run(_counted(places, wanted))
            else:
                erasure = asyncio.run(_erased(places, wanted, why=why, user=io.who(by)))
        except CorruptLogError as error:
            io.fail(str(error), as_json=as_json, code="log-corrupt")
        except (OSError, SQLAlchemyError) as error:
            # Not str() of SQLAlchemy's: it carries the statement and its parameters.
            cause = getattr(error, "orig", None) or (error if isinstance(error, OSError) else type(error).__name__)
            io.fail(
                {"en": f"the log or the keys cannot be used: {cause}", "zh": f"日志或主体密钥库不可用：{cause}"}[speak],
                as_json=as_json,
                code="database-unavailable",
            )
        except _NotOnTheLogError as error:
            problem = {
                "en": f"Keys of {error.count} subjects were erased, and that is not on the log yet: {error.cause}",
                "zh": f"已删除 {error.count} 个主体的密钥，但尚未写入日志：{error.cause.detail_in('zh')}",
            }
            todo = {
                "en": "It is kept with the keys: a running gateway or this command puts it there later.",
                "zh": "该记录已与密钥一并保存，运行中的网关或再次执行本命令时会补写。",
            }
            io.fail(problem[speak], todo=todo[speak], as_json=as_json, code=error.cause.code, erased=error.count)
    if dry_run:
        if as_json:
            io.print_json({"would_erase": count})
        else:
            said = {"en": f"Keys of {count} subjects would be erased.", "zh": f"将删除 {count} 个主体的密钥。"}
            typer.echo(said[speak])
        return
    _tell(erasure, wanted, is_sqlite=_file_of(places, "subject_database") is not None, speak=speak, as_json=as_json)


class _NotOnTheLogError(Exception):
    def __init__(self, count: int, cause: MeshError) -> None:
        super().__init__(str(cause))
        self.count = count
        self.cause = cause


def _wanted(subject: str, unused_before: str) -> _Wanted:
    if bool(subject) == bool(unused_before):
        raise typer.BadParameter("give either --subject or --unused-before")
    if unused_before:
        try:
            return _Wanted((), date.fromisoformat(unused_before))
        except ValueError as error:
            raise typer.BadParameter("write 2026-11-01", param_hint="--unused-before") from error
    try:
        text = sys.stdin.read() if subject == "-" else Path(subject).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        # Not what the file holds: numbers of people.
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise typer.BadParameter(f"{subject}: {reason}", param_hint="--subject") from error
    numbers = tuple(filter(None, (line.strip() for line in text.removeprefix("\ufeff").splitlines())))
    if not numbers:
        raise typer.BadParameter("there is no number in it", param_hint="--subject")
    return _Wanted(numbers, None)


def _file_of(places: dict[str, Any], setting: str) -> Path | None:
    try:
        return sqlite_path(database_url(str(places[setting])))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=variable(setting)) from error


def _check_there(places: dict[str, Any]) -> None:
    """Return if the databases are there, as they would be begun anew otherwise; raises FileNotFoundError."""
    for setting in ("log_database", "subject_database"):
        file = _file_of(places, setting)
        if file is not None and not file.exists():
            raise FileNotFoundError(f"{file} is not there (--data, {variable(setting)})")


@asynccontextmanager
async def _keys(places: dict[str, Any]) -> AsyncIterator[SubjectKeys]:
    keys = await SubjectKeys.open(str(places["subject_database"]), Path(places["subject_key"]).read_bytes())
    try:
        yield keys
    finally:
        await keys.close()


async def _counted(places: dict[str, Any], wanted: _Wanted) -> int:
    async with _keys(places) as keys:
        if wanted.before is not None:
            return await keys.count_unused(wanted.before)
        return len({hashed for number in wanted.numbers if (hashed := await keys.hash_on_record(number))})


async def _erased(places: dict[str, Any], wanted: _Wanted, *, why: str, user: str) -> Erasure:
    """The log is opened first: without it, nothing is erased."""
    log = await ExchangeLog.start(
        database=str(places["log_database"]), log_key=Path(places["log_key"]), gateway="audit-forget"
    )
    try:
        async with _keys(places) as keys:
            await record_erasures(keys, log)  # those of an earlier run that was cut off
            if wanted.before is not None:
                erasure = await keys.erase_unused(wanted.before, by=BY, why=why, user=user)
            else:
                erasure = await keys.erase(wanted.numbers, by=BY, why=why, user=user)
            try:
                if await record_erasures(keys, log):
                    await log.checkpoint()
            except MeshError as error:
                raise _NotOnTheLogError(erasure.count, error) from error
            return erasure
    finally:
        await log.close()


def _tell(erasure: Erasure, wanted: _Wanted, *, is_sqlite: bool, speak: Language, as_json: bool) -> None:
    if as_json:
        told = {"erased": erasure.count, "records": [event.id for event in erasure.events]}
        io.print_json({**told, "traceless": erasure.traceless})
        return
    of = f" of {len(wanted.numbers)} given" if wanted.numbers else ""
    of_zh = f"（共给出 {len(wanted.numbers)} 个号码）" if wanted.numbers else ""
    typer.echo(
        {
            "en": f"Erased the keys of {erasure.count} subjects{of}. Gateways stop using them within a second.",
            "zh": f"已删除 {erasure.count} 个主体的密钥{of_zh}，各网关一秒内停止使用。",
        }[speak]
    )
    for event in erasure.events:
        typer.echo({"en": f"  on the log: {event.id}", "zh": f"  日志记录：{event.id}"}[speak])
    if not erasure.count:
        return
    if not is_sqlite:
        left = {
            "en": "PostgreSQL keeps deleted rows: run VACUUM FULL subject_keys, and mind its archived write-ahead log.",
            "zh": "PostgreSQL 仍保留已删除的行：请执行 VACUUM FULL subject_keys，并处理归档的预写日志。",
        }
    elif not erasure.traceless:
        left = {
            "en": "Somebody reads the database, so its write-ahead log was not cut: run the command again later.",
            "zh": "数据库正被读取，预写日志未能清除：请稍后再次执行。",
        }
    else:
        left = {"en": "No copy is left in the files of the database.", "zh": "数据库文件中已无副本。"}
    typer.echo(left[speak])
    typer.echo(
        {"en": "Copies in backups are yours to destroy.", "zh": "备份中的副本须另行销毁。"}[speak],
    )
