"""For tests of the bus: waiting for a condition, a department that answers, and servers that misbehave."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg

from ca_auth import identity_uri
from deploy.demo.identities import OPERATOR_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import NatsBus, ServiceId, connect_client, inbox_prefix, service_nats_subject
from tests.conftest import Pki

ENTERPRISES = ServiceId(f"{TAX_SUBSYSTEM}/enterprises")
SUBJECT = service_nats_subject(ENTERPRISES)
GATEWAY = identity_uri(OPERATOR_SUBSYSTEM)

Handle = Callable[[Msg], Awaitable[None]]


async def until(condition: Callable[[], object], within: float = 10) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def gateway_bus(
    url: str, pki: Pki, *, wait: bool = True, ping_seconds: float = 5.0, identity: str = GATEWAY
) -> AsyncIterator[NatsBus]:
    """The gateway's side."""
    bus = NatsBus(url, pki.bus_tls("gateway"), identity, ping_seconds=ping_seconds)
    bus.start()
    try:
        if wait:
            await until(lambda: bus.connected)
        yield bus
    finally:
        await bus.stop()


@asynccontextmanager
async def department(
    server: NatsServer, pki: Pki, handle: Handle, nats_subject: str = SUBJECT
) -> AsyncIterator[Client]:
    """The tax bureau's side, with nats-py; each message is handled in a task of its own."""
    client = Client()
    tasks = set()

    async def take(message: Msg) -> None:
        task = asyncio.ensure_future(handle(message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await connect_client(client, server.url, pki.bus_tls("tax"), "tax", inbox_prefix(identity_uri(TAX_SUBSYSTEM)))
    try:
        await client.subscribe(nats_subject, queue="adapters", cb=take)
        await client.flush()
        await client.flush()  # nats-py may write the first one's ping ahead of the subscription
        yield client
    finally:
        for task in tasks:
            task.cancel()
        await client.close()


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted_server(pki: Pki, script: Script, certificate: str = "nats") -> AsyncIterator[str]:
    """A TLS server that is not a NATS server; yields its URL."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.certificate(certificate), pki.key(certificate))
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        handlers.add(task)
        try:
            await script(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the streams of asyncio would complain of a task that was cancelled
        finally:
            handlers.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
