"""`datong adapter run`: what answers for a department, connected outward, with a certificate that is renewed in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from department_adapters import AdapterContract, ContractError, adapter_file, read_contract, serve_adapter
from exchange import IdentityError, LedgerError, configure_events, settle_heap


def run(
    place: Annotated[Path, typer.Argument(help="The adapter's folder, or its adapter.toml.")],
    ledger: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the ledger, in place of the one in the file: for a second instance on one machine."
        ),
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Written once questions are taken.")] = None,
) -> None:
    """Run one adapter until SIGINT or SIGTERM: it connects outward to the bus and opens no port.

    Several instances of one adapter share its questions. What is changed in the file is taken up; SIGHUP has it read at once,
    and all its sources made anew.

    Example: datong adapter run datong-data/adapters/tax
    """
    configure_events()
    file = adapter_file(place)
    try:
        contract = read_contract(file)
        if ledger is not None:
            contract = contract.with_ledger(ledger.resolve())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_renewing(contract, file=file, ready_file=ready_file))
    except (ContractError, IdentityError, LedgerError) as error:
        typer.echo(f"datong adapter: {error}", err=True)
        raise typer.Exit(2) from error


async def serve_renewing(contract: AdapterContract, *, file: Path, ready_file: Path | None = None) -> None:
    """`serve_adapter`, with a certificate that is renewed in time and loaded when it changes."""
    # Here and not above: it loads an HTTP server, which the other commands of this group need not wait for.
    from ca_auth import HeldCertificate, RenewalKeeper

    bus = contract.bus
    held = HeldCertificate(bus.certificate, bus.key)
    try:
        held.recover()
    except OSError as error:
        raise IdentityError(f"{held.certificate}: {error}") from error

    async def keep(reload: Callable[[], Awaitable[None]]) -> None:
        keeper = RenewalKeeper(
            f"adapter {contract.adapter.name}",
            held,
            url=bus.renewal_url or None,
            trust_anchors=bus.trust_anchors,
            on_renewed=reload,
            look_every=bus.certificate_look,
        )
        await keeper.run()

    settle_heap()
    await serve_adapter(contract, file=file, ready_file=ready_file, beside=keep)
