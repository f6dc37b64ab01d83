"""`datong log archive`, `prune`, `restore`: signed archives of the log, removing what was kept long enough, putting a log back.

The commands work on the log's database directly, beside gateways that run. They need the log's key: what they write is signed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from exchange import (
    ArchivedSegment,
    ArchiveError,
    ArchiveSource,
    CorruptLogError,
    DamagedLogError,
    Held,
    Keys,
    Language,
    LogArchiver,
    MeshError,
    NoteError,
    NoteSigner,
    PolicyError,
    ReceiptError,
    RestoreError,
    RestorePlan,
    Retention,
    StoreError,
    TrustPolicy,
    archive_bounds,
    archived_up_to,
    create_engine,
    create_log_file,
    database_url,
    log_store,
    open_checkpoint,
    open_pruner,
    plan_restore,
    record_loss,
    restore_log,
    segment_chain,
    segments_in,
    sqlite_path,
    upgrade,
)
from gateway.cli import console_io as io
from gateway.cli.audit_io import DATABASE_VARIABLE, clear_progress, instant, progress
from gateway.witness_check import last_seen

_T = TypeVar("_T")
_WITNESS_SECONDS = 10.0
_ENTRIES = re.compile(r"([0-9]{1,15}):([0-9]{1,15})?")

DataOption = Annotated[
    Path, typer.Option("--data", help="Data folder of the mesh, with the log (log.db), its key and the key list.")
]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        envvar=DATABASE_VARIABLE,
        help="Database of the log, instead of --data: sqlite:///PATH or postgresql://USER@HOST/NAME.",
    ),
]
KeysOption = Annotated[Path | None, typer.Option("--keys", help="Key list; default: keys.json in the data folder.")]
LogKeyOption = Annotated[
    Path | None,
    typer.Option("--log-key", envvar="DATONG_LOG_KEY", help="The log's key; default: log.key in the data folder."),
]


def archive(
    out: Annotated[Path, typer.Option("--out", help="Folder of the archive. What is in it goes on from there.")],
    until: Annotated[
        str, typer.Option("--until", help="Only records from before this date (UTC) or RFC 3339 instant.")
    ] = "",
    entries: Annotated[str, typer.Option("--entries", help="FIRST:END instead, multiples of 256; END exclusive.")] = "",
    tail: Annotated[
        bool, typer.Option("--tail", help="Up to the newest signed checkpoint, for restoring without a loss.")
    ] = False,
    size: Annotated[int, typer.Option("--segment", min=256, help="Entries in a segment, a multiple of 256.")] = 65536,
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    log_key: LogKeyOption = None,
    keys: KeysOption = None,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Write signed segments of the log that verify by themselves. Each is verified before it gets its name.

    Example: datong log archive --until 2026-01-01 --out /archive/log

    Exit status: 0 if it is done, 1 if the log is damaged there, 2 if it cannot be read or written.
    """
    speak = io.language(lang)
    if size % 256:
        raise typer.BadParameter("write a multiple of 256", param_hint="--segment")
    until_ms = instant(until, "--until")
    asked = _range(entries)
    signer = _signer(log_key or data / "log.key")
    key_list = _keys(keys or data / "keys.json")
    url = _database(database or f"sqlite:///{data / 'log.db'}")

    async def write() -> list[ArchivedSegment]:
        engine = create_engine(url)
        try:
            source = ArchiveSource(engine)
            there = segments_in(out) if out.exists() else []
            first, end = asked or (archived_up_to(there, signer.verifier.name), None)
            end = await source.archivable(end, until_ms, tail=tail)
            bounds = archive_bounds(first, end, size)
            archiver = LogArchiver(source, signer, key_list.logs, out)
            now_ms = int(datetime.now(UTC).timestamp() * 1000)
            return [one async for one in archiver.write(bounds, now_ms, progress(as_json))]
        finally:
            await engine.dispose()

    written = _done(write(), speak, as_json)
    if as_json:
        io.print_json({"segments": [{**io.plain(one), "path": str(one.path)} for one in written]})
        return
    clear_progress()
    for one in written:
        typer.echo(f"✓ {one.path.name}  {one.sha256}")
    count = sum(one.end - one.first for one in written)
    said = {
        "en": f"{count} records in {len(written)} segments; salts and signatures of callers stand beside them (*.private).",
        "zh": f"{count} 条记录，{len(written)} 个归档段；盐值与调用方签名另存为 *.private。",
    }
    if not written:
        said = {"en": "Nothing to archive: all that is covered is archived.", "zh": "没有需要归档的记录。"}
    typer.echo(said[speak])


def prune(
    archived: Annotated[Path, typer.Option("--archived", help="Folder of the archive.")],
    why: Annotated[str, typer.Option("--why", help="The reason, kept on record. A document number is a good one.")],
    retention: Annotated[
        Path | None,
        typer.Option(
            "--retention", envvar="DATONG_RETENTION", help="Retention classes; default: three years for everything."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    by: io.ByOption = "",
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    log_key: LogKeyOption = None,
    keys: KeysOption = None,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Remove records whose time is over and that a verified archive holds. Each removal is itself on record; proofs stay.

    Example: datong log prune --archived /archive/log --retention retention.toml --why "档〔2029〕3号"

    Exit status: 0 if it is done, 1 if the archive or the log is damaged, 2 if they cannot be used.
    """
    speak = io.language(lang)
    if not why.strip():
        raise typer.BadParameter("say why", param_hint="--why")
    key_list = _keys(keys or data / "keys.json")
    url = _database(database or f"sqlite:///{data / 'log.db'}")
    try:
        rules = Retention.from_file(retention) if retention is not None else Retention()
    except MeshError as error:
        _unusable(error.detail_in(speak))

    async def remove() -> Any:
        segments = segments_in(archived)
        key = log_key or data / "log.key"
        async with open_pruner(url.render_as_string(hide_password=False), key, key_list, by=io.who(by), why=why) as one:
            return await one.prune(
                segments, rules, lambda: datetime.now(UTC), only_count=dry_run, progress=progress(as_json)
            )

    pruned = _done(remove(), speak, as_json)
    if as_json:
        io.print_json({"dry_run": dry_run, **io.plain(pruned)})
        return
    clear_progress()
    for name, count in sorted(pruned.classes.items()):
        typer.echo(f"  {name}: {count}")
    typer.echo(
        {
            "en": f"{'Would remove' if dry_run else 'Removed'} {pruned.removed} records ({pruned.records} records of it); "
            f"{pruned.kept} of the archive stay in the log.",
            "zh": f"{'将清除' if dry_run else '已清除'} {pruned.removed} 条记录（留痕 {pruned.records} 条）；"
            f"归档中另有 {pruned.kept} 条仍保留在日志中。",
        }[speak]
    )


def restore(
    archived: Annotated[Path, typer.Option("--from", help="Folder of the archive.")],
    database: Annotated[str, typer.Option("--database", help="An empty database: sqlite:///PATH or postgresql://...")],
    keys: Annotated[Path, typer.Option("--keys", help="Key list: the log's keys, all that it ever had.")],
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", envvar="DATONG_WITNESS_POLICY", help="Witnesses to ask what they have seen of the log."
        ),
    ] = None,
    signed: Annotated[
        Path | None, typer.Option("--signed", help="The last checkpoint the log's key signed (log.key.signed).")
    ] = None,
    accept_loss: Annotated[
        bool,
        typer.Option("--accept-loss", help="Also if records are missing that were signed; needs --why and --log-key."),
    ] = False,
    why: Annotated[str, typer.Option("--why", help="The reason for a loss, kept on record.")] = "",
    log_key: Annotated[
        Path | None, typer.Option("--log-key", help="A new key, under which a log with a loss goes on.")
    ] = None,
    by: io.ByOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Put a log back from its archive into an empty database; everything is verified first, and compared with the witnesses.

    Example: datong log restore --from /archive/log --database sqlite:///log.db --keys keys.json --policy witness-policy.txt

    Exit status: 0 if it is done, 1 if the archive is damaged or signed records are missing, 2 if something cannot be used.
    """
    speak = io.language(lang)
    key_list = _keys(keys)
    url = _database(database)
    signer = _new_signer(log_key, key_list) if accept_loss else None
    if accept_loss and not why.strip():
        raise typer.BadParameter("say why", param_hint="--why")
    held = _held_here(signed, key_list)

    async def put_back() -> tuple[RestorePlan, list[str], int]:
        silent: list[str] = []
        if policy is not None:
            seen, silent = await _witnessed(policy, key_list)
            held.extend(seen)
        plan = plan_restore(segment_chain(segments_in(archived)), key_list, held, progress(as_json))
        if plan.losses and signer is None:
            raise _refused(plan)
        if (file := sqlite_path(url)) is not None:
            create_log_file(file)
        await upgrade(url, "exchange.migrations")
        engine = create_engine(url)
        try:
            there = await restore_log(engine, plan, progress(as_json))
        finally:
            await engine.dispose()
        if plan.losses and signer is not None and log_key is not None:
            store = log_store(url)
            now_ms = int(datetime.now(UTC).timestamp() * 1000)
            try:
                await record_loss(store, signer, log_key, plan, by=io.who(by), why=why, at_ms=now_ms)
            finally:
                await store.close()
        return plan, silent, there

    plan, silent, there = _done(put_back(), speak, as_json)
    if as_json:
        told = {"size": plan.size, "root": plan.root, "there_before": there, "not_asked": silent}
        io.print_json({**told, "lost": plan.losses, "removed": sum(one.end - one.first for one in plan.removed)})
        return
    clear_progress()
    _print_restored(plan, silent, asked=policy is not None, speak=speak)


def _print_restored(plan: RestorePlan, silent: Sequence[str], *, asked: bool, speak: Language) -> None:
    gone = sum(one.end - one.first for one in plan.removed)
    typer.echo(
        {
            "en": f"✓ {plan.size} records are back, of which {gone} had been removed when their time was over; "
            f"root {plan.root.hex()}",
            "zh": f"✓ 已恢复 {plan.size} 条记录，其中 {gone} 条此前已到期清除；根哈希 {plan.root.hex()}",
        }[speak]
    )
    for name in silent:
        typer.echo(
            {
                "en": f"! witness {name} did not answer: what it has seen was not compared",
                "zh": f"! 见证方 {name} 无应答：未能比对",
            }[speak]
        )
    if not asked:
        typer.echo(
            {
                "en": "! no witness was asked (--policy): nobody outside has said that nothing is missing",
                "zh": "! 未询问见证方（--policy）：无外部佐证表明没有缺失",
            }[speak]
        )
    for loss in plan.losses:
        typer.echo(_missing(plan, loss.by, loss.size)[speak])


def _missing(plan: RestorePlan, by: str, size: int) -> dict[Language, str]:
    return {
        "en": f"✗ entries {plan.size} to {size - 1} are missing: {by} has a signed checkpoint of {size} entries",
        "zh": f"✗ 缺少第 {plan.size} 至 {size - 1} 条记录：{by} 持有 {size} 条记录的已签名检查点",
    }


def _refused(plan: RestorePlan) -> RestoreError:
    lines = [_missing(plan, loss.by, loss.size) for loss in plan.losses]
    return RestoreError(
        "\n".join([line["en"] for line in lines])
        + "\nNothing was written. Find the missing segments, or use --accept-loss with --why and a new --log-key.",
        "\n".join([line["zh"] for line in lines])
        + "\n未写入任何内容。请找到缺失的归档段，或使用 --accept-loss 并提供 --why 与新的 --log-key。",
    )


async def _witnessed(policy: Path, keys: Keys) -> tuple[list[Held], list[str]]:
    """What witnesses have seen, and the names of those that did not say."""
    trusted = TrustPolicy.from_file(policy)
    found: list[Held] = []
    said: set[str] = set()
    for verifier in keys.logs:
        for witness, checkpoint in await last_seen(trusted.witnesses, verifier, timeout=_WITNESS_SECONDS):
            found.append(Held(f"witness {witness.name}", checkpoint))
            said.add(witness.name)
    return found, [witness.name for witness in trusted.witnesses if witness.name not in said]


def _held_here(signed: Path | None, keys: Keys) -> list[Held]:
    if signed is None:
        return []
    try:
        return [Held(signed.name, open_checkpoint(signed.read_text(encoding="utf-8"), keys.logs))]
    except (OSError, UnicodeDecodeError, NoteError) as error:
        _unusable(f"{signed}: {error}")


def _new_signer(log_key: Path | None, keys: Keys) -> NoteSigner:
    if log_key is None:
        raise typer.BadParameter(
            "a log that lacks what was signed goes on under a new key: name it", param_hint="--log-key"
        )
    signer = _signer(log_key)
    if signer.verifier.vkey in {one.vkey for one in keys.logs}:
        raise typer.BadParameter(
            "this key has signed what is missing: going on under it would be a fork; make a new one",
            param_hint="--log-key",
        )
    return signer


def _done(work: Coroutine[Any, Any, _T], speak: Language, as_json: bool) -> _T:
    """What `work` returns; what stands in its way ends the command."""
    try:
        return asyncio.run(work)
    except (ArchiveError, RestoreError) as error:
        _failed({"en": str(error), "zh": error.zh}[speak], as_json)
    except DamagedLogError as damage:
        said = {"en": damage.problem, "zh": damage.problem_zh}[speak]
        _failed(f"{damage.where}: {said}", as_json)
    except CorruptLogError as error:
        _failed(str(error), as_json)
    except (StoreError, NoteError, PolicyError, OSError) as error:
        _unusable(str(error))
    except SQLAlchemyError as error:
        # Not str() of it: it carries the statement and its parameters.
        cause = getattr(error, "orig", None) or type(error).__name__
        _unusable({"en": f"the log's database: {cause}", "zh": f"日志数据库：{cause}"}[speak])


def _range(text: str) -> tuple[int, int | None] | None:
    """FIRST:END of `--entries`; None if nothing was given."""
    if not text:
        return None
    found = _ENTRIES.fullmatch(text)
    first, end = (int(found[1]), int(found[2]) if found[2] else None) if found else (1, None)
    if first % 256 or (end is not None and (end % 256 or end <= first)):
        raise typer.BadParameter("write FIRST:END, both multiples of 256", param_hint="--entries")
    return first, end


def _signer(log_key: Path) -> NoteSigner:
    try:
        return NoteSigner.from_skey(log_key.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, NoteError) as error:
        _unusable(f"{log_key}: {error}")


def _keys(path: Path) -> Keys:
    try:
        return Keys.from_json(path.read_bytes())
    except (OSError, ReceiptError) as error:
        _unusable(str(error))


def _database(text: str) -> URL:
    try:
        return database_url(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--database") from error


def _failed(problem: str, as_json: bool) -> NoReturn:
    clear_progress()
    io.fail(problem, as_json=as_json)


def _unusable(problem: str) -> NoReturn:
    typer.echo(f"error: {problem}", err=True)
    raise typer.Exit(2)
