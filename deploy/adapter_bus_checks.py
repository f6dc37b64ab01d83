"""Whether an adapter's certificate is good, and the bus lets it serve what its file says."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from cryptography import x509
from nats.aio.client import Client
from nats.errors import Error as NatsError

from ca_auth import identity_of
from department_adapters import AdapterContract
from exchange import (
    IdentityError,
    ServiceId,
    UnauthenticatedError,
    bus_tls,
    inbox_prefix,
    load_identity,
    load_sealing_keys,
    service_nats_subject,
)
from gateway.cli import local_checks
from gateway.cli.findings import Finding, failed, ok

SECONDS = 10.0
OLDEST = (2, 12)
_ENROL = (
    "datong adapter enrol FOLDER --gateway URL --root-fingerprint SHA256, with the code from the registry.",
    "请用注册码执行 datong adapter enrol 目录 --gateway 网关地址 --root-fingerprint 指纹。",
)


async def findings_of(contract: AdapterContract) -> list[Finding]:
    """The certificate, the gateways' certificates, then the bus; what depends on something broken is left out."""
    bus = contract.bus
    missing = [file for file in (bus.certificate, bus.key, bus.trust_anchors) if not file.exists()]
    if missing:
        names = ", ".join(str(file) for file in missing)
        return [failed("certificate", f"not there: {names}", f"缺少文件：{names}", *_ENROL)]
    findings = [*local_checks.accepted(bus.certificate, bus.key, bus.trust_anchors), _holder(contract)]
    findings += [*local_checks.keys([bus.key]), _gateways(bus.gateways)]
    if any(each.state == "failed" for each in findings):
        return findings
    return [*findings, *await _bus(contract)]


def _holder(contract: AdapterContract) -> Finding:
    name = f"subsystem {contract.subsystem}"
    try:
        named = identity_of(x509.load_pem_x509_certificates(contract.bus.certificate.read_bytes())[0])
    except (OSError, ValueError, UnauthenticatedError) as error:
        return failed(name, f"the certificate names nobody: {error}", f"证书未标明主体：{error}", *_ENROL)
    holder = named.subsystem or named.member
    if holder == contract.subsystem or (named.subsystem is None and contract.subsystem.startswith(f"{named.member}/")):
        return ok(name, "is what the certificate is for", "与证书一致")
    return failed(
        name,
        f"the certificate is for {holder}",
        f"证书属于 {holder}",
        "Correct subsystem in adapter.toml, or enrol with a code for it.",
        "请修改 adapter.toml 中的 subsystem，或用对应的注册码重新注册。",
    )


def _gateways(place: Path) -> Finding:
    name = f"gateways {place.name}"
    try:
        files = sorted(each for each in place.iterdir() if each.is_file()) if place.is_dir() else [place]
        count = sum(len(load_sealing_keys(file)) for file in files)
    except (IdentityError, OSError) as error:
        return failed(name, str(error), str(error), *_ENROL)
    if not count:
        return failed(name, "no gateway's certificate is there", "没有网关证书", *_ENROL)
    return ok(name, f"{count} gateways may ask", f"可接受 {count} 个网关的请求")


async def _bus(contract: AdapterContract) -> list[Finding]:
    bus = contract.bus
    name = f"bus {bus.url}"
    client = Client()
    try:
        identity = load_identity(bus.certificate, bus.key)
        tls = bus_tls(bus.certificate, bus.key, bus.trust_anchors)
        async with asyncio.timeout(SECONDS):
            await client.connect(
                servers=bus.url.split(","),
                tls=tls,
                tls_handshake_first=True,
                name="datong adapter check",
                inbox_prefix=inbox_prefix(identity.uri).encode(),
                allow_reconnect=False,  # or it would try again for ever, and never say why
                connect_timeout=3,
                error_cb=_unsaid,
            )
            return [
                _of_version(name, client),
                *[await _may_serve(client, contract, code) for code in contract.services],
            ]
    except (IdentityError, NatsError, OSError, ssl.SSLError) as error:  # timeouts are such, too
        why = str(error) or type(error).__name__
        return [
            failed(
                name,
                why,
                why,
                "Check url, and that this machine may connect outward to it. A bus that closes the connection does not know "
                f"the certificate: datong adapter register {contract.subsystem} {bus.certificate.name}, by the operator.",
                "请检查 url 以及本机能否向外连接该地址。如连接被总线关闭，说明证书未登记，请平台运维人员执行："
                f"datong adapter register {contract.subsystem} {bus.certificate.name}。",
            )
        ]
    finally:
        await client.close()


async def _unsaid(_: Exception) -> None:
    """What the server tells is looked at where it is asked for."""


def _of_version(name: str, client: Client) -> Finding:
    version = client.connected_server_version
    shown = f"NATS {version.major}.{version.minor}.{version.patch}"
    if (version.major, version.minor) < OLDEST:
        todo = "Use a NATS server of version 2.12 or newer.", "请使用 2.12 或更新版本的 NATS。"
        return failed(name, f"{shown} is too old", f"{shown} 版本过旧", *todo)
    return ok(name, f"connected outward, {shown}", f"已向外连接，{shown}")


async def _may_serve(client: Client, contract: AdapterContract, code: str) -> Finding:
    """Subscribed for a moment, without the adapters' queue: no question is taken from one that runs."""
    service = ServiceId(f"{contract.subsystem}/{code}")
    name = f"bus {service}"
    before = client.last_error
    subscription = await client.subscribe(service_nats_subject(service))
    await subscription.unsubscribe()
    # The first answer may come before the server has looked at the subscription.
    await client.flush()
    await client.flush()
    error = client.last_error
    if error is not before and error is not None:
        return failed(
            name,
            f"may not be served: {error}",
            f"无权提供该服务：{error}",
            "The operator registers it: datong service add; and the certificate: datong adapter register.",
            "请平台运维人员登记服务（datong service add）和证书（datong adapter register）。",
        )
    return ok(name, "may be served", "可以提供服务")
