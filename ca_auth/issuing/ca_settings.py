"""What the operator of a CA can set: `ca.toml` in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ca_auth.issuing.key_provider import TokenKey


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Pkcs11Settings(_Model):
    """Where the key is, if it is on a token."""

    module: str
    token: str
    label: str
    pin_file: str

    def key(self) -> TokenKey:
        return TokenKey(
            module=Path(self.module), token=self.token, label=self.label, pin_file=Path(self.pin_file).expanduser()
        )


class CaSettings(_Model):
    """`ca.toml`."""

    default_days: Annotated[float, Field(gt=0, le=825)] = 90
    """How long a certificate is valid unless the operator says otherwise."""
    max_days: Annotated[float, Field(gt=0, le=825)] = 398
    crl_days: Annotated[float, Field(gt=0, le=30)] = 7
    """From a CRL to its nextUpdate."""
    crl_url: str = ""
    """Put into certificates: where the CRL can be fetched."""
    permit_members: tuple[str, ...] = ()
    """Identifiers or beginnings of them, e.g. CN/GOV; the CA issues for these alone. None: for all."""
    pkcs11: Pkcs11Settings | None = None


def as_toml(settings: CaSettings) -> str:
    """`ca.toml` with these settings and what each means."""

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)  # TOML's basic strings are JSON's, as far as these go

    members = ", ".join(map(quoted, settings.permit_members))
    lines = [
        "# An issuing CA of Datong. Changes count from the next command on, and in a running server when it starts again.",
        f"default_days = {settings.default_days:g}  # validity of a certificate, unless the operator says otherwise",
        f"max_days = {settings.max_days:g}",
        f"crl_days = {settings.crl_days:g}  # from a CRL to its nextUpdate",
        f"crl_url = {quoted(settings.crl_url)}  # put into certificates: where the CRL can be fetched",
        f"permit_members = [{members}]  # identifiers or beginnings of them; empty: all",
    ]
    if settings.pkcs11 is not None:
        lines += ["", "[pkcs11]"]
        lines += [f"{name} = {quoted(value)}" for name, value in settings.pkcs11.model_dump().items()]
    return "\n".join(lines) + "\n"
