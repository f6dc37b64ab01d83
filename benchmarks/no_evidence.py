"""The same gateway and adapter with seals, ledger and log switched off: what evidence costs is the difference (target P6).

This exists for the benchmark only. The product has no such switch: what follows replaces methods in this process.
"""

from __future__ import annotations

import asyncio
import sys

import typer

import exchange
import exchange.broker.broker
from department_adapters import answers
from deploy import trial_adapter
from deploy.cli import app


def _done(value: object = None) -> asyncio.Future[object]:
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


async def _nothing(*_: object) -> None:
    return None


def switch_off() -> None:
    """Make sealing, checking, ledger and log do nothing in this process."""
    replacements: dict[type, dict[str, object]] = {
        exchange.SealVerifier: {"check": lambda self, signer, key, seal, statement: None},
        exchange.Ledger: {"intend": _nothing, "answered": lambda self, answers: None},
        exchange.ExchangeLog: {
            "append": lambda self, record, **columns: _done(0),
            "intend": lambda self, exchange_id, **columns: _done(),
        },
    }
    for module in (exchange.broker.broker, answers):
        module.seal_all = lambda key, context, statements: [b""] * len(statements)  # type: ignore[attr-defined]
    for kind, methods in replacements.items():
        for name, method in methods.items():
            setattr(kind, name, method)


if __name__ == "__main__":
    switch_off()
    if sys.argv[1] == "adapter":
        typer.run(trial_adapter.main)
    else:
        app(prog_name="datong")
