"""`datong ca enroll` and `renew`: a department's side. The key is made here and stays here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ca_auth import CaOperationError, HeldCertificate, enrol, identity_of, renewal_due
from ca_auth import renew as renew_certificate
from exchange import UnauthenticatedError
from gateway.cli import console_io as io
from gateway.cli.ca_io import Voice, moment

UrlOption = Annotated[str, typer.Option("--url", help="https address of the CA.")]


def enroll(
    url: UrlOption,
    root_fingerprint: Annotated[
        str, typer.Option("--root-fingerprint", help="SHA-256 of the CA's root, from its operator by another way.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for key, certificate and ca.pem.")],
    code: Annotated[
        str, typer.Option("--code", envvar="DATONG_ENROLMENT_CODE", help="The one-time code; default: asked for.")
    ] = "",
    name: Annotated[str, typer.Option("--name", help="Of the files: NAME.key, NAME.crt.")] = "client",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Get a certificate with a one-time code. Nothing is sent to a server whose root is not the one you name.

    If it is interrupted, run it again: the same code and key get the same certificate.

    Example: datong ca enroll --url https://ca.example.gov.cn:8444 --root-fingerprint 3A:… --out /etc/datong
    """
    voice = Voice.of(as_json, lang)
    if "/" in name or name.startswith("."):
        raise typer.BadParameter("a name without folders", param_hint="--name")
    given = code or typer.prompt(voice.say("Code", "注册码"), hide_input=True, err=True)
    with voice.errors():
        got = enrol(url, given, root_fingerprint, out, name=name, language=voice.lang)
    end = moment(got.certificate.not_valid_after_utc.timestamp())
    try:
        identity = identity_of(got.certificate)
        holder = str(identity.subsystem or identity.member)
    except UnauthenticatedError:
        holder = got.certificate.subject.rfc4514_string()  # a server's or a person's certificate names no member
    files = {
        "certificate": str(got.held.certificate),
        "key": str(got.held.key),
        "trust_anchors": str(got.trust_anchors),
    }
    voice.tell(
        f"{got.held.certificate}: {holder}, until {end}. Key: {got.held.key}, root: {got.trust_anchors}.",
        f"{got.held.certificate}：{holder}，有效期至 {end}。私钥：{got.held.key}，根证书：{got.trust_anchors}。",
        {"holder": holder, "not_after": end, **files},
    )


def renew(
    url: UrlOption,
    cert: Annotated[Path, typer.Option("--cert", help="The present certificate, PEM; it is replaced.")],
    key: Annotated[Path | None, typer.Option("--key", help="Its key; default: the .key beside it.")] = None,
    cacert: Annotated[Path | None, typer.Option("--cacert", help="The root; default: the ca.pem beside it.")] = None,
    now: Annotated[bool, typer.Option("--now", help="Also if half of its life has not passed yet.")] = False,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Renew a certificate that is still good, with a new key. Does nothing before it is due, so it can run every day.

    Gateways and adapters do this by themselves. Who uses the files in another way has to load them again.

    Example: datong ca renew --url https://ca.example.gov.cn:8444 --cert /etc/datong/client.crt
    """
    voice = Voice.of(as_json, lang)
    held = HeldCertificate(cert, key or cert.with_suffix(".key"))
    anchors = cacert or cert.with_name("ca.pem")
    with voice.errors():
        try:
            held.recover()
            present = held.read()
            due = renewal_due(present)
            if not now and time.time() < due:
                voice.tell(
                    f"Not due before {moment(due)}.",
                    f"{moment(due)} 之前无需续期。",
                    {"renewed": False, "due": moment(due)},
                )
                return
            got = renew_certificate(url, held, anchors, language=voice.lang)
        except ValueError as error:
            raise CaOperationError(
                "certificate-files",
                problem=f"{cert}, its key or {anchors} cannot be used: {error}.",
                problem_zh=f"{cert}、其私钥或 {anchors} 不可用：{error}。",
            ) from error
    end = moment(got.not_valid_after_utc.timestamp())
    voice.tell(
        f"{cert}: renewed, until {end}.",
        f"{cert}：已续期，有效期至 {end}。",
        {"renewed": True, "not_after": end, "serial_number": f"{got.serial_number:x}"},
    )
