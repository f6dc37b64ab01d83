"""`datong ca revoke`, `crl` and `list`: what was issued, what does not count any more, and how that is told."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ca_auth import (
    REASONS,
    CaOperationError,
    CertificateRow,
    IssuingCA,
    fingerprint_of,
    import_upstream_crl,
    read_certificates,
)
from gateway.cli import console_io as io
from gateway.cli.ca_io import (
    DEFAULT_FOLDER,
    CaOption,
    Voice,
    WhyOption,
    moment,
    read_crls,
    reason_of,
    span,
    write_public,
)


def revoke(
    certificate: Annotated[
        str, typer.Argument(help="Serial number or fingerprint in hex, or the certificate's file.")
    ] = "",
    for_: Annotated[
        str, typer.Option("--for", help="Everything valid of this holder instead; its unused codes become void.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help=f"{', '.join(REASONS)}.")] = "unspecified",
    by: io.ByOption = "",
    why: WhyOption = "",
    ca: CaOption = DEFAULT_FOLDER,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Revoke certificates, for good, and make a new CRL at once.

    With keyCompromise, what was renewed with the certificate is revoked as well.

    Example: datong ca revoke --for CN/GOV/1199000000000102XG/housing --reason keyCompromise --why 密钥可能泄露
    """
    voice = Voice.of(as_json, lang)
    because = reason_of(reason)
    if bool(certificate) is bool(for_):
        raise typer.BadParameter("name a certificate, or a holder with --for")
    with voice.opened(ca) as opened:
        void = 0
        if for_:
            rows = [row for row in opened.store.certificates(holder=for_) if row.state(time.time()) != "expired"]
            with opened.store.writing():
                void = opened.store.void_codes(for_, time.time())
            if not rows and not void:
                raise CaOperationError(
                    "ca-revoke",
                    problem=f"{for_} holds no valid certificate and no unused code of this CA.",
                    problem_zh=f"{for_} 没有本 CA 的有效证书或未使用的注册码。",
                )
        else:
            found, unknown = _named(opened, certificate)
            if found is None and unknown is not None:
                new = opened.revocations.revoke_unknown(unknown, because, by=io.who(by), why=why)
                serials = [f"{unknown.serial_number:x}"] if new else []
                _revoked(voice, opened, serials, void)
                return
            rows = [found] if found is not None else []
        revoked = opened.revocations.revoke(rows, because, by=io.who(by), why=why)
        _revoked(voice, opened, [row.serial for row in revoked], void)


def crl(
    new: Annotated[bool, typer.Option("--new", help="Make a new one, even if the last is fresh.")] = False,
    next_update: Annotated[
        str, typer.Option("--next-update", help="How long it is good: 24h, 7d. Implies --new.")
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", help="File; default: standard output.")] = None,
    der: Annotated[bool, typer.Option("--der", help="DER instead of PEM; needs --out.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="The CRLs of the CAs above as well.")] = False,
    import_: Annotated[
        Path | None, typer.Option("--import", help="Take in the CRL of a CA above (datong ca root-crl).")
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option("--merge", help="Take in what an earlier CRL of this CA lists: after a restore from an old copy."),
    ] = None,
    by: io.ByOption = "",
    ca: CaOption = DEFAULT_FOLDER,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Print the current CRL; a new one is made when it is needed.

    Example: datong ca crl --all --out crls.pem
    """
    voice = Voice.of(as_json, lang)
    if der and (out is None or everything):
        raise typer.BadParameter("DER needs --out, and holds one CRL", param_hint="--der")
    period = span(next_update, "--next-update") if next_update else None
    with voice.opened(ca) as opened:
        if import_ is not None:
            for each in read_crls(import_):
                import_upstream_crl(opened.folder, each)
        if merge is not None:
            for each in read_crls(merge):
                opened.revocations.merge(each, by=io.who(by))
        book = opened.revocations
        row = book.new(next_update=period) if new or period is not None else book.current()
        made = x509.load_der_x509_crl(row.der)
        content = row.der if der else made.public_bytes(serialization.Encoding.PEM)
        if everything:
            content += book.upstream()
        if out is not None:
            write_public(out, content)
    if as_json:
        shown = {"number": row.number, "this_update": moment(row.this_update), "next_update": moment(row.next_update)}
        io.print_json({**shown, "entries": len(made), "file": str(out or opened.folder.crl)})
    elif out is not None:
        typer.echo(
            voice.say(f"{out}: good until {moment(row.next_update)}", f"{out}：有效至 {moment(row.next_update)}")
        )
    else:
        typer.echo(content.decode("ascii"), nl=False)


def list_(
    expiring: Annotated[
        float | None, typer.Option("--expiring", help="Only valid ones that end within so many days.")
    ] = None,
    for_: Annotated[str, typer.Option("--for", help="Only those of this holder.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Expired and revoked ones, too.")] = False,
    codes: Annotated[bool, typer.Option("--codes", help="Enrolment codes instead of certificates.")] = False,
    ca: CaOption = DEFAULT_FOLDER,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """List the certificates this CA has issued, the next to end first.

    Example: datong ca list --expiring 30
    """
    voice = Voice.of(as_json, lang)
    now = time.time()
    with voice.opened(ca) as opened:
        if codes:
            _list_codes(voice, opened, now)
            return
        until = None if expiring is None else now + expiring * 86_400
        rows = opened.store.certificates(holder=for_ or None, ending_by=until)
    if expiring is not None or not everything:
        rows = [row for row in rows if row.state(now) in ("valid", "not-yet-valid")]
    if as_json:
        io.print_json([_shown(row, now) for row in rows])
        return
    headers = voice.say("state until holder name serial", "状态 有效期至 持有者 名称 序列号").split()
    io.print_table(
        headers, [(row.state(now), moment(row.not_after), row.holder, row.subject, row.serial) for row in rows]
    )


def _list_codes(voice: Voice, ca: IssuingCA, now: float) -> None:
    rows = ca.store.codes()
    if voice.as_json:
        shown = ("name", "holder", "by", "why", "refused")
        io.print_json(
            [
                {field: getattr(row, field) for field in shown}
                | {"state": row.state(now), "expires_at": moment(row.expires_at), "created_at": moment(row.created_at)}
                for row in rows
            ]
        )
        return
    headers = voice.say("code state until holder refused", "注册码 状态 有效期至 持有者 被拒次数").split()
    cells = [(f"{row.name}…", row.state(now), moment(row.expires_at), row.holder, row.refused or "") for row in rows]
    io.print_table(headers, cells)


def _named(ca: IssuingCA, text: str) -> tuple[CertificateRow | None, x509.Certificate | None]:
    """The certificate on the CA's books, or one from a file that may be its own and forgotten."""
    plain = text.replace(":", "").lower()
    if re.fullmatch(r"[0-9a-f]{1,64}", plain):
        row = ca.store.certificate_by_fingerprint(plain) or ca.store.certificate(plain.lstrip("0") or "0")
        if row is not None:
            return row, None
    if Path(text).is_file():
        certificate = read_certificates(Path(text))[0]
        der = certificate.public_bytes(serialization.Encoding.DER)
        return ca.store.certificate_by_fingerprint(fingerprint_of(der)), certificate
    raise CaOperationError(
        "ca-revoke",
        problem=f"This CA knows no certificate {text[:80]}; give the certificate's file if it was issued before a restore.",
        problem_zh=f"本 CA 没有证书 {text[:80]} 的记录；若其在恢复备份之前签发，请提供证书文件。",
    )


def _revoked(voice: Voice, ca: IssuingCA, serials: list[str], void: int) -> None:
    current = ca.revocations.current()
    voice.tell(
        f"Revoked: {', '.join(serials) or 'nothing, it was so already'}. Codes made void: {void}. "
        f"CRL {current.number} is in {ca.folder.crl}.",
        f"已吊销：{'、'.join(serials) or '无（此前已吊销）'}。作废注册码：{void} 个。CRL {current.number} 位于 {ca.folder.crl}。",
        {"revoked": serials, "void_codes": void, "crl_number": current.number, "crl": str(ca.folder.crl)},
    )


def _shown(row: CertificateRow, now: float) -> dict[str, object]:
    return {
        "state": row.state(now),
        "serial_number": row.serial,
        "fingerprint": row.fingerprint,
        "holder": row.holder,
        "name": row.subject,
        "not_before": moment(row.not_before),
        "not_after": moment(row.not_after),
        "issued_at": moment(row.issued_at),
        "by": row.by,
        "why": row.why,
        "renews": row.renews,
        "revoked_at": moment(row.revoked_at) if row.revoked_at is not None else None,
        "reason": row.reason,
    }
