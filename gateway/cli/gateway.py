"""`datong gateway`: run one gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from exchange import BusUnavailableError, IdentityError, MeshError, Settings
from gateway.serve import PortBusyError, serve


def gateway(
    data: Annotated[
        Path | None, typer.Option(help="Data folder laid out by `datong up`; fills in every path not set by DATONG_*.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")] = None,
) -> None:
    """Run a gateway until SIGINT or SIGTERM. Settings come from DATONG_* variables; see docs/settings.md.

    Example: datong gateway --data ./datong-data --port 8443
    """
    given: dict[str, Any] = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    try:
        settings = Settings(**(_of_folder(data) if data else {}) | _from_environment() | given)
        serve(settings)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            name = "DATONG_" + "_".join(str(part) for part in each["loc"]).upper()
            typer.echo(f"datong gateway: {name}: {each['msg']}", err=True)
        raise typer.Exit(2) from error
    except (PortBusyError, IdentityError, BusUnavailableError, MeshError) as error:
        typer.echo(f"datong gateway: {error}", err=True)
        raise typer.Exit(1) from error


def _from_environment() -> dict[str, Any]:
    """What DATONG_* sets, so that it wins over the folder's defaults."""
    return {name: value for name, value in EnvSettingsSource(Settings)().items() if value is not None}


def _of_folder(data: Path) -> dict[str, Any]:
    pki = data / "pki"
    return {
        "trust_anchors": pki / "ca.pem",
        "server_certificate": pki / "server.crt",
        "server_key": pki / "server.key",
        "gateway_certificate": pki / "gateway.crt",
        "gateway_key": pki / "gateway.key",
        "log_key": data / "log.key",
        "subject_key": data / "subject.key",
        "registry_database": f"sqlite:///{data / 'registry.db'}",
        "keys_file": data / "keys.json",
        "log_database": f"sqlite:///{data / 'log.db'}",
    }
