"""`adapter.toml` while its adapter runs: what is changed in it is in force in a moment, and no question is dropped for it.

Rules:
1. The file is looked at every second; SIGHUP has it read at once, and every source made anew (for what the file only points
   to: a Python module, a WSDL, a list of columns in another file).
2. A file that cannot be used changes nothing, and is told. So is a source that does not start.
3. Services come, change and go. Who the adapter is, where its bus and its ledger are, and the sizes of bodies are for its
   whole life: a change there is told, and waits for the next start. The rest of the same file counts all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from department_adapters.contract import AdapterContract, read_contract
from department_adapters.runner import Runner
from department_adapters.section import ContractError
from department_adapters.source import Source

LOOK_SECONDS: Final = 1.0

Make = Callable[[str, AdapterContract], Source]
"""Makes the source of a service, by its code."""

events = structlog.get_logger("datong.adapter")


class Reloading:
    """Follows the file of one running adapter."""

    def __init__(self, file: Path, contract: AdapterContract, runner: Runner, make: Make) -> None:
        """
        Args:
            file: Where `contract` was read from.
            contract: What `runner` runs by.
        """
        self._file = file
        self._contract = contract
        self._runner = runner
        self._make = make
        self._seen = _stamp(file)
        self._first = contract
        self.asked = asyncio.Event()
        """Set to have the file read and every source made anew."""

    async def follow(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Look at the file again and again, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look_seconds):
                    await self.asked.wait()
            anew = self.asked.is_set()
            self.asked.clear()
            seen = await asyncio.to_thread(_stamp, self._file)
            if seen != self._seen or anew:
                self._seen = seen  # before it is read: what is written meanwhile is seen at the next look
                await self._take_up(anew)

    async def _take_up(self, anew: bool) -> None:
        try:
            new = await asyncio.to_thread(read_contract, self._file)
            kept = self._kept(new) if not anew else {}
            made = {code: kept.get(code) or self._make(code, new) for code in new.services}
            signed = [code for code, service in new.services.items() if service.signed_requests]
            await self._runner.answer_from(made, signed=signed)
        except ContractError as error:
            events.error("adapter.not_reloaded", reason=str(error))  # it names file, key and fault, and no value
            return
        except Exception as error:  # noqa: BLE001  # libraries of sources raise what they like; the old sources go on
            events.error("adapter.not_reloaded", reason=type(error).__name__)
            return
        old, self._contract = self._contract, new
        if waits := _for_life(new) - _for_life(self._first):
            events.warning("adapter.restart_needed", keys=sorted(key for key, _ in waits))
        events.info(
            "adapter.reloaded",
            added=sorted(new.services.keys() - old.services.keys()),
            removed=sorted(old.services.keys() - new.services.keys()),
            changed=sorted(code for code in new.services.keys() & old.services.keys() if code not in kept),
            not_registered=self._runner.unheard,
        )

    def _kept(self, new: AdapterContract) -> dict[str, Source]:
        """The sources that stay as they are."""
        running: Mapping[str, Source] = self._runner.sources
        if self._contract.limits != new.limits:
            return {}
        return {
            code: running[code]
            for code, service in new.services.items()
            if code in running and self._contract.services.get(code) == service
        }


def _for_life(contract: AdapterContract) -> set[tuple[str, str]]:
    """Keys that are read once, at the start, with their values."""
    sections = {"adapter": contract.adapter, "bus": contract.bus, "ledger": contract.ledger}
    values = {f"{name}.{key}": value for name, section in sections.items() for key, value in section}
    values |= {f"limits.{key}": value for key, value in contract.limits if key not in ("concurrency", "queue")}
    return {(key, repr(value)) for key, value in values.items()}


def _stamp(file: Path) -> object:
    try:
        status = os.stat(file)
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_mtime_ns, status.st_size
