"""What `datong doctor` asks of the two databases: are they there, of our schema, and sound at a glance? Nothing is changed."""

from __future__ import annotations

import asyncio
import importlib.resources
import time

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from exchange import (
    LogReader,
    NoteError,
    NoteSigner,
    Settings,
    create_engine,
    database_url,
    open_checkpoint,
    reading,
    sqlite_path,
)
from gateway.cli.findings import START, Finding, failed, ok, warning
from registry import Registry, Snapshot

ANSWER_SECONDS = 10.0
CHECKPOINT_SECONDS = 60.0
"""A record is under a checkpoint after one second; a minute leaves no doubt."""
FORGOTTEN_MS = 600_000


async def registry(settings: Settings) -> tuple[list[Finding], Snapshot | None]:
    """Whether the registry's database answers and has our schema; and what it holds."""
    findings, engine = await _database("registry", settings.registry_database, "registry")
    if engine is None:
        return findings, None
    try:
        snapshot = await Registry(engine).snapshot()
    except (SQLAlchemyError, OSError) as error:
        return [*findings, _unusable("registry", _cause(error))], None
    finally:
        await engine.dispose()
    counts = len(snapshot.members()), len(snapshot.services())
    findings.append(
        ok(
            "registry",
            f"version {snapshot.version}: {counts[0]} members, {counts[1]} services",
            f"版本 {snapshot.version}：{counts[0]} 个成员，{counts[1]} 项服务",
        )
    )
    return findings, snapshot


async def log(settings: Settings) -> tuple[list[Finding], int | None]:
    """Whether the log's database answers and has our schema, and its last checkpoint is good and recent.

    Also returns when (Unix milliseconds) the newest record was made.
    """
    findings, engine = await _database("log", settings.log_database, "exchange")
    if engine is None:
        return findings, None
    try:
        reader = LogReader(engine)
        size, _ = await reader.size()
        newest = await reader.entry_at(size - 1) if size else None
        exchanges, changes = await reader.counts()
        findings.append(
            ok(
                "log",
                f"{exchanges} exchanges and {changes} changes of the registry on record",
                f"已有 {exchanges} 条交换记录、{changes} 条登记变更记录",
            )
        )
        findings.append(await _checkpoint(reader, settings, size))
        findings += await _intents(reader)
        return findings, newest.at_ms if newest else None
    except (SQLAlchemyError, OSError) as error:
        return [*findings, _unusable("log", _cause(error))], None
    finally:
        await engine.dispose()


async def _checkpoint(reader: LogReader, settings: Settings, size: int) -> Finding:
    name = "log checkpoint"
    check = (
        "Run datong audit check, and find out who wrote to the database.",
        "请运行 datong audit check，并查明谁写入了数据库。",
    )
    signed = await reader.latest_checkpoint()
    covered = signed.size if signed else 0
    if covered > size:
        return failed(
            name,
            f"it covers {covered} records, and only {size} are there",
            f"检查点覆盖 {covered} 条记录，而日志只有 {size} 条",
            *check,
        )
    uncovered = await reader.entry_at(covered) if covered < size else None
    if uncovered is not None and time.time() - uncovered.at_ms / 1000 > CHECKPOINT_SECONDS:
        return warning(
            name, f"{size - covered} records are not under one", f"{size - covered} 条记录尚未被检查点覆盖", *START
        )
    if signed is None:
        return ok(name, "none yet", "尚无检查点")
    try:
        key = NoteSigner.from_skey(settings.log_key.read_text(encoding="ascii")).verifier
        checkpoint = open_checkpoint(signed.note, [key])
    except OSError as error:
        why = error.strerror or "?"
        return failed(
            name,
            f"{settings.log_key}: {why}",
            f"{settings.log_key}：{why}",
            "Check DATONG_LOG_KEY.",
            "请检查 DATONG_LOG_KEY。",
        )
    except (NoteError, ValueError) as error:
        says = f"does not verify with {settings.log_key}: {error}", f"用 {settings.log_key} 验证失败：{error}"
        return failed(name, *says, *check)
    return ok(
        name,
        f"signed by {checkpoint.origin}, over {checkpoint.size} records",
        f"由 {checkpoint.origin} 签署，覆盖 {checkpoint.size} 条记录",
    )


async def _intents(reader: LogReader) -> list[Finding]:
    now_ms = time.time_ns() // 1_000_000
    forgotten = [intent for intent in await reader.intents() if now_ms > intent.deadline_ms + FORGOTTEN_MS]
    if not forgotten:
        return []
    gateways = ", ".join(sorted({intent.gateway for intent in forgotten}))
    return [
        warning(
            "log intents",
            f"{len(forgotten)} exchanges were begun and never recorded as ended, by {gateways}",
            f"{len(forgotten)} 次交换已开始而没有结束记录，网关：{gateways}",
            "Start that gateway under the same name again: it records them as unknown.",
            "请以相同名称重新启动该网关：它会把这些交换记为未知。",
        )
    ]


async def _database(name: str, text: str, room: str) -> tuple[list[Finding], AsyncEngine | None]:
    """The engine if the database can be used, and what there is to say about its schema."""
    try:
        url = database_url(text)
    except ValueError as error:
        return [_unusable(name, str(error))], None
    file = sqlite_path(url)
    shown = str(file) if file else url.render_as_string(hide_password=True)
    if file is not None and not file.exists():
        # Connecting would make an empty one.
        return [failed(f"{name} database", f"{shown} is not there", f"{shown} 不存在", *START)], None
    engine = create_engine(url)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            current, newest = await _revisions(engine, f"{room}.migrations", f"{name}_schema_version")
    except (SQLAlchemyError, OSError) as error:  # a timeout is an OSError
        await engine.dispose()
        return [_unusable(name, f"{shown}: {_cause(error)}")], None
    if current == newest:
        return [ok(f"{name} database", f"{shown}, schema {current}", f"{shown}，结构版本 {current}")], engine
    if current is None or current < newest:
        finding = failed(
            f"{name} database",
            f"{shown} has schema {current or 'none'}, and this program needs {newest}",
            f"{shown} 的结构版本为 {current or '无'}，本程序需要 {newest}",
            "Start a gateway of this version: it brings the schema up to date.",
            "请启动本版本的网关，它会自动升级数据库结构。",
        )
    else:
        finding = failed(
            f"{name} database",
            f"{shown} has schema {current}, newer than this program, which knows {newest}",
            f"{shown} 的结构版本 {current} 比本程序所知的 {newest} 更新",
            "Install the version of Datong that wrote it.",
            "请安装写入该数据库的大同版本。",
        )
    await engine.dispose()
    return [finding], None


async def _revisions(engine: AsyncEngine, package: str, version_table: str) -> tuple[str | None, str]:
    """The schema's revision in the database, and the newest that this program knows."""
    with importlib.resources.as_file(importlib.resources.files(package)) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        newest = ScriptDirectory.from_config(config).get_current_head()
    async with reading(engine) as connection:

        def current(sync: sa.Connection) -> str | None:
            return MigrationContext.configure(sync, opts={"version_table": version_table}).get_current_revision()

        return await connection.run_sync(current), str(newest)


def _unusable(name: str, cause: str) -> Finding:
    variable = f"DATONG_{name.upper()}_DATABASE"
    return failed(
        f"{name} database",
        f"cannot be used: {cause}",
        f"不可用：{cause}",
        f"Check that the database server runs, and {variable}.",
        f"请确认数据库服务已启动，并检查 {variable}。",
    )


def _cause(error: Exception) -> str:
    # Not SQLAlchemy's own text: it carries the statement.
    if isinstance(error, SQLAlchemyError):
        return str(getattr(error, "orig", None) or type(error).__name__)
    return str(error) or type(error).__name__
