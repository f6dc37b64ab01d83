"""Where the commands that run or examine a gateway take its settings from: a data folder, below DATONG_* variables."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_settings import EnvSettingsSource

from exchange import Settings


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"DATONG_{name.upper()}"


def from_environment() -> dict[str, Any]:
    """What DATONG_* sets."""
    return {name: value for name, value in EnvSettingsSource(Settings)().items() if value is not None}


def from_folder(data: Path) -> dict[str, Any]:
    """What a folder laid out by `datong up` sets."""
    pki = data / "pki"
    there = {
        "trust_file": data / "trust.toml",
        "ca_folder": data / "ca",
        "witness_policy": data / "witness-policy.txt",
    }  # older versions made none
    return {
        **{name: path for name, path in there.items() if path.exists()},
        "revocation_folder": data / "revocation",
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
        "nonce_database": f"sqlite:///{data / 'nonces.db'}",
        "quota_database": f"sqlite:///{data / 'quotas.db'}",
        "subject_database": f"sqlite:///{data / 'subjects.db'}",
    }


def from_running_mesh(data: Path) -> dict[str, Any]:
    """What `datong up` decided when it ran on the folder last: databases elsewhere, the port of the bus."""
    found: dict[str, Any] = {}
    # Without these files it is no mesh of `datong up`, and nothing is known beyond the layout.
    with suppress(OSError, ValueError):
        state = json.loads((data / "mesh.json").read_text(encoding="utf-8"))
        for setting, name in (("registry_database", "database"), ("log_database", "log_database")):
            if isinstance(state, dict) and state.get(name):
                found[setting] = state[name]
    with suppress(OSError):
        found["bus_url"] = (data / "run" / "nats.url").read_text(encoding="utf-8").strip()
    return found
