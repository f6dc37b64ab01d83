"""`datong adapter enrol`: from a one-time code to an adapter that can be run, with no file edited by hand."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from ca_auth import CaOperationError, HeldCertificate, enrol, identity_of, replace_file
from department_adapters import AdapterContract, ContractError, adapter_file, read_contract
from exchange import UnauthenticatedError, fingerprint_of
from gateway.cli import console_io as io
from gateway.cli.ca_io import Voice, moment
from gateway.cli.connection import Files, UnreachableError, explained

_TABLE = re.compile(r"^\s*\[")
TIMEOUT = 30.0


def enrol_adapter(
    place: Annotated[Path, typer.Argument(help="The adapter's folder, or its adapter.toml.")],
    gateway: Annotated[
        str, typer.Option("--gateway", envvar="DATONG_GATEWAY", help="https address of a gateway that serves the CA.")
    ],
    root_fingerprint: Annotated[
        str, typer.Option("--root-fingerprint", help="SHA-256 of the CA's root, from its operator by another way.")
    ],
    code: Annotated[
        str, typer.Option("--code", envvar="DATONG_ENROLMENT_CODE", help="The one-time code; default: asked for.")
    ] = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Get the adapter's certificate with a one-time code, and what else it needs to join the bus.

    The key is made here and stays here. Files are put where adapter.toml says; the address of the bus, of renewals, and the
    list of callers' CAs are written into it. If it is interrupted, run it again.

    Example: datong adapter enrol people --gateway https://gw.example.gov.cn:8443 --root-fingerprint 3A:… --code 4821-…
    """
    voice = Voice.of(as_json, lang)
    file = adapter_file(place)
    try:
        contract = read_contract(file)
        folder, name = _folder_and_name(contract)
    except ContractError as error:
        io.fail(str(error), as_json=as_json, rule="adapter-file")
    bus = contract.bus
    held = HeldCertificate(bus.certificate, bus.key)
    with voice.errors():
        held.recover()
        if not (held.certificate.exists() and held.key.exists()):
            given = code or typer.prompt(voice.say("Code", "注册码"), hide_input=True, err=True)
            enrol(gateway, given, root_fingerprint, folder, name=name, language=voice.lang)
        certificate = held.read()
        _check_holder(contract, held)
    files = Files(held.certificate, held.key, bus.trust_anchors)
    try:
        with httpx.Client(
            base_url=gateway,
            verify=files.tls(),
            trust_env=False,
            timeout=TIMEOUT,
            headers={"x-road-client": contract.subsystem, "accept-language": voice.lang},
        ) as http:
            told = _get(http, "/v1/bus", voice)
            fingerprint = fingerprint_of(certificate)
            registered = _is_registered(http, fingerprint)
    except httpx.HTTPError as error:
        io.fail(explained(error, gateway, files).texts[voice.lang], as_json=as_json)
    except UnreachableError as error:
        io.fail(error.texts[voice.lang], as_json=as_json)
    changed = _set_up(file, contract, told, gateway)
    end = moment(certificate.not_valid_after_utc.timestamp())
    voice.tell(
        f"{contract.subsystem}: certificate until {end}, key {held.key}.\n"
        + "".join(f"{file}: {key} = {value}\n" for key, value in changed.items())
        + (
            f"Run it: datong adapter run {place}"
            if registered
            else f"Not registered as an adapter's yet. The operator runs: datong adapter register {contract.subsystem} "
            f"{held.certificate.name}"
        ),
        f"{contract.subsystem}：证书有效期至 {end}，私钥 {held.key}。\n"
        + "".join(f"{file}：{key} = {value}\n" for key, value in changed.items())
        + (
            f"运行：datong adapter run {place}"
            if registered
            else "证书尚未登记为适配器证书，请平台运维人员执行："
            f"datong adapter register {contract.subsystem} {held.certificate.name}"
        ),
        {
            "subsystem": contract.subsystem,
            "certificate": str(held.certificate),
            "fingerprint": fingerprint,
            "not_after": end,
            "registered": registered,
            "changed": changed,
        },
    )


def _folder_and_name(contract: AdapterContract) -> tuple[Path, str]:
    """Where enrolment writes; raises ContractError if adapter.toml wants the files elsewhere."""
    bus = contract.bus
    folder, name = bus.certificate.parent, bus.certificate.stem
    if (bus.certificate, bus.key, bus.trust_anchors) != (
        folder / f"{name}.crt",
        folder / f"{name}.key",
        folder / "ca.pem",
    ):
        raise ContractError(
            f'bus: to enrol, certificate, key and trust_anchors are files of one folder: "DIR/{name}.crt", "DIR/{name}.key" '
            'and "DIR/ca.pem"'
        )
    return folder, name


def _check_holder(contract: AdapterContract, held: HeldCertificate) -> None:
    try:
        named = identity_of(held.read())
        if named.subsystem in (None, contract.subsystem) and contract.subsystem.startswith(f"{named.member}/"):
            return
        holder = str(named.subsystem or named.member)
    except UnauthenticatedError:
        holder = "?"
    raise CaOperationError(
        "certificate-holder",
        problem=f"The certificate in {held.certificate} is for {holder}; adapter.toml says {contract.subsystem}.",
        problem_zh=f"{held.certificate} 中的证书属于 {holder}，而 adapter.toml 中是 {contract.subsystem}。",
    )


def _get(http: httpx.Client, path: str, voice: Voice) -> dict[str, Any]:
    answer = http.get(path)
    if answer.status_code != 200:
        problem = answer.json() if answer.headers.get("content-type", "").startswith("application/problem+json") else {}
        io.fail(
            f"{path}: {answer.status_code} {problem.get('detail', '')}".strip(),
            todo=str(problem.get("next", "")),
            as_json=voice.as_json,
            rule=str(problem.get("rule", "")),
        )
    content: dict[str, Any] = answer.json()
    return content


def _is_registered(http: httpx.Client, fingerprint: str) -> bool:
    answer = http.get(f"/v1/certificates/{fingerprint}")
    return answer.status_code == 200 and (answer.json()["use"], answer.json()["state"]) == ("adapter", "active")


def _set_up(file: Path, contract: AdapterContract, told: Mapping[str, str], gateway: str) -> dict[str, str]:
    """Write the gateways' and callers' certificates, and what adapter.toml does not say yet; returns the keys changed."""
    bus, home = contract.bus, file.resolve().parent
    gateways = bus.gateways / "gateways.pem" if bus.gateways.is_dir() else bus.gateways
    gateways.parent.mkdir(parents=True, exist_ok=True)
    replace_file(gateways, told["gateways"].encode(), 0o644)
    wanted = {"url": told["url"]}
    if told["renewal_url"]:
        wanted["renewal_url"] = gateway.rstrip("/")
    callers = bus.callers
    if callers is None or callers == bus.trust_anchors:
        callers = bus.certificate.with_name("callers.pem")
        wanted["callers"] = os.path.relpath(callers, home)
    replace_file(callers, told["callers"].encode(), 0o644)
    text = file.read_text(encoding="utf-8")
    present = tomllib.loads(text)["bus"]
    changed = {key: value for key, value in wanted.items() if present.get(key) != value}
    if changed:
        replace_file(file, with_keys(text, "bus", changed).encode(), file.stat().st_mode & 0o777)
    return changed


def with_keys(text: str, table: str, values: Mapping[str, str]) -> str:
    """A TOML text with these keys of a table set, everything else as it was, comments and order among it.

    Raises:
        ContractError: The table is not written as `[table]` with a key a line.
    """
    lines = text.splitlines(keepends=True)
    header = next((at for at, line in enumerate(lines) if re.match(rf"\s*\[\s*{re.escape(table)}\s*\]", line)), None)
    if header is not None:
        end = next((at for at in range(header + 1, len(lines)) if _TABLE.match(lines[at])), len(lines))
        for key, value in values.items():
            # Quoted as JSON, which is how TOML writes a basic string, too.
            written = f"{key} = {_quoted(value)}\n"
            at = next((at for at in range(header + 1, end) if re.match(rf"\s*{re.escape(key)}\s*=", lines[at])), None)
            if at is None:
                lines.insert(header + 1, written)
                end += 1
            else:
                lines[at] = written
        edited = "".join(lines)
        wanted = tomllib.loads(text)
        wanted[table] |= values
        try:
            if tomllib.loads(edited) == wanted:
                return edited
        except tomllib.TOMLDecodeError:
            pass
    raise ContractError(f"[{table}] cannot be edited here: write {', '.join(values)} into it yourself")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
