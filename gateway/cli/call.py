"""`datong call`: one exchange from the command line, as a department system would make it.

A body from a file and an answer into one pass through in pieces: neither is ever whole in memory.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca_auth import HASHED_BODY, Signer
from exchange import (
    IdentityError,
    Language,
    SignatureBaseError,
    certificate_uri,
    from_wire,
    member_id,
    service_id,
    subsystem_id,
    to_wire,
)
from gateway.cli import console_io as io
from gateway.cli.connection import Files, UnreachableError, explained, gateway_url

TIMEOUT = 125.0
"""Seconds: no service may take longer than two minutes."""
RECEIPT_FORMAT = "datong-receipt/1"
_PIECE = 256 << 10


def call(
    service: Annotated[
        str,
        typer.Argument(
            help="instance/class/member/subsystem/service, /path and ?query behind it: CN/GOV/…/tax/enterprises/9111…"
        ),
    ],
    method: Annotated[str, typer.Option("--method", "-X", help="HTTP method; default GET, with --body POST.")] = "",
    client: Annotated[str, typer.Option(help="Subsystem to act as; default: the one in the certificate.")] = "",
    certificate: Annotated[Path | None, typer.Option("--cert", help="PEM certificate of the caller.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="PEM key of the caller.")] = None,
    trust_anchors: Annotated[Path | None, typer.Option("--cacert", help="PEM of the gateway's CA.")] = None,
    gateway: Annotated[str, typer.Option(envvar="DATONG_GATEWAY", help="Gateway URL.")] = "",
    data: Annotated[Path, typer.Option(help="Data folder of a mesh on this machine, for --as.")] = io.DATA,
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
    sign: Annotated[
        bool, typer.Option("--sign", help="Sign the request with the caller's key, for grants that demand it.")
    ] = False,
    receipt: Annotated[Path | None, typer.Option(help="Fetch the receipt and write it here.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the answer's body here, once all of it is there.")
    ] = None,
    include: Annotated[bool, typer.Option("--include", "-i", help="Show status and headers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: status, headers, body.")] = False,
    lang: io.LangOption = "",
) -> None:
    """Ask a department for data.

    Example: datong call --as housing --purpose public-rental-housing CN/GOV/…/tax/enterprises/91990000…

    Exit status: 0 for an answer below 400 (and its receipt, if asked for), 1 for any other end, 2 if nothing was asked.
    """
    speak = io.language(lang)
    try:
        files = _files(data, department, certificate, key, trust_anchors)
        url = gateway_url(gateway, data)
        path = _path(service)
        content = _content(body)
        headers = [("X-Road-Client", _client(client, files.certificate))]
        named = {"Datong-Purpose": purpose, "X-Road-Issue": case, "X-Road-UserId": user, "Datong-Subject": subject}
        headers += [(name, value) for name, value in named.items() if value]
        headers += [("Content-Type", content_type)] if len(content) else []
        headers += [("Accept-Language", "zh-CN" if speak == "zh" else "en"), ("Accept-Encoding", "identity")]
        headers = _with_given(headers, header or [])
        signer = _signer(files, headers) if sign else None
        with httpx.Client(verify=files.tls(), trust_env=False, timeout=TIMEOUT) as http:
            try:
                answer, answer_body = _ask(
                    http,
                    method.upper() or ("POST" if len(content) else "GET"),
                    url + path,
                    headers,
                    content,
                    signer,
                    output,
                )
                _show(answer, answer_body, include=include, as_json=as_json, speak=speak)
                kept = receipt is None or _keep_receipt(http, url, answer, headers, receipt)
            except httpx.HTTPError as error:
                raise explained(error, url, files) from error
    except UnreachableError as error:
        _stop(error.texts[speak], 1 if error.sent else 2, as_json)
    raise typer.Exit(0 if answer.status_code < 400 and kept else 1)


def _files(
    data: Path, department: str, certificate: Path | None, key: Path | None, trust_anchors: Path | None
) -> Files:
    pki = data / "pki"
    if department:
        if not (pki / f"{department}.crt").exists():
            there = ", ".join(sorted({path.stem for path in pki.glob("*.crt")} - {"root", "server", "nats", "gateway"}))
            raise UnreachableError(
                f"{pki} has no certificate of {department!r}; there are: {there or 'none'}",
                f"{pki} 中没有 {department!r} 的证书；现有：{there or '无'}",
            )
        certificate, key = certificate or pki / f"{department}.crt", key or pki / f"{department}.key"
        trust_anchors = trust_anchors or pki / "ca.pem"
    if certificate is None or key is None or trust_anchors is None:
        raise UnreachableError(
            "say who calls: --as DEPARTMENT, or --cert, --key and --cacert",
            "请说明由谁调用：--as 部门，或 --cert、--key 和 --cacert",
        )
    return Files(certificate, key, trust_anchors)


def _client(given: str, certificate: Path) -> str:
    """The value of X-Road-Client."""
    if given:
        try:
            return to_wire(subsystem_id(from_wire(given)))
        except ValueError as error:
            raise UnreachableError(
                f"--client {given} is not instance/class/member/subsystem",
                f"--client {given} 不是 实例/类别/成员代码/子系统 的形式",
            ) from error
    try:
        named = certificate_uri(certificate).removeprefix("datong:")
    except IdentityError as error:
        raise UnreachableError(str(error), str(error)) from error
    try:
        member_id(from_wire(named))
    except ValueError:
        return named
    raise UnreachableError(
        f"{certificate} speaks for a whole member; say as which subsystem: --client {named}/SUBSYSTEM",
        f"{certificate} 代表整个成员；请指明子系统：--client {named}/子系统",
    )


def _path(service: str) -> str:
    """The request's target. What the HTTP client would change on its way is refused instead."""
    path = service.removeprefix("/").removeprefix("r1/")
    identifier = path.partition("?")[0].split("/")
    try:
        path.encode()
        service_id(from_wire("/".join(identifier[:5])))
    except ValueError as error:
        raise UnreachableError(
            f"{service} is not instance/class/member/subsystem/service[/path][?query]",
            f"{service} 不是 实例/类别/成员代码/子系统/服务[/路径][?查询] 的形式",
        ) from error
    if {".", ".."} & set(identifier):
        raise UnreachableError("a path has no segments . and ..", "路径中不能含有 . 和 .. 段")
    return "/r1/" + path.replace("#", "%23")


@dataclass(frozen=True, slots=True)
class _File:
    """A body in a file: its digests, and its pieces."""

    path: Path
    size: int
    sha256: bytes
    sha512: bytes

    @classmethod
    def of(cls, path: Path) -> _File:
        with path.open("rb") as file:
            size, sha256, sha512 = 0, hashlib.sha256(), hashlib.sha512()
            while piece := file.read(_PIECE):
                size += len(piece)
                sha256.update(piece)
                sha512.update(piece)
        return cls(path, size, sha256.digest(), sha512.digest())

    def __len__(self) -> int:
        return self.size

    def pieces(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece


def _content(body: str) -> bytes | _File:
    if body == "@-":
        return sys.stdin.buffer.read()
    if body.startswith("@"):
        try:
            return _File.of(Path(body[1:]))
        except OSError as error:
            raise UnreachableError(f"{body[1:]}: {error.strerror}", f"{body[1:]}：{error.strerror}") from error
    return os.fsencode(body)


def _with_given(headers: list[tuple[str, str]], lines: list[str]) -> list[tuple[str, str]]:
    """Headers as given with -H, which replace ours of the same name."""
    given = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UnreachableError(f"write -H 'Name: value', not {line!r}", f"请写成 -H '名称: 值'，而不是 {line!r}")
        given.append((name.strip(), value.strip()))
    replaced = {name.lower() for name, _ in given}
    return [pair for pair in headers if pair[0].lower() not in replaced] + given


def _signer(files: Files, headers: list[tuple[str, str]]) -> Signer:
    """What signs the request; `files` were found to belong together."""
    if not any(name.lower() == "datong-purpose" for name, _ in headers):
        raise UnreachableError(
            "a signed request names its purpose: --purpose PURPOSE", "签名的请求须指明用途：--purpose 用途"
        )
    try:
        key = load_pem_private_key(files.key.read_bytes(), None)
        certificate = x509.load_pem_x509_certificates(files.certificate.read_bytes())[0]
        return Signer(key, certificate)  # type: ignore[arg-type]  # of another kind it is refused
    except (OSError, TypeError, ValueError) as error:  # UnsuitableKeyError is one
        raise UnreachableError(
            f"{files.key} signs no requests: {error}", f"{files.key} 不能用于请求签名：{error}"
        ) from error


def _ask(
    http: httpx.Client,
    method: str,
    url: str,
    headers: list[tuple[str, str]],
    content: bytes | _File,
    signer: Signer | None = None,
    output: Path | None = None,
) -> tuple[httpx.Response, bytes]:
    """The answer and its body as it came: not unpacked, since the record's digest is over these bytes.

    Args:
        output: Where the body goes instead if the answer is one (status below 400).
    """
    # Names and purposes may be Chinese: UTF-8, as the gateway reads them.
    raw = [(os.fsencode(name), os.fsencode(value)) for name, value in headers]
    try:
        told: dict[str, Any] = {"content": content or None}
        if isinstance(content, _File) and len(content):
            raw.append((b"Content-Length", b"%d" % len(content)))
            told = {"content": content.pieces(), "extensions": {HASHED_BODY: content}}
        with http.stream(method, url, headers=raw, auth=signer, **told) as answer:
            if output is None or answer.status_code >= 400:
                return answer, b"".join(answer.iter_raw())
            _keep(answer, output)
            return answer, b""
    except SignatureBaseError as error:
        raise UnreachableError(f"this cannot be signed: {error}", f"无法对该请求签名：{error}") from error
    except httpx.InvalidURL as error:
        raise UnreachableError(f"this cannot be sent: {error}", f"无法发送该请求：{error}") from error


def _keep(answer: httpx.Response, output: Path) -> None:
    """Write an answer's body to a file that is there only when it is whole."""
    draft = output.with_name(f".{output.name}.part")
    try:
        with draft.open("wb") as file:
            for piece in answer.iter_raw(_PIECE):
                file.write(piece)
        draft.replace(output)
    except OSError as error:
        raise UnreachableError(f"{output}: {error.strerror}", f"{output}：{error.strerror}", sent=True) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _show(answer: httpx.Response, body: bytes, *, include: bool, as_json: bool, speak: Language) -> None:
    if as_json:
        io.print_json({"status": answer.status_code, "headers": dict(answer.headers), **_body(body)})
        return
    out = sys.stdout.buffer
    if include:
        lines = [f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}".encode()]
        lines += [b"%b: %b" % pair for pair in answer.headers.raw]
        out.write(b"\n".join(lines) + b"\n\n")
    out.write(body)
    if body and sys.stdout.isatty() and not body.endswith(b"\n"):
        out.write(b"\n")
    out.flush()
    if answer.status_code >= 400:
        typer.echo(f"datong call: {_refusal(answer, body, speak)}", err=True)


def _body(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def _refusal(answer: httpx.Response, body: bytes, speak: Language) -> str:
    """One line about an answer that is none: the mesh's own words, or that they are the department's."""
    if "x-road-error" not in answer.headers:
        return {
            "en": f"{answer.status_code}, from the department itself",
            "zh": f"{answer.status_code}，由部门业务系统返回",
        }[speak]
    try:
        problem: dict[str, Any] = json.loads(body)
        return f"{answer.status_code} {problem['title']}: {problem['detail']} {problem['next']} ({problem['rule']})"
    except (ValueError, TypeError, KeyError):  # to HEAD there is no body, and XML was perhaps asked for
        return f"{answer.status_code} {answer.headers['x-road-error']}"


def _keep_receipt(
    http: httpx.Client, url: str, answer: httpx.Response, headers: list[tuple[str, str]], target: Path
) -> bool:
    """Fetch the receipt from the same gateway and write it if it is one; returns whether."""
    exchange = answer.headers.get("x-road-request-id", "")
    speakers = [pair for pair in headers if pair[0].lower() in ("x-road-client", "accept-language")]
    problem = f"{answer.status_code}: no exchange id"
    if exchange:
        try:
            found, body = _ask(http, "GET", f"{url}/v1/exchanges/{exchange}/receipt", speakers, b"")
            content = json.loads(body)
            if found.status_code == 200 and content["format"] == RECEIPT_FORMAT:
                if json.loads(content["record"])["id"] != exchange:
                    raise ValueError("of another exchange")
                draft = target.with_name(f".{target.name}.new")
                draft.write_bytes(body)
                draft.replace(target)
                return True
            problem = f"{found.status_code}: {content['detail']}"
        except OSError as error:
            problem = f"{target}: {error.strerror}"
        except httpx.HTTPError as error:
            problem = f"{exchange}: {error}"
        except (ValueError, TypeError, KeyError):
            problem = f"{exchange}: {found.status_code}"
    typer.echo(f"datong call: no receipt was written 未写入回执 ({problem})", err=True)
    return False


def _stop(problem: str, status: int, as_json: bool) -> NoReturn:
    if as_json:
        typer.echo(json.dumps({"error": {"detail": problem}}, ensure_ascii=False), err=True)
    else:
        typer.echo(f"datong call: {problem}", err=True)
    raise typer.Exit(status)
