"""`datong adapter new`: the folder of a new adapter, from what a department has."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange import Language, service_id, subsystem_id
from gateway.cli import console_io as io

if TYPE_CHECKING:
    from department_adapters import AdapterDraft

NOBODY = "CN/GOV/000000000000000000"
"""The member of a subsystem that was not named: nobody's, as its check character is wrong."""


def new(
    name: Annotated[str, typer.Argument(help="Name of the adapter, and of the folder: letters, digits, - and _.")],
    from_openapi: Annotated[
        str, typer.Option("--from-openapi", help="OpenAPI 3.0 or 3.1 document of the API that answers: file or URL.")
    ] = "",
    from_db: Annotated[
        str,
        typer.Option(
            "--from-db",
            help="Database that answers: postgresql://USER@HOST/NAME, mysql://…, sqlite:///PATH. "
            "${NAME} stands for a variable of the environment.",
        ),
    ] = "",
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Table or view of --from-db, SCHEMA.TABLE if need be; repeatable."),
    ] = None,
    from_files: Annotated[
        str, typer.Option("--from-files", help="Files that answer: 'drop/*.csv'; CSV, Excel or Parquet.")
    ] = "",
    from_wsdl: Annotated[str, typer.Option("--from-wsdl", help="WSDL file of the SOAP service that answers.")] = "",
    key: Annotated[
        list[str] | None,
        typer.Option("--key", help="Column by which records are asked for; default: the table's key. Repeatable."),
    ] = None,
    base_url: Annotated[
        str, typer.Option("--base-url", help="Where the API stands, if its document does not say so.")
    ] = "",
    subsystem: Annotated[
        str, typer.Option("--subsystem", help="Subsystem that it answers for: instance/class/code/subsystem.")
    ] = "",
    service: Annotated[str, typer.Option("--service", help="Code of the service; default: NAME.")] = "",
    title: Annotated[
        str, typer.Option("--title", help="What the service is called; default: what it is made from.")
    ] = "",
    out: Annotated[Path, typer.Option("--out", help="Folder in which the new folder is made.")] = Path(),
    bus: Annotated[str, typer.Option("--bus", help="URL of the bus.")] = "tls://localhost:4222",
    gateway: Annotated[
        str, typer.Option("--gateway", help="URL of a gateway, at which the certificate renews itself.")
    ] = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Draft an adapter: settings, contract, test, and how it is registered. Nothing is overwritten, nothing asked back.

    Example: datong adapter new people --from-db postgresql://reader@db.example/civil --table residents
    --subsystem CN/GOV/11990000000001011Q/civil
    """
    speak = io.language(lang)
    given = {"openapi": from_openapi, "db": from_db, "files": from_files, "wsdl": from_wsdl}
    kinds = [kind for kind, value in given.items() if value]
    if len(kinds) != 1:
        raise typer.BadParameter("give one of --from-openapi, --from-db, --from-files and --from-wsdl")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
        raise typer.BadParameter("1 to 40 letters, digits, - and _", param_hint="NAME")
    if bool(table) != (kinds == ["db"]):
        raise typer.BadParameter("--from-db and --table go together", param_hint="--table")
    owner = subsystem or f"{NOBODY}/{name}"
    try:
        subsystem_id(owner)
        code = service_id(f"{owner}/{service or name}").rpartition("/")[2]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--subsystem, --service") from error

    # Not above: it loads databases' and documents' libraries, which the adapter that runs does without.
    from department_adapters import ScaffoldError, adapter_files, write_adapter_folder
    from deploy.adapter_drafting import Wanted, drafted

    place = out / name
    wanted = Wanted(
        name=name,
        subsystem=owner,
        service=code,
        title=title,
        tables=table or [],
        key=key or [],
        base_url=base_url,
        bus=bus,
        gateway=gateway,
        place=place,
    )
    try:
        with io.clear_errors(speak, as_json):
            draft = asyncio.run(drafted(kinds[0], given[kinds[0]], wanted))
            files = adapter_files(draft)
            write_adapter_folder(place, files)
    except ScaffoldError as error:
        io.fail(error.texts[speak], as_json=as_json, code="scaffold")
    if as_json:
        io.print_json(_plain(draft, place, sorted(files), speak))
    else:
        _show(draft, place, sorted(files), named=bool(subsystem), speak=speak)


def _plain(draft: AdapterDraft, place: Path, files: list[str], speak: Language) -> dict[str, Any]:
    return {
        "folder": str(place),
        "files": files,
        "subsystem": draft.subsystem,
        "service": f"{draft.subsystem}/{draft.service}",
        "operations": [f"{each.method} {each.path}" for each in draft.operations],
        "items": [
            {"path": each.path, "sensitivity": each.proposal.sensitivity, "mask": each.proposal.mask}
            for each in draft.items
        ],
        "secrets": {name: told.of(speak) for name, told in draft.source.secrets.items()},
        "notes": [told.of(speak) for told in draft.source.notes],
    }


def _show(draft: AdapterDraft, place: Path, files: list[str], *, named: bool, speak: Language) -> None:
    def say(en: str, zh: str) -> None:
        typer.echo(zh if speak == "zh" else en)

    say(f"Written to {place}: {', '.join(files)}", f"已生成 {place}：{', '.join(files)}")
    count, items = len(draft.operations), len(draft.items)
    say(f"{count} operations, {items} items", f"{count} 个操作，{items} 个数据项")
    for each in draft.items:
        proposal = each.proposal
        if proposal.why:
            mask = f", mask {proposal.mask}" if proposal.mask else ""
            mask_zh = f"，脱敏 {proposal.mask}" if proposal.mask else ""
            say(
                f"  {each.path}: {proposal.sensitivity}{mask} ({proposal.why})",
                f"  {each.path}：{proposal.sensitivity}{mask_zh}（{proposal.why_zh}）",
            )
    for note in draft.source.notes:
        say(f"! {note.en}", f"! {note.zh}")
    if not named:
        say(
            f"! subsystem in adapter.toml is a placeholder, {draft.subsystem}: put yours there, or begin again with --subsystem.",
            f"! adapter.toml 中的 subsystem 是占位符 {draft.subsystem}：请改为本部门的子系统，或用 --subsystem 重新生成。",
        )
    say("Next:", "下一步：")
    for name, told in draft.source.secrets.items():
        typer.echo(f"  export {name}=…    # {told.of(speak)}")
    folder = shlex.quote(str(place))
    why, code = ("批复文号", "注册码") if speak == "zh" else ("the approval", "CODE")
    gateway = draft.gateway or "URL"
    typer.echo(f"  datong adapter check {folder} --no-bus")
    typer.echo(f"  sh {shlex.quote(str(place / 'register.sh'))} '{why}'")
    typer.echo(f"  datong adapter enrol {folder} --gateway {gateway} --root-fingerprint SHA256 --code {code}")
    typer.echo(f"  datong adapter run {folder}")
