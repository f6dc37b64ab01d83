"""`datong ca issue` and `datong ca code`: the operator says who a certificate is for."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives import serialization

from ca_auth import CertificateRequest, HeldCertificate, holder_of, read_request
from exchange import member_id, subsystem_id
from gateway.cli import console_io as io
from gateway.cli.ca_io import DEFAULT_FOLDER, CaOption, Voice, WhyOption, grouped, moment, span, write_public

ForOption = Annotated[
    str, typer.Option("--for", help="Member or subsystem: CN/GOV/11990000000001011Q or CN/GOV/11990000000001011Q/tax")
]
ServerOption = Annotated[
    list[str] | None, typer.Option("--server", help="A server: DNS name or IP address; repeatable. No --for with it.")
]
PersonOption = Annotated[str, typer.Option("--person", help="A natural person's name; --for says whose staff.")]
NumberOption = Annotated[
    Path | None,
    typer.Option(
        "--person-number-file", help="File with the person's number, e.g. IDCCN-<number>; - is standard input."
    ),
]
OrganizationOption = Annotated[
    str, typer.Option("--organization", help="Name of the organisation, for people who read.")
]
DaysOption = Annotated[float | None, typer.Option("--days", help="Validity; default: as ca.toml says.")]

_PERSON_NUMBER = re.compile(r"(PAS|IDC|PNO|TIN)[A-Z]{2}-[A-Za-z0-9]{4,40}")
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def issue(
    for_: ForOption = "",
    server: ServerOption = None,
    person: PersonOption = "",
    person_number_file: NumberOption = None,
    organization: OrganizationOption = "",
    csr: Annotated[
        Path | None, typer.Option("--csr", help="Signing request; only its public key is used. Default: a key is made.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path(),
    name: Annotated[str, typer.Option("--name", help="Of the files; default: the last part of who it is for.")] = "",
    days: DaysOption = None,
    by: io.ByOption = "",
    why: WhyOption = "",
    ca: CaOption = DEFAULT_FOLDER,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Issue a certificate here, for a signing request or for a key made on this machine.

    For a department elsewhere a one-time code is better: its key is made there (datong ca code).

    Example: datong ca issue --for CN/GOV/11990000000001011Q/tax --csr tax.csr --why 接入申请〔2026〕3号
    """
    voice = Voice.of(as_json, lang)
    wanted = _request(for_, server, person, person_number_file, organization)
    files = name or re.sub(r"[^A-Za-z0-9._-]", "_", holder_of(wanted).rpartition("/")[2]).lstrip(".") or "certificate"
    held = HeldCertificate(out / f"{files}.crt", out / f"{files}.key")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,100}", files):
        raise typer.BadParameter("letters, digits, . _ and -", param_hint="--name")
    if held.certificate.exists() or (csr is None and held.key.exists()):
        raise typer.BadParameter(f"{held.certificate} or its key exists", param_hint="--name")
    with voice.opened(ca) as opened:
        out.mkdir(parents=True, exist_ok=True)
        if csr is not None:
            issued = opened.issue(wanted, read_request(csr.read_bytes()), days=days, by=io.who(by), why=why)
            write_public(held.certificate, issued.pem())
        else:
            with held.locked():
                key = held.next_key()  # on disk before it is certified
                issued = opened.issue(wanted, key.public_key(), days=days, by=io.who(by), why=why)
                held.install(key, issued.pem())
        root = opened.root.public_bytes(serialization.Encoding.PEM)
        if not (out / "ca.pem").exists():
            write_public(out / "ca.pem", root)
    row = issued.row
    voice.tell(
        f"{held.certificate}: {row.holder}, serial {row.serial}, until {moment(row.not_after)}",
        f"{held.certificate}：{row.holder}，序列号 {row.serial}，有效期至 {moment(row.not_after)}",
        {
            "certificate": str(held.certificate),
            **({"key": str(held.key)} if csr is None else {}),
            "holder": row.holder,
            "serial_number": row.serial,
            "fingerprint": row.fingerprint,
            "not_after": moment(row.not_after),
        },
    )


def code(
    for_: ForOption = "",
    server: ServerOption = None,
    person: PersonOption = "",
    person_number_file: NumberOption = None,
    organization: OrganizationOption = "",
    adapter: Annotated[
        bool,
        typer.Option(
            "--adapter", help="It answers for the subsystem: a gateway that serves the CA registers it as that."
        ),
    ] = False,
    days: DaysOption = None,
    valid_for: Annotated[str, typer.Option("--valid-for", help="How long the code is good: 30m, 24h, 7d.")] = "24h",
    url: Annotated[str, typer.Option("--url", help="Where the department will enrol, for the printed command.")] = "",
    by: io.ByOption = "",
    why: WhyOption = "",
    ca: CaOption = DEFAULT_FOLDER,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Make a one-time code with which a department gets its certificate. It is shown once and kept nowhere.

    Example: datong ca code --for CN/GOV/11990000000001011Q/tax --valid-for 24h --why 接入申请〔2026〕3号
    """
    voice = Voice.of(as_json, lang)
    wanted = _request(for_, server, person, person_number_file, organization)
    if adapter:
        if wanted.identity is None or wanted.identity.count("/") != 3 or person:
            raise typer.BadParameter("an adapter answers for a subsystem: --for", param_hint="--adapter")
        wanted = replace(wanted, use="adapter")
    good_for = span(valid_for, "--valid-for")
    with voice.opened(ca) as opened:
        text, row = opened.new_code(wanted, days=days, valid_for=good_for, by=io.who(by), why=why)
        root = opened.root_fingerprint
    address = url or "https://…"
    command = (
        f"datong adapter enrol DIR --gateway {address} --root-fingerprint {root}"
        if adapter
        else f"datong ca enroll --url {address} --root-fingerprint {root} --out DIR"
    )
    command_zh = command.replace("DIR", "目录")
    voice.tell(
        f"Code for {row.holder}, good once until {moment(row.expires_at)}:\n  {text}\n"
        f"Fingerprint of the root:\n  {grouped(root)}\n"
        "Hand over both, the code in confidence. The department runs:\n"
        f"  {command}",
        f"{row.holder} 的注册码，一次有效，至 {moment(row.expires_at)} 止：\n  {text}\n根证书指纹：\n  {grouped(root)}\n"
        f"请将两者交给该部门（注册码须保密），由其执行：\n  {command_zh}",
        {
            "code": text,
            "name": row.name,
            "holder": row.holder,
            "expires_at": moment(row.expires_at),
            "root_fingerprint": root,
        },
    )


def _request(
    for_: str, server: list[str] | None, person: str, number_file: Path | None, organization: str
) -> CertificateRequest:
    identity = None
    if for_:
        try:
            identity = member_id(for_) if for_.count("/") == 2 else subsystem_id(for_)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--for") from error
    if server:
        if identity is not None or person:
            raise typer.BadParameter("a server's certificate names the server alone", param_hint="--server")
        names = tuple(dict.fromkeys(map(_server_name, server)))
        return CertificateRequest(
            common_name=names[0][:64], organization=organization or None, server_names=names, self_renewing=True
        )
    if person:
        number = _number(number_file)
        made = CertificateRequest.for_person(person, number, identity)
    elif identity is not None:
        made = CertificateRequest(common_name=identity.rpartition("/")[2], identity=identity)
    else:
        raise typer.BadParameter("say who it is for: --for, --server or --person", param_hint="--for")
    return CertificateRequest(
        common_name=made.common_name,
        identity=made.identity,
        organization=organization or None,
        person_number=made.person_number,
    )


def _server_name(text: str) -> str:
    name = text.strip().lower()
    if not _DNS_NAME.fullmatch(name.removeprefix("*.")) and not re.fullmatch(r"[0-9a-f:.]+", name):
        raise typer.BadParameter(f"not a DNS name or IP address: {text}", param_hint="--server")
    return name


def _number(file: Path | None) -> str:
    """Not an argument: those can be seen by every user of the machine."""
    if file is None:
        raise typer.BadParameter("a person has a number", param_hint="--person-number-file")
    try:
        number = (sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read", param_hint="--person-number-file") from error
    if not _PERSON_NUMBER.fullmatch(number):
        raise typer.BadParameter(
            "a number is IDC, PNO, PAS or TIN, the country, - and the number: IDCCN-…",
            param_hint="--person-number-file",
        )
    return number
