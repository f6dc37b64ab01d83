"""`datong service`: what subsystems offer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from exchange import NotFoundError, ServiceId, service_id
from gateway.cli import console_io as io
from gateway.cli.acting import AsOption, actor_of
from gateway.cli.description_lists import comparison_of, print_comparison
from registry import Change, Descriptions, Operation, Registration, Registry, Service

app = typer.Typer(help="Services: what subsystems offer, operation by operation.", no_args_is_help=True)

ServiceArgument = Annotated[
    str, typer.Argument(help="instance/class/code/subsystem/service, e.g. CN/GOV/…/tax/enterprises")
]

FileArgument = Annotated[
    Path, typer.Argument(help="OpenAPI 3.0 or 3.1, JSON or YAML; - reads standard input.", metavar="FILE")
]


@app.command()
def add(
    service: ServiceArgument,
    title: Annotated[str, typer.Option("--title", help="Title in Chinese.")],
    operation: Annotated[
        list[str],
        typer.Option(
            "--operation",
            help="METHOD PATH [safe|unsafe], repeatable. {name} is one segment, * part of one, ** anything. "
            "GET, HEAD, OPTIONS and TRACE are safe unless said otherwise.",
        ),
    ],
    why: io.WhyOption,
    title_en: Annotated[str, typer.Option("--title-en", help="Title in English.")] = "",
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the answer.")] = 5.0,
    max_request_bytes: Annotated[int, typer.Option("--max-request-bytes", help="Largest request body.")] = 16 << 20,
    max_answer_bytes: Annotated[int, typer.Option("--max-answer-bytes", help="Largest answer body.")] = 64 << 20,
    unlisted: Annotated[
        bool, typer.Option("--unlisted", help="It does not exist for those who were granted nothing of it.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what is registered; operations not named are withdrawn.")
    ] = False,
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Register a service of a registered subsystem.

    Example: datong service add CN/GOV/11990000000001011Q/tax/enterprises --title 企业登记查询
    --operation "GET /enterprises/{uscc}" --operation "POST /enterprises/search safe" --why 目录〔2026〕12号
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    record = Service(
        id=_identifier(service),
        title_zh=title,
        title_en=title_en,
        operations=tuple(_operation(text) for text in operation),
        timeout=timeout,
        max_request_bytes=max_request_bytes,
        max_answer_bytes=max_answer_bytes,
        listed=not unlisted,
    )
    change = terminal.run(lambda registry: registry.add_service(record, by=io.who(by), why=why, replace=replace))
    terminal.changed(change, service)


@app.command()
def disable(
    service: ServiceArgument,
    notice: Annotated[str, typer.Option("--notice", help="What callers are told meanwhile.")],
    why: io.WhyOption,
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Close a service; callers with a grant get 503 and the notice.

    Example: datong service disable CN/GOV/11990000000001011Q/tax/enterprises --notice 系统升级，周一恢复 --why 变更单88
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    identifier = _identifier(service)
    change = terminal.run(
        lambda registry: registry.set_service_state(identifier, is_open=False, notice=notice, by=io.who(by), why=why)
    )
    terminal.changed(change, service)


@app.command()
def enable(
    service: ServiceArgument,
    why: io.WhyOption,
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Open a closed service again.

    Example: datong service enable CN/GOV/11990000000001011Q/tax/enterprises --why 升级完成
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    identifier = _identifier(service)
    change = terminal.run(lambda registry: registry.set_service_state(identifier, is_open=True, by=io.who(by), why=why))
    terminal.changed(change, service)


@app.command()
def describe(
    service: ServiceArgument,
    file: FileArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it changes, and for whom.")] = False,
    accept_breaking: Annotated[bool, typer.Option("--accept-breaking", help="It is meant to break callers.")] = False,
    why: Annotated[
        str, typer.Option("--why", help="The reason, kept on record; default: OpenAPI and its version.")
    ] = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Register the OpenAPI document of a service, with the operations that it declares.

    Example: datong service describe CN/GOV/11990000000001011Q/tax/enterprises openapi.yaml --dry-run
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    identifier, document = _identifier(service), _document(file)

    async def register(registry: Registry) -> Registration:
        return await Descriptions(registry).register(
            identifier,
            document,
            actor=await actor_of(registry, acting_as, by),
            why=why,
            accept_breaking=accept_breaking,
            dry_run=dry_run,
        )

    done = terminal.run(register)
    if as_json:
        change = done.change.version if done.change else None
        found = {"service": identifier, "number": done.number, "dry_run": dry_run, "change": change}
        io.print_json({**found, **comparison_of(done.comparison)})
        return
    print_comparison(terminal, done.comparison)
    if dry_run:
        typer.echo(terminal.say("Nothing was changed: a dry run.", "试运行，未作任何变更。"))
    else:
        terminal.changed(done.change, f"{identifier}/openapi/{done.number}")


@app.command()
def difference(
    service: ServiceArgument,
    file: FileArgument,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Show what an OpenAPI document would add, change and break, and for whom; exit code 1 if it breaks somebody.

    Example: datong service difference CN/GOV/11990000000001011Q/tax/enterprises openapi.yaml
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    identifier, document = _identifier(service), _document(file)
    found = terminal.run(lambda registry: Descriptions(registry).compare(identifier, document))
    if as_json:
        io.print_json(comparison_of(found))
    else:
        print_comparison(terminal, found)
    if found.breaking:
        raise typer.Exit(1)


@app.command("list")
def list_services(
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """List services.

    Example: datong service list --json
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    services = terminal.run(Registry.snapshot).services()
    if as_json:
        io.print_json(services)
        return
    headers = terminal.say("identifier title operations state notice", "标识符 名称 操作数 状态 公告").split()
    rows = [
        (
            each.id,
            terminal.say(each.title_en or each.title_zh, each.title_zh),
            len(each.operations),
            _state(each),
            each.notice,
        )
        for each in services
    ]
    io.print_table(headers, rows)


@app.command()
def show(
    service: ServiceArgument,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Show a service, its operations and limits, and how it came to be registered so.

    Example: datong service show CN/GOV/11990000000001011Q/tax/enterprises
    """
    terminal = io.Terminal.of(data, database, as_json, lang)

    async def read(registry: Registry) -> tuple[Service, tuple[Change, ...]]:
        found = (await registry.snapshot()).service(ServiceId(service))
        if found is None:
            raise NotFoundError(what=f"service {service}")
        return found, await registry.changes(target=service)

    found, changes = terminal.run(read)
    if as_json:
        io.print_json({**io.plain(found), "changes": changes})
        return
    io.print_fields(
        [
            (terminal.say("identifier", "标识符"), found.id),
            (terminal.say("title", "名称"), found.title_zh),
            (terminal.say("English title", "英文名称"), found.title_en),
            (terminal.say("state", "状态"), _state(found)),
            (terminal.say("notice", "公告"), found.notice),
            (terminal.say("listed", "公开"), terminal.say("yes", "是") if found.listed else terminal.say("no", "否")),
            (terminal.say("timeout", "超时"), f"{found.timeout:g} s"),
            (terminal.say("largest request", "请求上限"), f"{found.max_request_bytes} B"),
            (terminal.say("largest answer", "应答上限"), f"{found.max_answer_bytes} B"),
            (terminal.say("NATS subject", "NATS 主题"), found.nats_subject),
            *(
                (
                    terminal.say("operation", "操作"),
                    f"{each.method} {each.path}  {'safe' if each.safe else 'unsafe'}",
                )
                for each in found.operations
            ),
        ]
    )
    terminal.history(changes)


def _identifier(text: str) -> ServiceId:
    try:
        return service_id(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="SERVICE") from error


def _document(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from error


def _operation(text: str) -> Operation:
    words = text.split()
    if len(words) not in (2, 3) or (len(words) == 3 and words[2] not in ("safe", "unsafe")):
        raise typer.BadParameter(f"{text!r} is not METHOD PATH [safe|unsafe]", param_hint="--operation")
    return Operation.of(words[0].upper(), words[1], words[2] == "safe" if len(words) == 3 else None)


def _state(service: Service) -> str:
    return "open" if service.open else "disabled"
