"""`datong ca check`: whether a chain would be accepted, and if not, which rule refuses it."""

from __future__ import annotations

import json
import re
import secrets
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from ca_auth import (
    PROFILES,
    ChainRefusedError,
    Identity,
    PathPolicy,
    PathValidator,
    Rejection,
    RevocationData,
    ValidatedPath,
    read_certificate_file,
    sample_naming,
)
from exchange import Language, UnauthenticatedError
from gateway.cli import console_io as io

NO_PROFILE: Final = "none"
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)?")
_REVOCATION: Final[dict[str, dict[Language, str]]] = {
    "crl": {"en": "not revoked, by CRL", "zh": "未吊销（依据 CRL）"},
    "ocsp": {"en": "not revoked, by OCSP", "zh": "未吊销（依据 OCSP）"},
    "grace": {
        "en": "not revoked, by data past their end, within the grace period",
        "zh": "未吊销（数据已过期，处于宽限期内）",
    },
    "unchecked": {
        "en": "NOT CHECKED: neither --crl nor --ocsp was given",
        "zh": "未检查：没有提供 --crl 或 --ocsp",
    },
}

Text = dict[Language, str]


def check(
    anchor: Annotated[Path, typer.Option("--anchor", help="Accepted CA certificates: PEM (several) or DER.")],
    chain: Annotated[
        Path, typer.Option("--chain", help="The certificate, then intermediates in any order: PEM or DER.")
    ],
    crl: Annotated[
        list[Path] | None, typer.Option("--crl", help="CRLs, PEM (several) or DER; may be given several times.")
    ] = None,
    ocsp: Annotated[
        list[Path] | None, typer.Option("--ocsp", help="OCSP answer, DER or base64; may be given several times.")
    ] = None,
    at: Annotated[str, typer.Option("--at", help="When it is to be valid (RFC 3339); default: now.")] = "",
    max_depth: Annotated[
        int | None, typer.Option("--max-depth", min=0, help="Most intermediate CA certificates in a path.")
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            help="Whose field names the member: "
            + ", ".join(PROFILES)
            + ". Default: whichever finds one. none: RFC 5280 and revocation alone, without our rules.",
        ),
    ] = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Say whether a certificate would be accepted; if not, which rule refuses it and what to do.

    Without --crl and --ocsp revocation is not checked. The names of a certificate are read as for members of class GOV.

    Example: datong ca check --anchor roots.pem --chain tax.pem --crl ca.crl

    Exit status: 0 accepted, 1 refused, 2 if a file or option cannot be used.
    """
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # what it warns of is judged by our rules
    terminal = _Terminal(io.language(lang), as_json)
    if profile and profile != NO_PROFILE and profile not in PROFILES:
        known = ", ".join([*PROFILES, NO_PROFILE])
        terminal.unusable(f"there is no profile {profile}; known: {known}", f"没有名为 {profile} 的规范，可用：{known}")
    moment = terminal.moment(at)
    anchors = terminal.certificates(anchor)
    leaf, *untrusted = terminal.certificates(chain)
    revocation = terminal.revocation(crl or (), ocsp or ())
    policy = _policy(profile, max_depth)
    try:
        path = PathValidator(anchors, revocation=revocation, policy=policy).validate(leaf, untrusted, moment)
    except ChainRefusedError as error:
        terminal.refused(error.rejection)
    try:
        identity = _identity(path.certificates[0], profile)
    except UnauthenticatedError as error:
        terminal.refused(
            Rejection(
                rule=error.rule,
                certificate=path.labels[0],
                problem=error.detail_in("en"),
                problem_zh=error.detail_in("zh"),
                next="Have the CA put the member's name where the profile has it, or choose the profile of this CA.",
                next_zh="请由 CA 按所选规范写入成员标识，或选用该 CA 对应的规范。",
            )
        )
    terminal.accepted(path, identity, profile)


def _policy(profile: str, max_depth: int | None) -> PathPolicy:
    default = PathPolicy()
    depth = default.max_depth if max_depth is None else max_depth
    return PathPolicy.rfc5280(max_depth=depth) if profile == NO_PROFILE else PathPolicy(max_depth=depth)


def _identity(leaf: x509.Certificate, profile: str) -> Identity | None:
    """Whom the leaf names; raises UnauthenticatedError if the profile that was asked for finds nobody."""
    if profile == NO_PROFILE:
        return None
    naming = sample_naming(secrets.token_bytes(32))  # the hash of a person's number is not shown
    if profile:
        return PROFILES[profile].identity(leaf, naming)
    for each in PROFILES.values():
        try:
            return each.identity(leaf, naming)
        except UnauthenticatedError:
            continue
    return None


class _Terminal:
    """How one check speaks, and what it has to warn of."""

    def __init__(self, lang: Language, as_json: bool) -> None:
        self._lang = lang
        self._as_json = as_json
        self._warnings: list[Text] = []

    def unusable(self, english: str, chinese: str) -> NoReturn:
        """Say what cannot be used, and end with status 2."""
        problem = {"en": english, "zh": chinese}
        if self._as_json:
            error = {"error": {"detail": problem["en"], "detail_zh": problem["zh"]}}
            typer.echo(json.dumps(error, ensure_ascii=False), err=True)
        else:
            typer.echo(f"error: {problem[self._lang]}", err=True)
        raise typer.Exit(2)

    def moment(self, text: str) -> datetime:
        """The instant meant by `--at`; without an offset it is UTC."""
        if not text:
            return datetime.now(UTC)
        try:
            if not _INSTANT.fullmatch(text):
                raise ValueError("not an RFC 3339 instant")
            found = datetime.fromisoformat(text)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except (ValueError, OverflowError):
            self.unusable(
                f"--at {text[:40]!r} is not an RFC 3339 instant such as 2026-11-23T08:00:00Z",
                f"--at {text[:40]!r} 不是 RFC 3339 时间，例如 2026-11-23T08:00:00Z",
            )

    def certificates(self, path: Path) -> list[bytes]:
        """The certificates in a file; of those that are damaged a warning is kept."""
        try:
            found = read_certificate_file(self._read(path))
        except ValueError:
            self.unusable(f"{path} holds no certificate (PEM or DER)", f"{path} 中没有证书（PEM 或 DER）")
        self._warnings += [
            {
                "en": f"certificate {each.position} of {path} cannot be read and is passed over: {each.defect}",
                "zh": f"{path} 中第 {each.position} 个证书无法解析，已跳过：{each.defect}",
            }
            for each in found
            if each.defect
        ]
        return [each.encoded for each in found]

    def revocation(self, crls: Sequence[Path], ocsp: Sequence[Path]) -> RevocationData | None:
        """What is in the CRL and OCSP files; None if there are none."""
        if not crls and not ocsp:
            return None
        parts: list[RevocationData] = []
        for path in crls:
            try:
                parts.append(RevocationData.of(crls=[self._read(path)]))
            except ValueError:
                self.unusable(f"{path} holds no CRL (PEM or DER)", f"{path} 中没有 CRL（PEM 或 DER）")
        for path in ocsp:
            try:
                parts.append(RevocationData.of(ocsp=[self._read(path)]))
            except ValueError:
                self.unusable(f"{path} is no OCSP answer (DER or base64)", f"{path} 不是 OCSP 应答（DER 或 base64）")
        return RevocationData(
            lists=tuple(each for part in parts for each in part.lists),
            answers=tuple(each for part in parts for each in part.answers),
        )

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            self.unusable(f"{path} cannot be read: {error.strerror}", f"无法读取 {path}：{error.strerror}")

    def refused(self, rejection: Rejection) -> NoReturn:
        """Tell which rule refuses, and end with status 1."""
        if self._as_json:
            io.print_json(
                {
                    "accepted": False,
                    "rule": rejection.rule,
                    "certificate": rejection.certificate,
                    "problem": rejection.problem,
                    "problem_zh": rejection.problem_zh,
                    "next": rejection.next,
                    "next_zh": rejection.next_zh,
                    "warnings": self._warnings,
                }
            )
        else:
            chinese = self._lang == "zh"
            typer.echo(f"✗ {'拒绝' if chinese else 'refused'}: {rejection.rule}")
            if rejection.certificate:
                typer.echo(f"  {rejection.certificate}")
            typer.echo(f"  {rejection.problem_zh if chinese else rejection.problem}")
            typer.echo(f"  → {rejection.next_zh if chinese else rejection.next}")
            self._echo_warnings()
        raise typer.Exit(1)

    def accepted(self, path: ValidatedPath, identity: Identity | None, profile: str) -> None:
        """Tell who it is, until when, and what was not checked."""
        if identity is None and profile != NO_PROFILE:
            self._warnings.append(
                {
                    "en": "no profile finds a member of the mesh in it: the certificate is good, and names nobody here",
                    "zh": "没有任何规范能从中读出平台成员：证书有效，但未指明成员",
                }
            )
        self._warnings += [
            {
                "en": f"nobody was asked whether this CA certificate is revoked: {label}",
                "zh": f"未检查该 CA 证书是否被吊销：{label}",
            }
            for label in path.unchecked
        ]
        until = datetime.fromtimestamp(path.until, UTC)
        if self._as_json:
            io.print_json(
                {
                    "accepted": True,
                    "profile": NO_PROFILE if profile == NO_PROFILE else identity.profile if identity else None,
                    "identity": _plain(identity),
                    "until": until,
                    "revocation": path.revocation,
                    "path": path.labels,
                    "warnings": self._warnings,
                }
            )
            return
        chinese = self._lang == "zh"
        typer.echo(f"✓ {'接受' if chinese else 'accepted'}: {path.labels[0]}")
        if identity is not None:
            who = identity.subsystem or identity.member
            typer.echo(f"  {'身份' if chinese else 'who'}: {who} ({identity.kind}, {identity.profile})")
        for number, label in enumerate(path.labels[1:], start=1):
            last = number == len(path.labels) - 1
            typer.echo(f"  {('信任锚' if chinese else 'anchor') if last else 'CA'}: {label}")
        typer.echo(f"  {'结论有效至' if chinese else 'good until'}: {until:%Y-%m-%dT%H:%M:%SZ}")
        typer.echo(f"  {'吊销' if chinese else 'revocation'}: {_REVOCATION[path.revocation][self._lang]}")
        self._echo_warnings()

    def _echo_warnings(self) -> None:
        for warning in self._warnings:
            typer.echo(f"! {warning[self._lang]}")


def _plain(identity: Identity | None) -> dict[str, Any] | None:
    if identity is None:
        return None
    return {
        "member": identity.member,
        "subsystem": identity.subsystem,
        "kind": identity.kind,
        "profile": identity.profile,
        "warnings": identity.warnings,
    }
