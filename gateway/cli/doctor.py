"""`datong doctor`: what is wrong with the mesh on this machine, or with a certificate, and what to do about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from exchange import Language, Settings, certificate_uri, from_wire, subsystem_id
from gateway.cli import console_io as io
from gateway.cli import database_checks, local_checks, service_checks, trust_checks, witness_checks
from gateway.cli.connection import Files, UnreachableError, gateway_url
from gateway.cli.findings import Finding, failed, ok, show
from gateway.cli.settings import from_environment, from_folder, from_running_mesh, variable
from registry import Snapshot


def doctor(
    data: Annotated[
        Path, typer.Option(help="Data folder of a mesh on this machine; DATONG_* variables win.")
    ] = io.DATA,
    cert: Annotated[
        Path | None, typer.Option(help="Look only at this PEM certificate: would a gateway take it, and if not, why?")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its key; default: the .key beside it.")] = None,
    cacert: Annotated[Path | None, typer.Option(help="PEM of the accepted CAs; default: those of the gateway.")] = None,
    gateway: Annotated[str, typer.Option(envvar="DATONG_GATEWAY", help="Gateway URL; default: that of --data.")] = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Check a mesh on this machine, or one certificate, a line per check. Changes nothing.

    Example: datong doctor --cert housing.crt

    Exit status: 0 if nothing is broken (warnings are not), 1 otherwise.
    """
    speak = io.language(lang)
    # What the libraries log about a bus that is down is what our own lines say.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    try:
        url = gateway_url(gateway, data)
    except UnreachableError as error:
        raise typer.BadParameter(error.texts[speak], param_hint="--gateway") from error
    if cert is not None:
        anchors = cacert or _trust_anchors(data)
        findings = asyncio.run(_of_certificate(cert, key, anchors, data, url))
    else:
        findings = asyncio.run(_of_mesh(_settings(data, speak), data, url))
    if as_json:
        healthy = all(each.state != "failed" for each in findings)
        io.print_json({"healthy": healthy, "checks": [each.plain(speak) for each in findings]})
    else:
        show(findings, speak)
    raise typer.Exit(1 if any(each.state == "failed" for each in findings) else 0)


async def _of_mesh(settings: Settings, data: Path, url: str) -> list[Finding]:
    if not data.exists() and "trust_anchors" not in from_environment():
        return [local_checks.folder(data)]
    findings = [local_checks.folder(data)] if data.exists() else []
    findings += local_checks.room([path for path in (data, settings.log_key.parent) if path.exists()])
    findings += local_checks.keys(list(dict.fromkeys([*_key_files(settings), *sorted((data / "pki").glob("*.key"))])))
    findings += local_checks.certificates(list(_pairs(settings, data)), settings.trust_anchors)
    findings += trust_checks.trust_file(settings)
    of_registry, known = await database_checks.registry(settings)
    of_log, newest_ms = await database_checks.log(settings)
    findings += [local_checks.clock(newest_ms), *of_registry]
    if known is not None:
        findings += local_checks.registered([each for each in known.certificates() if each.active])
    findings += [*of_log, *await witness_checks.witnesses(settings), *await service_checks.bus(settings, known)]
    findings += await service_checks.gateway(settings, url)
    return findings


async def _of_certificate(cert: Path, key: Path | None, trust_anchors: Path, data: Path, url: str) -> list[Finding]:
    beside = cert.with_suffix(".key")
    key_file = key or (beside if beside.exists() else None)
    findings = list(local_checks.accepted(cert, key_file, trust_anchors))
    if any(each.state == "failed" for each in findings):
        return findings
    identifier = from_wire(certificate_uri(cert).removeprefix("datong:"))
    registry_database = (from_folder(data) | from_running_mesh(data) | from_environment()).get("registry_database")
    client = ""
    if registry_database:
        settings = Settings.model_construct(registry_database=str(registry_database))
        of_registry, known = await database_checks.registry(settings)
        if known is not None:
            client, found = _registered(identifier, known)
            findings.append(found)
        else:
            findings += [each for each in of_registry if each.state == "failed" and data.exists()]
    if key_file is not None:
        findings.append(await service_checks.tried(url, Files(cert, key_file, trust_anchors), client))
    return findings


def _registered(identifier: str, known: Snapshot) -> tuple[str, Finding]:
    """The subsystem to act as, and whether the registry knows it."""
    name = f"registry {identifier}"
    todo = (
        "The operator registers it: datong member add-subsystem.",
        "请平台运维人员登记：datong member add-subsystem。",
    )
    if identifier.count("/") == 2:
        subsystems = [each for each in known.subsystems() if each.id.startswith(f"{identifier}/") and each.active]
        if not subsystems:
            return "", failed(name, "no subsystem of it is registered", "没有已登记的子系统", *todo)
        names = ", ".join(each.id for each in subsystems)
        return subsystems[0].id, ok(name, f"may act as {names}, by X-Road-Client", f"可通过 X-Road-Client 代表 {names}")
    found = known.subsystem(subsystem_id(identifier))
    if found is None:
        return identifier, failed(name, "is not registered", "未登记", *todo)
    if not found.active:
        return identifier, failed(name, "is suspended", "已被暂停", "Ask the operator why.", "请向运维人员了解原因。")
    roles = ", ".join(found.roles) or "-"
    return identifier, ok(name, f"registered, roles: {roles}", f"已登记，角色：{roles}")


def _key_files(settings: Settings) -> tuple[Path, ...]:
    return settings.server_key, settings.gateway_key, settings.log_key, settings.subject_key


def _pairs(settings: Settings, data: Path) -> Iterator[tuple[str, Path, Path]]:
    yield "server", settings.server_certificate, settings.server_key
    yield "gateway", settings.gateway_certificate, settings.gateway_key
    seen = {settings.server_certificate, settings.gateway_certificate}
    for path in sorted((data / "pki").glob("*.crt")):
        if path not in seen and path.stem != "root":
            yield path.stem, path, path.with_suffix(".key")


def _trust_anchors(data: Path) -> Path:
    return Path((from_folder(data) | from_environment())["trust_anchors"])


def _settings(data: Path, speak: Language) -> Settings:
    try:
        return Settings(**from_folder(data) | from_running_mesh(data) | from_environment())
    except SettingsError as error:
        _stop(str(error))
    except ValidationError as error:
        for each in error.errors(include_url=False)[:-1]:
            typer.echo(f"datong doctor: {variable(str(each['loc'][0]))}: {each['msg']}", err=True)
        last = error.errors(include_url=False)[-1]
        _stop(f"{variable(str(last['loc'][0]))}: {last['msg']}")


def _stop(problem: str) -> NoReturn:
    typer.echo(f"datong doctor: {problem}", err=True)
    raise typer.Exit(2)
