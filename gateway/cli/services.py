"""`datong service`: what subsystems offer."""

from __future__ import annotations

from typing import Annotated

import typer

from exchange import NotFoundError, ServiceId
from gateway.cli import console_io as io
from gateway.cli.service_documents import ServiceArgument, describe, difference, identifier_of
from registry import Change, Operation, Registry, Service

app = typer.Typer(help="Services: what subsystems offer, operation by operation.", no_args_is_help=True)


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
        id=identifier_of(service),
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
    identifier = identifier_of(service)
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
    identifier = identifier_of(service)
    change = terminal.run(lambda registry: registry.set_service_state(identifier, is_open=True, by=io.who(by), why=why))
    terminal.changed(change, service)


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


def _operation(text: str) -> Operation:
    words = text.split()
    if len(words) not in (2, 3) or (len(words) == 3 and words[2] not in ("safe", "unsafe")):
        raise typer.BadParameter(f"{text!r} is not METHOD PATH [safe|unsafe]", param_hint="--operation")
    return Operation.of(words[0].upper(), words[1], words[2] == "safe" if len(words) == 3 else None)


def _state(service: Service) -> str:
    return "open" if service.open else "disabled"


app.command()(describe)
app.command()(difference)
