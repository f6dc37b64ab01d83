"""`datong log policy`: write a policy of witnesses, or say what one demands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange import Keys, Language, NoteError, PolicyError, ReceiptError, TrustPolicy
from gateway.cli import console_io as io


def policy(
    file: Annotated[Path | None, typer.Argument(help="A policy to explain; without it, one is written.")] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option("--witness", help="As `datong log witness` prints it: NAME VKEY [URL]; repeatable."),
    ] = None,
    log: Annotated[
        list[str] | None, typer.Option("--log", help="Verifier key (name+id+key) of a log it is for; repeatable.")
    ] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Key list (keys.json) with the logs it is for.")] = None,
    quorum: Annotated[
        str, typer.Option("--quorum", help="How many of the witnesses must cosign: all, any or a number.")
    ] = "all",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Write a policy (c2sp.org/tlog-policy) to standard output, or say what a policy demands.

    Example: datong log policy --keys keys.json --witness "audit audit.example+12345678+BEl8... https://audit.example" > policy.txt

    Exit status: 0 if the policy is good, 1 if it is not.
    """
    speak = io.language(lang)
    try:
        if file is not None:
            found = TrustPolicy.from_file(file)
        else:
            logs = list(log or []) + ([one.vkey for one in Keys.from_json(keys.read_bytes()).logs] if keys else [])
            found = TrustPolicy.from_text(_text(logs, list(witness or []), quorum))
    except (PolicyError, NoteError, ReceiptError, OSError) as error:
        io.fail(str(error), as_json=as_json)
    if as_json:
        io.print_json(_plain(found))
    elif file is not None:
        typer.echo(_explained(found, speak))
    else:
        typer.echo(found.text, nl=False)


def _text(logs: list[str], witnesses: list[str], quorum: str) -> str:
    lines = [f"log {vkey}" for vkey in logs]
    # Whoever pastes the whole line that the witness printed means the same.
    lines += [f"witness {one.removeprefix('witness ').strip()}" for one in witnesses]
    names = [line.split()[1] for line in lines if line.startswith("witness ") and len(line.split()) > 1]
    if names:
        lines += [f"group witnesses {quorum} {' '.join(names)}", "quorum witnesses"]
    else:
        lines.append("quorum none")
    return "\n".join([*lines, ""])


def _plain(found: TrustPolicy) -> dict[str, object]:
    return {
        "logs": [{"vkey": one.verifier.vkey, "url": one.url} for one in found.logs],
        "witnesses": [{"name": one.name, "vkey": one.verifier.vkey, "url": one.url} for one in found.witnesses],
        "groups": [{"name": one.name, "threshold": one.threshold, "members": one.members} for one in found.groups],
        "quorum": found.quorum,
    }


def _explained(found: TrustPolicy, speak: Language) -> str:
    words = {
        "en": ("log", "witness", "of", "quorum", "any log", "no witness needed"),
        "zh": ("日志", "见证方", "/", "法定人数", "任何日志", "不需要见证方"),
    }[speak]
    lines = [f"{words[0]} {one.verifier.name} {one.url}".rstrip() for one in found.logs] or [words[4]]
    lines += [f"{words[1]} {one.name} ({one.verifier.name}) {one.url}".rstrip() for one in found.witnesses]
    lines += [
        f"{one.name}: {one.threshold} {words[2]} {len(one.members)}: {', '.join(one.members)}" for one in found.groups
    ]
    lines.append(f"{words[3]}: {words[5] if found.quorum == 'none' else found.quorum}")
    return "\n".join(lines)
