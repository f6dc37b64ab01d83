"""What `datong doctor` looks at of the log's witnesses: the policy, and what each of them has seen of the log."""

from __future__ import annotations

import ssl

from sqlalchemy.exc import SQLAlchemyError

from ca_auth import client_context
from exchange import (
    CorruptLogError,
    LogReader,
    NoteError,
    NoteSigner,
    NoteVerifier,
    PolicyError,
    PolicyWitness,
    Settings,
    TrustPolicy,
    create_engine,
    database_url,
    sqlite_path,
)
from gateway.cli.findings import Finding, failed, ok, warning
from gateway.witness_check import check_stored
from gateway.witness_client import WitnessClient, WitnessError

_TIMEOUT = 3.0


async def witnesses(settings: Settings) -> list[Finding]:
    """Whether the policy can be used, and whether its witnesses answer and have seen what is stored."""
    if settings.witness_policy is None:
        return []
    name = "witness policy"
    todo = "Check DATONG_WITNESS_POLICY (docs/witnesses.md).", "请检查 DATONG_WITNESS_POLICY（见 docs/witnesses.md）。"
    try:
        policy = TrustPolicy.from_file(settings.witness_policy)
        verifier = NoteSigner.from_skey(settings.log_key.read_text(encoding="utf-8")).verifier
        tls = client_context(settings.trust_anchors)
    except (PolicyError, NoteError, OSError, ValueError) as error:
        return [failed(name, f"cannot be used: {error}", f"不可用：{error}", *todo)]
    if policy.logs and verifier.public_key not in {one.verifier.public_key for one in policy.logs}:
        says = f"it does not name this log, {verifier.vkey}", f"其中没有本日志 {verifier.vkey}"
        return [failed(name, *says, *todo)]
    asked = [one for one in policy.witnesses if one.url]
    findings = [
        ok(
            name,
            f"{len(policy.witnesses)} witnesses, {len(asked)} of them are asked; quorum {policy.quorum}",
            f"见证方 {len(policy.witnesses)} 个，其中请求联署 {len(asked)} 个；法定人数规则 {policy.quorum}",
        )
    ]
    file = sqlite_path(database_url(settings.log_database))
    if file is not None and not file.exists():
        return findings  # connecting would make an empty log; that it is missing is said elsewhere
    engine = create_engine(settings.log_database)
    try:
        findings += [await _witness(one, verifier, LogReader(engine), tls) for one in asked]
    finally:
        await engine.dispose()
    return findings


async def _witness(witness: PolicyWitness, verifier: NoteVerifier, reader: LogReader, tls: ssl.SSLContext) -> Finding:
    name = f"witness {witness.name}"
    client = WitnessClient(witness, timeout=_TIMEOUT, tls=tls)
    try:
        seen = await client.last_seen(verifier.name, verifier)
        if seen is None:
            return warning(
                name,
                "it has not cosigned this log yet",
                "尚未联署过本日志",
                f"If the mesh runs, the witness does not know the log: give it {verifier.vkey}",
                f"如果平台正在运行，则该见证方不认识本日志：请把 {verifier.vkey} 交给它",
            )
        await check_stored(reader, witness, seen)
    except WitnessError as error:
        return warning(
            name,
            f"{witness.url}: {error}",
            f"{witness.url}：{error}",
            "Start it: datong log witness. Until then receipts may stay pending.",
            "请启动：datong log witness。在此之前回执可能一直处于待定状态。",
        )
    except CorruptLogError as error:
        return failed(
            name,
            str(error),
            f"见证方持有本日志签署的检查点（{seen.size if seen else 0} 条），而现存日志与之不符",
            "Restore the log to what the witness saw: docs/witnesses.md.",
            "请把日志恢复到见证方所见的状态：docs/witnesses.md。",
        )
    except (SQLAlchemyError, OSError) as error:
        return warning(
            name, type(error).__name__, type(error).__name__, "Look at the log's database.", "请检查日志数据库。"
        )
    finally:
        await client.close()
    return ok(name, f"it has seen {seen.size} records, as they are stored", f"已见 {seen.size} 条记录，与现存一致")
