"""`datong call`: one exchange from the command line, as a department system would make it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import httpx
import typer

from ca_auth import client_context
from exchange import IdentityError, certificate_uri

TIMEOUT = 65.0


def call(
    service: Annotated[
        str,
        typer.Argument(
            help="instance/class/member/subsystem/service[/path][?query], e.g. CN/GOV/…/tax/enterprises/9111…"
        ),
    ],
    method: Annotated[str, typer.Option("--method", "-X", help="HTTP method.")] = "GET",
    client: Annotated[str, typer.Option(help="Subsystem to act as; default: the one in the certificate.")] = "",
    certificate: Annotated[Path | None, typer.Option("--cert", help="PEM certificate of the caller.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="PEM key of the caller.")] = None,
    trust_anchors: Annotated[Path | None, typer.Option("--cacert", help="PEM of the gateway's CA.")] = None,
    gateway: Annotated[str, typer.Option(envvar="DATONG_GATEWAY", help="Gateway URL.")] = "",
    data: Annotated[Path, typer.Option(help="Data folder of a mesh on this machine, for --as.")] = Path("datong-data"),
    department: Annotated[
        str, typer.Option("--as", help="Take certificate and client of this department from --data.")
    ] = "",
    purpose: Annotated[str, typer.Option(help="Purpose, as the grant names it.")] = "",
    case: Annotated[str, typer.Option(help="Case or document number.")] = "",
    user: Annotated[str, typer.Option(help="Acting official.")] = "",
    subject: Annotated[str, typer.Option(help="Person or company asked about; kept as a keyed hash.")] = "",
    body: Annotated[
        str, typer.Option("--body", "-d", help="Request body; @FILE reads a file, @- standard input.")
    ] = "",
    content_type: Annotated[str, typer.Option(help="Content-Type of the body.")] = "application/json",
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="Further header, 'Name: value'.")] = None,
    receipt: Annotated[Path | None, typer.Option(help="Fetch the receipt and write it here.")] = None,
    include: Annotated[bool, typer.Option("--include", "-i", help="Show status and headers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: status, headers, body.")] = False,
) -> None:
    """Ask a department for data.

    Example: datong call --as housing --purpose public-rental-housing CN/GOV/…/tax/enterprises/91990000…

    Exit status: 0 for an answer below 400, 1 for any other answer, 2 if nothing could be asked.
    """
    if department:
        certificate, key = data / "pki" / f"{department}.crt", data / "pki" / f"{department}.key"
        trust_anchors = trust_anchors or data / "pki" / "ca.pem"
    gateway = gateway or _gateway_of(data)
    if certificate is None or key is None or trust_anchors is None:
        _unusable("say who calls: --as DEPARTMENT, or --cert, --key and --cacert")
    headers = {"X-Road-Client": client or _client_in(certificate)}
    named = {"Datong-Purpose": purpose, "X-Road-Issue": case, "X-Road-UserId": user, "Datong-Subject": subject}
    headers |= {name: value for name, value in named.items() if value}
    for line in header or []:
        name, _, value = line.partition(":")
        headers[name.strip()] = value.strip()
    content = _content(body)
    if content:
        headers.setdefault("Content-Type", content_type)
    try:
        tls = client_context(trust_anchors, certificate, key)
        with httpx.Client(verify=tls, trust_env=False, timeout=TIMEOUT) as http:
            answer = http.request(method, f"{gateway}/r1/{service}", headers=headers, content=content or None)
            if receipt is not None and "datong-receipt" in answer.headers:
                receipt.write_bytes(http.get(answer.headers["datong-receipt"], headers=headers).content)
    except (httpx.HTTPError, OSError, ValueError) as error:
        _unusable(f"{gateway}: {error}. Is the gateway up, and is the certificate accepted? Try datong doctor.")
    _show(answer, include=include, as_json=as_json)
    raise typer.Exit(0 if answer.status_code < 400 else 1)


def _show(answer: httpx.Response, *, include: bool, as_json: bool) -> None:
    if as_json:
        shown = {"status": answer.status_code, "headers": dict(answer.headers), "body": answer.text}
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        return
    if include:
        typer.echo(f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}")
        for name, value in answer.headers.multi_items():
            typer.echo(f"{name}: {value}")
        typer.echo()
    sys.stdout.buffer.write(answer.content)
    if sys.stdout.isatty() and not answer.content.endswith(b"\n"):
        typer.echo()
    sys.stdout.flush()


def _gateway_of(data: Path) -> str:
    try:
        return (data / "run" / "gateway.url").read_text().strip()
    except OSError:
        return "https://localhost:8443"


def _client_in(certificate: Path) -> str:
    try:
        return certificate_uri(certificate).removeprefix("datong:")
    except IdentityError as error:
        _unusable(str(error))


def _content(body: str) -> bytes:
    if body == "@-":
        return sys.stdin.buffer.read()
    if body.startswith("@"):
        try:
            return Path(body[1:]).read_bytes()
        except OSError as error:
            _unusable(f"{body[1:]}: {error.strerror}")
    return body.encode()


def _unusable(problem: str) -> NoReturn:
    typer.echo(f"datong call: {problem}", err=True)
    raise typer.Exit(2)
