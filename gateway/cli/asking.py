"""What commands share that ask a gateway's management API: who asks, and what goes wrong in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from exchange import Language
from gateway.cli import console_io as io
from gateway.cli.connection import Files, UnreachableError, explained, gateway_url

TIMEOUT = 30.0

CertOption = Annotated[Path | None, typer.Option("--cert", help="PEM certificate of who asks.")]
KeyOption = Annotated[Path | None, typer.Option("--key", help="PEM key of who asks.")]
AnchorsOption = Annotated[Path | None, typer.Option("--cacert", help="PEM of the gateway's CA.")]
ClientOption = Annotated[
    str, typer.Option("--client", help="Subsystem to act as, for a certificate of a whole member.")
]
GatewayOption = Annotated[
    str, typer.Option("--gateway", envvar="DATONG_GATEWAY", help="Gateway URL; default: that of the mesh in --data.")
]
DepartmentOption = Annotated[
    str, typer.Option("--as", help="Take the certificate of this department from --data; default: the operator's.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """One command's questions to one gateway."""

    url: str
    files: Files
    client: str
    as_json: bool
    lang: Language

    @classmethod
    def of(
        cls,
        *,
        gateway: str,
        data: Path,
        department: str,
        certificate: Path | None,
        key: Path | None,
        trust_anchors: Path | None,
        client: str,
        as_json: bool,
        lang: str,
    ) -> Asker:
        """From the options as given; what cannot be ends the command."""
        speak, pki = io.language(lang), data / "pki"
        name = department or "gateway"
        certificate = certificate or pki / f"{name}.crt"
        files = Files(
            certificate, key or certificate.with_suffix(".key"), trust_anchors or certificate.with_name("ca.pem")
        )
        try:
            return cls(url=gateway_url(gateway, data), files=files, client=client, as_json=as_json, lang=speak)
        except UnreachableError as error:
            io.fail(error.texts[speak], as_json=as_json)

    def get(self, path: str, parameters: Mapping[str, str | int]) -> dict[str, Any]:
        """The JSON object there; a refusal ends the command with its words."""
        headers = {"accept-language": "zh-CN" if self.lang == "zh" else "en"}
        headers |= {"x-road-client": self.client} if self.client else {}
        given = {name: value for name, value in parameters.items() if value != ""}
        try:
            with httpx.Client(verify=self.files.tls(), trust_env=False, timeout=TIMEOUT, headers=headers) as http:
                answer = http.get(self.url + path, params=given)
        except UnreachableError as error:
            io.fail(error.texts[self.lang], as_json=self.as_json)
        except httpx.HTTPError as error:
            io.fail(explained(error, self.url, self.files).texts[self.lang], as_json=self.as_json)
        try:
            content: dict[str, Any] = answer.json()
        except ValueError:
            content = {}
        if answer.status_code != 200:
            io.fail(
                str(content.get("detail", f"{self.url}{path}: {answer.status_code}")),
                todo=str(content.get("next", "")),
                as_json=self.as_json,
                code=str(content.get("type", "")).rpartition("/")[2],
                rule=str(content.get("rule", "")),
                status=answer.status_code,
            )
        return content

    def pages(self, path: str, noun: str, parameters: Mapping[str, str | int]) -> dict[str, Any]:
        """The first page of a list with the items of all its pages."""
        first = page = self.get(path, parameters)
        while page["next_cursor"]:
            page = self.get(path, {**parameters, "cursor": page["next_cursor"]})
            first[noun] += page[noun]
        del first["next_cursor"]
        return first

    def say(self, en: str, zh: str) -> str:
        """One of two texts, by language."""
        return zh if self.lang == "zh" else en
