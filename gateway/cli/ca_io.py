"""What the `datong ca` commands share: options, how they speak, how an opened CA and its errors are handled."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509

from ca_auth import REASONS, CaOperationError, EnrolmentError, IssuingCA, Reason, load_crls, replace_file
from exchange import Language, MeshError
from gateway.cli import console_io as io

DEFAULT_FOLDER = Path("datong-ca")
VARIABLE = "DATONG_CA"

FolderArgument = Annotated[Path, typer.Argument(help="Folder of the CA.")]
CaOption = Annotated[Path, typer.Option("--ca", envvar=VARIABLE, help="Folder of the CA.")]
PassphraseOption = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="File with the passphrase of the root's key; default: asked for."),
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, kept on record. A document number is a good one.")]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Voice:
    """How one command speaks."""

    as_json: bool
    lang: Language

    @classmethod
    def of(cls, as_json: bool, lang: str) -> Voice:
        """From the options as given; raises typer.BadParameter for an unknown language."""
        return cls(as_json, io.language(lang))

    def say(self, en: str, zh: str) -> str:
        """One of two texts, by language."""
        return zh if self.lang == "zh" else en

    def tell(self, en: str, zh: str, result: dict[str, Any]) -> None:
        """Print `result` as JSON, or the text for people."""
        if self.as_json:
            io.print_json(result)
        else:
            typer.echo(self.say(en, zh))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what a user can meet into one clear line and exit code 1."""
        try:
            yield
        except MeshError as error:
            io.fail(
                error.detail_in(self.lang),
                todo=error.next_in(self.lang),
                as_json=self.as_json,
                code=error.code,
                rule=error.rule,
            )
        except EnrolmentError as error:
            io.fail(error.texts[self.lang], as_json=self.as_json, code="enrolment", rule=error.rule)
        except sqlite3.Error as error:
            io.fail(
                self.say(f"The CA's database cannot be used: {error}", f"CA 数据库不可用：{error}"),
                as_json=self.as_json,
                code="ca-database",
            )
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            io.fail(f"{where}{error.strerror or error}", as_json=self.as_json, code="file")

    @contextmanager
    def opened(self, folder: Path) -> Iterator[IssuingCA]:
        """The CA in `folder`; errors end the command."""
        with self.errors():
            ca = IssuingCA.open(folder)
            try:
                yield ca
            finally:
                ca.close()


def span(text: str, option: str) -> timedelta:
    """`30m`, `24h` or `7d`; raises typer.BadParameter."""
    match = _SPAN.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise typer.BadParameter("write a number and m, h or d: 30m, 24h, 7d", param_hint=option)
    return timedelta(**{_UNITS[match[2]]: float(match[1])})


def passphrase(file: Path | None, voice: Voice, *, new: bool) -> bytes:
    """From a file (its last line break does not count), or asked for on the terminal; twice if it is new."""
    if file is not None:
        return file.read_bytes().rstrip(b"\r\n")
    text: str = typer.prompt(
        voice.say("Passphrase of the root's key", "根密钥口令"), hide_input=True, confirmation_prompt=new, err=True
    )
    return text.encode()


def reason_of(text: str) -> Reason:
    """`keyCompromise` or `key-compromise`; raises typer.BadParameter."""
    plain = text.replace("-", "").lower()
    for reason in REASONS:
        if plain == reason.lower():
            return reason
    raise typer.BadParameter(f"one of {', '.join(REASONS)}", param_hint="--reason")


def read_crls(file: Path) -> list[x509.CertificateRevocationList]:
    """The CRLs in a PEM or DER file, at least one; raises CaOperationError."""
    try:
        found = load_crls(file.read_bytes())
    except ValueError:
        found = []
    if not found:
        raise CaOperationError("ca-crl", problem=f"{file} holds no CRL.", problem_zh=f"{file} 中没有 CRL。")
    return found


def write_public(file: Path, content: bytes) -> None:
    """A file that everybody may read, whole or not at all."""
    replace_file(file, content, 0o644)


def moment(unix: float) -> str:
    """RFC 3339, whole seconds."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def grouped(fingerprint: str) -> str:
    """A fingerprint as people compare it: pairs with colons."""
    return ":".join(fingerprint[start : start + 2] for start in range(0, len(fingerprint), 2)).upper()
