"""`datong adapter list`, `info`, `stats` and `ping`: the adapters that run now, through a gateway."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli import asking
from gateway.cli import console_io as io

SubsystemOption = Annotated[str, typer.Option("--subsystem", help="Only those of this subsystem.")]


def list_adapters(
    subsystem: SubsystemOption = "",
    department: asking.DepartmentOption = "",
    gateway: asking.GatewayOption = "",
    certificate: asking.CertOption = None,
    key: asking.KeyOption = None,
    trust_anchors: asking.AnchorsOption = None,
    client: asking.ClientOption = "",
    data: io.DataOption = io.DATA,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """List running instances, and the departments of which none answers. Exit status 1 if there is one.

    Example: datong adapter list --lang zh
    """
    asker = asking.Asker.of(
        gateway=gateway,
        data=data,
        department=department,
        certificate=certificate,
        key=key,
        trust_anchors=trust_anchors,
        client=client,
        as_json=as_json,
        lang=lang,
    )
    found = asker.pages("/v1/adapters", "adapters", {"subsystem": subsystem, "limit": 500})
    if as_json:
        io.print_json(found)
    else:
        headers = asker.say(
            "subsystem instance name version services requests errors p95 breaker connected",
            "子系统 实例 名称 版本 服务 请求 错误 p95 熔断 连接时间",
        ).split()
        io.print_table(headers, [_line(each) for each in found["adapters"]])
        _tell_silent(asker, found["silent"])
    raise typer.Exit(1 if found["silent"] else 0)


def info(
    instance: Annotated[str, typer.Argument(help="Identifier of the instance, from `datong adapter list`.")],
    department: asking.DepartmentOption = "",
    gateway: asking.GatewayOption = "",
    certificate: asking.CertOption = None,
    key: asking.KeyOption = None,
    trust_anchors: asking.AnchorsOption = None,
    client: asking.ClientOption = "",
    data: io.DataOption = io.DATA,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Show one running instance: its certificate, since when it runs, and each of its services.

    Example: datong adapter info a1b2c3d4e5f6a7b8c9d0e1
    """
    asker = asking.Asker.of(
        gateway=gateway,
        data=data,
        department=department,
        certificate=certificate,
        key=key,
        trust_anchors=trust_anchors,
        client=client,
        as_json=as_json,
        lang=lang,
    )
    found = asker.get(f"/v1/adapters/{instance}", {})
    if as_json:
        io.print_json(found)
        return
    not_registered = "" if found["certificate_registered"] else asker.say(" (NOT REGISTERED)", "（未登记）")
    names = asker.say(
        "subsystem|instance|name|version|description|certificate|started|connected|registered, not served",
        "子系统|实例|名称|版本|说明|证书|启动时间|连接时间|已登记但未提供",
    ).split("|")
    values = (
        *(found["subsystem"], found["instance"], found["name"], found["version"], found["description"]),
        f"{found['certificate'] or '?'}{not_registered}",
        *(found["started"], found["connected"], ", ".join(found["not_served"])),
    )
    io.print_fields(list(zip(names, values, strict=True)))
    typer.echo("")
    _print_services(asker, [found])


def stats(
    subsystem: SubsystemOption = "",
    department: asking.DepartmentOption = "",
    gateway: asking.GatewayOption = "",
    certificate: asking.CertOption = None,
    key: asking.KeyOption = None,
    trust_anchors: asking.AnchorsOption = None,
    client: asking.ClientOption = "",
    data: io.DataOption = io.DATA,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Show how each service of each instance does: questions, errors, how long answers took in the last minutes.

    Example: datong adapter stats --subsystem CN/GOV/11990000000001011Q/tax
    """
    asker = asking.Asker.of(
        gateway=gateway,
        data=data,
        department=department,
        certificate=certificate,
        key=key,
        trust_anchors=trust_anchors,
        client=client,
        as_json=as_json,
        lang=lang,
    )
    found = asker.pages("/v1/adapters", "adapters", {"subsystem": subsystem, "limit": 500})
    if as_json:
        io.print_json(found)
        return
    _print_services(asker, found["adapters"])
    _tell_silent(asker, found["silent"])


def ping(
    subsystem: SubsystemOption = "",
    department: asking.DepartmentOption = "",
    gateway: asking.GatewayOption = "",
    certificate: asking.CertOption = None,
    key: asking.KeyOption = None,
    trust_anchors: asking.AnchorsOption = None,
    client: asking.ClientOption = "",
    data: io.DataOption = io.DATA,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Ask every instance for a sign of life. Exit status 1 if a department gives none.

    Example: datong adapter ping
    """
    asker = asking.Asker.of(
        gateway=gateway,
        data=data,
        department=department,
        certificate=certificate,
        key=key,
        trust_anchors=trust_anchors,
        client=client,
        as_json=as_json,
        lang=lang,
    )
    found = asker.get("/v1/adapters/ping", {"subsystem": subsystem})
    if as_json:
        io.print_json(found)
    else:
        for each in found["adapters"]:
            typer.echo(f"{each['subsystem']} {each['instance']} {each['name']} {each['milliseconds']:.1f} ms")
        _tell_silent(asker, found["silent"])
    raise typer.Exit(1 if found["silent"] else 0)


def _line(adapter: dict[str, Any]) -> tuple[object, ...]:
    services = adapter["services"]
    states = {each["breaker"] for each in services} - {"closed", None}
    slowest = [each["p95_ms"] for each in services if each["p95_ms"] is not None]
    return (
        *(adapter["subsystem"], adapter["instance"], adapter["name"], adapter["version"], len(services)),
        sum(each["requests"] for each in services),
        sum(each["errors"] + each["refused"] for each in services),
        _millis(max(slowest, default=None)),
        ", ".join(sorted(states)) or "closed",
        adapter["connected"],
    )


def _print_services(asker: asking.Asker, adapters: list[dict[str, Any]]) -> None:
    headers = asker.say(
        "service instance requests answered errors refused now p50 p95 breaker last-error",
        "服务 实例 请求 应答 失败 拒绝 处理中 p50 p95 熔断 最近错误",
    ).split()
    rows = []
    for adapter in adapters:
        for each in adapter["services"]:
            unheard = asker.say(" (not registered: hears nothing)", "（未登记，收不到请求）")
            rows.append(
                (
                    each["service"] + (unheard if each["listening"] is False else ""),
                    *(adapter["instance"], each["requests"], each["answered"], each["errors"], each["refused"]),
                    *(each["in_progress"], _millis(each["p50_ms"]), _millis(each["p95_ms"])),
                    *(each["breaker"] or "", each["last_error"]),
                )
            )
    io.print_table(headers, rows)


def _millis(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} ms"


def _tell_silent(asker: asking.Asker, silent: list[str]) -> None:
    for each in silent:
        typer.echo(asker.say(f"{each}: no instance answers", f"{each}：没有实例应答"))
