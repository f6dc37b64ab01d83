"""What `datong doctor` asks of the parts that should be running: bus, adapters, gateway. Nothing is changed."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ca_auth import client_context
from exchange import (
    BusUnavailableError,
    IdentityError,
    ServiceId,
    Settings,
    bus_tls,
    connect_client,
    inbox_prefix,
    load_identity,
)
from gateway.cli.connection import Files, UnreachableError, explained
from gateway.cli.findings import START, Finding, failed, ok
from registry import Snapshot

ANSWER_SECONDS = 5.0
QUIET_SECONDS = 0.3
"""Discovery is over when nobody has answered for so long."""


@asynccontextmanager
async def _bus(settings: Settings) -> AsyncIterator[tuple[Client, str]]:
    """A connection with the gateway's identity; raises IdentityError or BusUnavailableError."""
    identity = load_identity(settings.gateway_certificate, settings.gateway_key)
    tls = bus_tls(settings.gateway_certificate, settings.gateway_key, settings.trust_anchors)
    client = Client()
    inbox = inbox_prefix(identity.uri)
    await connect_client(client, settings.bus_url, tls, "datong doctor", inbox)
    try:
        yield client, inbox
    finally:
        await client.close()


async def bus(settings: Settings, known: Snapshot | None) -> list[Finding]:
    """Whether the bus takes the gateway's certificate, and which adapters answer on it."""
    name = f"bus {settings.bus_url}"
    try:
        async with _bus(settings) as (client, inbox):
            version = client.connected_server_version
            shown = f"NATS {version.major}.{version.minor}.{version.patch}"
            findings = [ok(name, shown, shown)]
            return [*findings, *_adapters(await _discovered(client, inbox), known)]
    except IdentityError as error:
        why, why_zh = str(error), str(error)
    except BusUnavailableError as error:
        cause = error.__cause__
        why = f"{error} {cause or ''}".strip()
        why_zh = f"{error.detail_in('zh')} {cause or ''}".strip()
    except (NatsError, OSError) as error:
        why = why_zh = str(error) or type(error).__name__
    return [
        failed(
            name,
            why,
            why_zh,
            "Check that it runs, that DATONG_BUS_URL names it, and that it admits the gateway's certificate.",
            "请确认总线已启动、DATONG_BUS_URL 正确，且总线允许网关证书接入。",
        )
    ]


async def _discovered(client: Client, inbox: str) -> dict[str, dict[str, Any]]:
    """Instance -> its answer to $SRV.PING, with the endpoints from $SRV.INFO."""
    instances: dict[str, dict[str, Any]] = {}
    loop = asyncio.get_running_loop()
    quiet_at = loop.time() + 3 * QUIET_SECONDS

    async def heard(message: Msg) -> None:
        nonlocal quiet_at
        try:
            told = json.loads(message.data)
            instances.setdefault(str(told["id"]), {}).update(told)
        except (ValueError, KeyError, TypeError):
            return  # the server's word that nobody listens, or not an adapter's
        quiet_at = loop.time() + QUIET_SECONDS

    # An adapter may answer each question once, and a question is known by its reply subject: one for each.
    await client.subscribe(f"{inbox}.doctor.*", cb=heard)
    for verb in ("PING", "INFO"):
        await client.publish(f"$SRV.{verb}", b"", reply=f"{inbox}.doctor.{verb}")
    await client.flush()
    until = loop.time() + ANSWER_SECONDS
    while loop.time() < min(quiet_at, until):
        await asyncio.sleep(min(quiet_at, until) - loop.time())
    return instances


def _adapters(instances: dict[str, dict[str, Any]], known: Snapshot | None) -> list[Finding]:
    served: dict[str, int] = {}
    findings = []
    for instance, told in sorted(instances.items()):
        services = [
            endpoint.get("metadata", {}).get("service", "?")
            for endpoint in told.get("endpoints") or []
            if isinstance(endpoint, dict)
        ]
        for service in services:
            served[service] = served.get(service, 0) + 1
        owner = (told.get("metadata") or {}).get("subsystem", "?")
        shown = ", ".join(service.rpartition("/")[2] for service in services) or "-"
        findings.append(
            ok(f"adapter {told.get('name', '?')} {instance[:8]}", f"{owner} serves {shown}", f"{owner} 提供 {shown}")
        )
    if known is not None:
        findings += _not_served(served, known)
    return findings


def _not_served(served: Iterable[str], known: Snapshot) -> list[Finding]:
    there = frozenset(served)
    with_adapter = {one.subsystem for one in known.certificates() if one.active and one.use == "adapter"}
    expected = [one for one in known.services() if one.open and one.owner in with_adapter]
    return [
        failed(
            f"service {service.id}",
            "no adapter answers for it",
            "没有适配器应答",
            "Start the owner's adapter: datong adapter run; its log says if the bus refuses it.",
            "请启动提供方的适配器：datong adapter run；如被总线拒绝，其日志会说明。",
        )
        for service in expected
        if ServiceId(service.id) not in there
    ]


async def gateway(settings: Settings, url: str) -> list[Finding]:
    """Whether the gateway answers and says that it is ready."""
    name = f"gateway {url}"
    try:
        async with _https(client_context(settings.trust_anchors)) as http:
            response = await http.get(f"{url}/readyz")
    except httpx.HTTPError as error:
        why = explained(error, url, Files(settings.gateway_certificate, settings.gateway_key, settings.trust_anchors))
        return [failed(name, why.texts["en"], why.texts["zh"], *START)]
    except (OSError, ValueError) as error:
        return [failed(name, f"{settings.trust_anchors}: {error}", f"{settings.trust_anchors}：{error}", "", "")]
    try:
        told = response.json()
        missing = [part for part in ("bus", "log", "registry") if told[part] is not True]
    except (ValueError, KeyError, TypeError):
        return [failed(name, "what answers there is no gateway", "该地址上的服务不是网关", *START)]
    if missing:
        parts = ", ".join(missing)
        return [
            failed(
                name,
                f"not ready: {parts}",
                f"未就绪：{parts}",
                "See the checks of these parts, and the gateway's own log.",
                "请查看上述部分的检查结果及网关自身日志。",
            )
        ]
    return [ok(name, "ready", "就绪")]


async def tried(url: str, files: Files, client: str) -> Finding:
    """Whether a running gateway takes the certificate: a question about an exchange that nobody made."""
    name = f"gateway {url}"
    headers = {"X-Road-Client": client} if client else {}
    try:
        async with _https(files.tls()) as http:
            response = await http.get(f"{url}/v1/exchanges/0", headers=headers)
        problem = response.json() if response.status_code != 404 else {}
    except httpx.HTTPError as error:
        why = explained(error, url, files)
    except UnreachableError as error:
        why = error
    except ValueError:
        return failed(name, "what answers there is no gateway", "该地址上的服务不是网关", *START)
    else:
        if response.status_code == 404:
            return ok(name, "takes the certificate", "接受该证书")
        said = f"{response.status_code} {problem.get('rule', '')}: {problem.get('detail', '')}"
        return failed(name, said, said, str(problem.get("next", "")), str(problem.get("next", "")))
    return failed(name, why.texts["en"], why.texts["zh"], "", "")


def _https(tls: ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=tls, trust_env=False, timeout=ANSWER_SECONDS)
