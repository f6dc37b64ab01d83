"""`datong adapter check`: whether an adapter would serve well, and what to do where it would not."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import structlog
import typer

from gateway.cli import console_io as io
from gateway.cli.findings import show


def check(
    place: Annotated[Path, typer.Argument(help="The adapter's folder, or its adapter.toml.")] = Path("adapter.toml"),
    no_bus: Annotated[
        bool, typer.Option("--no-bus", help="Leave out certificate and bus: before it is enrolled.")
    ] = False,
    no_fuzz: Annotated[bool, typer.Option("--no-fuzz", help="Leave out made-up requests.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="For made-up requests, all together.")] = 20.0,
    seed: Annotated[int, typer.Option("--seed", help="Another number makes up other requests.")] = 0,
    sample: Annotated[
        list[str] | None,
        typer.Option("--sample", help="Call to make, 'GET /people/7', where the contract has no example; repeatable."),
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Also call operations that may change something: on a test system only.")
    ] = False,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Check an adapter, a line per check, with the fix: settings, contract, certificate, bus, and its answers.

    Only operations that change nothing are called, one after the other. What the department's system answers is shown where
    masks are previewed: keep it to yourself.

    Example: datong adapter check people --no-bus

    Exit status: 0 if nothing is broken (warnings are not), 1 otherwise.
    """
    # Not above: it loads every kind of source.
    from deploy.adapter_checks import Plan, findings_of

    speak = io.language(lang)
    # What the sources log of a system that is away is what our own lines say.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    plan = Plan(
        bus=not no_bus, fuzz_seconds=0.0 if no_fuzz else seconds, seed=seed, samples=tuple(sample or ()), unsafe=unsafe
    )
    try:
        findings = asyncio.run(findings_of(place, plan))
    finally:
        logging.disable(logging.NOTSET)
    if as_json:
        healthy = all(each.state != "failed" for each in findings)
        io.print_json({"healthy": healthy, "checks": [each.plain(speak) for each in findings]})
    else:
        show(findings, speak)
    raise typer.Exit(1 if any(each.state == "failed" for each in findings) else 0)
