"""`datong log witness`: run a witness of exchange logs, make its key, list what it holds against them."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
import uvicorn

from ca_auth import EdgeLimits, edge_protocol
from exchange import (
    ED25519_COSIGNATURE,
    ML_DSA_44_COSIGNATURE,
    Cosigner,
    Keys,
    KnownLogs,
    Language,
    NoteError,
    ReceiptError,
    Witness,
    WitnessApp,
    WitnessFolder,
    WitnessState,
    WitnessStateError,
    configure_events,
)
from gateway.cli import console_io as io
from gateway.listening import PortBusyError, listen, loop_with, name_of

FOLDER = Path("datong-witness")

_DRAIN_SECONDS = 5
_ALGORITHMS = {"ed25519": ED25519_COSIGNATURE, "ml-dsa-44": ML_DSA_44_COSIGNATURE}

FolderOption = Annotated[Path, typer.Option("--data", help="Folder of the witness: its key, logs, and state.")]
NameOption = Annotated[
    str,
    typer.Option("--name", help="Name of the key, as audit.example.gov.cn/witness; needed only to make the key."),
]
AlgorithmOption = Annotated[
    Literal["ed25519", "ml-dsa-44"],
    typer.Option(
        "--algorithm", help="Of a new key. Software of others knows ed25519; ml-dsa-44 outlives quantum computers."
    ),
]
UrlOption = Annotated[str, typer.Option("--url", help="How logs reach the witness, for the policy line.")]


def witness(
    data: FolderOption = FOLDER,
    name: NameOption = "",
    log: Annotated[
        list[str] | None, typer.Option("--log", help="Verifier key (name+id+key) of a log to cosign; repeatable.")
    ] = None,
    keys: Annotated[
        list[Path] | None,
        typer.Option("--keys", help="Key list (keys.json) whose logs are to be cosigned; repeatable."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")] = 8551,
    url: UrlOption = "",
    tls_cert: Annotated[Path | None, typer.Option(help="PEM chain of a server certificate, for https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its PEM key.")] = None,
    algorithm: AlgorithmOption = "ed25519",
    ready_file: Annotated[Path | None, typer.Option("--ready-file", hidden=True)] = None,
    lang: io.LangOption = "",
) -> None:
    """Run a witness (c2sp.org/tlog-witness) until SIGINT or SIGTERM.

    It cosigns the checkpoints of the logs it knows, each only if it continues the one before. A fork or a smaller tree is refused
    and kept as evidence (`datong log evidence`). The first start makes the key and prints the line for the policy.

    Logs stand in logs.txt in the folder, one verifier key a line; the file may be changed while the witness runs. --log and --keys
    add to it.

    Example: datong log witness --name audit.example.gov.cn/witness --keys keys.json --data audit-witness --port 8551

    Exit status: 1 if the folder or the port cannot be used, 2 for wrong usage.
    """
    speak = io.language(lang)
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key belong together")
    configure_events()
    folder = WitnessFolder(data)
    state = WitnessState(folder.database)
    try:
        context = _tls(tls_cert, tls_key)
        cosigner = _key(folder, name, algorithm)
        logs = KnownLogs(folder.logs)
        logs.add([*(log or []), *_logs_of(keys or [])])
        known = logs.origins
        state.evidence()  # opens the file: better now than at the first request
        listener = listen(host, port)
    except (NoteError, ReceiptError, WitnessStateError, PortBusyError, OSError) as error:
        io.fail(str(error))
    listener.listen()  # from here on callers wait instead of being refused
    address = f"{'https' if context else 'http'}://{name_of(host)}:{listener.getsockname()[1]}"
    line = _policy_line(cosigner, url or address)
    typer.echo(_said(cosigner, address, line, known, folder, speak))
    application = WitnessApp(Witness(cosigner, logs, state, time.time), _about(cosigner, line))
    config = uvicorn.Config(
        application,
        http=edge_protocol(EdgeLimits(), lambda rule, status, peer: None),
        loop=loop_with(10.0),  # type: ignore[arg-type]  # uvicorn takes a class as it is
        lifespan="off",
        ws="none",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        log_config=None,
        limit_concurrency=None,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        ssl_context_factory=None if context is None else lambda config, default: context,
    )
    if ready_file is not None:
        ready_file.write_text(address, encoding="utf-8")  # it listens: who connects now is answered
    with listener:
        uvicorn.Server(config).run([listener])
    application.close()
    state.close()


def witness_key(
    data: FolderOption = FOLDER,
    name: NameOption = "",
    url: UrlOption = "",
    algorithm: AlgorithmOption = "ed25519",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Make the key of a witness, or show the one that is there: its verifier key, and the line for a policy.

    Example: datong log witness-key --name audit.example.gov.cn/witness --data audit-witness --url https://audit.example.gov.cn
    """
    io.language(lang)
    try:
        cosigner = _key(WitnessFolder(data), name, algorithm)
    except (NoteError, OSError) as error:
        io.fail(str(error), as_json=as_json)
    line = _policy_line(cosigner, url)
    if as_json:
        io.print_json({"vkey": cosigner.verifier.vkey, "policy_line": line})
    else:
        typer.echo(line)


def evidence(data: FolderOption = FOLDER, as_json: io.JsonOption = False, lang: io.LangOption = "") -> None:
    """What a witness holds against logs: forks, smaller trees, proofs that lead elsewhere; each with what was signed.

    A `fork` is two different trees of one size, both signed by the log: nothing else is needed to convict it. `older` may be an old
    copy of a log that was put back, or a request that came late; `inconsistent` a fork, or a sender's mistake.

    Exit status: 0 if there is nothing, 1 if there is.
    """
    speak = io.language(lang)
    folder = WitnessFolder(data)
    if not folder.database.exists():
        said = {"en": f"{folder.database} is not there", "zh": f"{folder.database} 不存在"}
        io.fail(said[speak], as_json=as_json)
    state = WitnessState(folder.database)
    try:
        found = state.evidence()
    except WitnessStateError as error:
        io.fail(str(error), as_json=as_json)
    finally:
        state.close()
    if as_json:
        io.print_json({"evidence": found})
    elif not found:
        typer.echo({"en": "nothing", "zh": "无"}[speak])
    for one in () if as_json else found:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.at))
        typer.echo(f"✗ {at} {one.misconduct} {one.origin} {one.size}")
        asked, cosigned = {"en": ("asked for", "cosigned before"), "zh": ("请求内容", "此前已联署")}[speak]
        for title, text in ((asked, one.request), (cosigned, one.cosigned)):
            typer.echo(f"  {title}:\n" + "".join([f"    {line}\n" for line in text.splitlines()]), nl=False)
    if found:
        raise typer.Exit(1)


def _key(folder: WitnessFolder, name: str, algorithm: str) -> Cosigner:
    return folder.cosigner(name, _ALGORITHMS[algorithm])


def _logs_of(files: list[Path]) -> list[str]:
    return [verifier.vkey for file in files for verifier in Keys.from_json(file.read_bytes()).logs]


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None or key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _policy_line(cosigner: Cosigner, url: str) -> str:
    """`witness <name> <vkey> [<url>]`; in a policy the name may be another."""
    return f"witness {cosigner.verifier.name} {cosigner.verifier.vkey} {url}".rstrip()


def _about(cosigner: Cosigner, line: str) -> str:
    return f"A witness of transparency logs (c2sp.org/tlog-witness): {cosigner.verifier.name}\n{line}\n"


def _said(cosigner: Cosigner, address: str, line: str, known: list[str], folder: WitnessFolder, speak: Language) -> str:
    logs = ", ".join(known) or {"en": "none yet", "zh": "暂无"}[speak]
    return {
        "en": f"witness {cosigner.verifier.name} at {address}\nlogs ({folder.logs}): {logs}\nfor policies: {line}",
        "zh": f"见证方 {cosigner.verifier.name}，地址 {address}\n日志（{folder.logs}）：{logs}\n策略文件用：{line}",
    }[speak]
