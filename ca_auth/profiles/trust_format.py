"""The shape of the trust file: its tables, keys and types. `ca_auth.profiles.trust_file` reads it. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ca_auth.profiles.naming import USCC_SCHEME, SerialNumberForm, SubsystemFrom
from ca_auth.profiles.profiles import DEFAULT
from ca_auth.profiles.trust import DEFAULT_MAX_DEPTH
from exchange import member_id, subsystem_id

_PATTERN: Final = re.compile(r"\*|[^/*]+/\*|[^/*]+/[^/*]+/[^/*]*\*")
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*)){1,31}")


def _fingerprint(text: str) -> str:
    plain = text.replace(":", "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", plain) is None:
        raise ValueError("not a SHA-256 fingerprint of 64 hex digits")
    return plain


def _key_id(text: str) -> str:
    plain = text.replace(":", "").lower()
    if re.fullmatch(r"([0-9a-f]{2}){4,64}", plain) is None:
        raise ValueError("not a subject key identifier in hex")
    return plain


def _pattern(text: str) -> str:
    if _PATTERN.fullmatch(text) is None:
        member_id(text)
    elif text != "*":
        filled = text[:-1] + "x"
        member_id(filled if filled.count("/") == 2 else filled + "/x")
    return text


def _subsystem_code(text: str) -> str:
    subsystem_id(f"x/x/x/{text}")
    return text


def _oid(text: str) -> str:
    if _OID.fullmatch(text) is None:
        raise ValueError("not an object identifier")
    return text


def check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http address")
    return text


def _ocsp(text: str) -> str:
    return text if text in ("off", "aia") else check_url(text)


_Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
_Pattern = Annotated[str, AfterValidator(_pattern)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class RevocationEntry(_Model):
    crl: list[str] = []
    ocsp: Annotated[str, AfterValidator(_ocsp)] = "off"
    required: bool
    grace_hours: float = Field(0.0, ge=0, le=24 * 31)


class SubCAEntry(_Model):
    sha256: _Fingerprint | None = None
    key_id: Annotated[str, AfterValidator(_key_id)] | None = None
    members: list[_Pattern] = Field(min_length=1)


class PersonsEntry(_Model):
    subsystem: Annotated[str, AfterValidator(_subsystem_code)]
    member: Annotated[str, AfterValidator(member_id)] | None = None


class ExtensionsEntry(_Model):
    identity_code: Annotated[str, AfterValidator(_oid)] | None = None
    insurance_number: Annotated[str, AfterValidator(_oid)] | None = None
    registration_number: Annotated[str, AfterValidator(_oid)] | None = None
    organization_code: Annotated[str, AfterValidator(_oid)] | None = None
    taxation_number: Annotated[str, AfterValidator(_oid)] | None = None
    uscc: Annotated[str, AfterValidator(_oid)] | None = None


class AnchorEntry(_Model):
    name: str = Field(min_length=1, max_length=64)
    certificates: str
    profile: str = DEFAULT
    instance: str | None = None
    member_class: str | None = Field(None, alias="class")
    subsystem_from: SubsystemFrom = "none"
    scheme: str = Field(USCC_SCHEME, pattern="^[A-Z]{5}$")
    serial_number: SerialNumberForm = "semantic"
    extensions: ExtensionsEntry | None = None
    persons: PersonsEntry | None = None
    members: list[_Pattern] = Field(["*"], min_length=1)
    sub_cas: Literal["any", "listed"] = "any"
    sub_ca: list[SubCAEntry] = []
    max_depth: int = Field(DEFAULT_MAX_DEPTH, ge=0, le=DEFAULT_MAX_DEPTH)
    revocation: RevocationEntry | None = None


class PinEntry(_Model):
    subsystem: Annotated[str, AfterValidator(subsystem_id)]
    certificates: list[_Fingerprint] = Field(min_length=1)


class TerminatorEntry(_Model):
    unix: str | None = None
    certificate: _Fingerprint | None = None


class TrustFile(_Model):
    anchor: list[AnchorEntry] = Field(min_length=1)
    pin: list[PinEntry] = []
    terminator: list[TerminatorEntry] = []
