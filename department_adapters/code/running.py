"""What `Adapter.run` does."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from department_adapters.code.section import PythonService
from department_adapters.contract import read_contract
from department_adapters.sdk import Adapter
from department_adapters.section import ContractError
from department_adapters.serve import make_source, serve_adapter
from department_adapters.source import Source
from exchange import IdentityError, LedgerError, configure_events, settle_heap


def run(adapter: Adapter, contract_file: Path) -> None:
    """Serve the contract's services, those of the program that runs by `adapter`."""
    configure_events()
    try:
        contract = read_contract(contract_file)
        program = getattr(sys.modules["__main__"], "__file__", None)
        sources: dict[str, Source] = {}
        for code, service in contract.services.items():
            ours = isinstance(service, PythonService) and program and service.module.samefile(program)
            sources[code] = adapter if ours else make_source(service, contract)
        if adapter not in sources.values():
            raise ContractError(f"{contract_file}: no service has this program as its module")
        settle_heap()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_adapter(contract, sources=sources))
    except (ContractError, IdentityError, LedgerError) as error:
        print(f"datong adapter: {error}", file=sys.stderr)
        raise SystemExit(2) from error
