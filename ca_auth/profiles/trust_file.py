"""The trust file: which CAs are accepted, how their certificates are read, and whom each may speak for.

`docs/profiles/trust-file.md` explains every key. Reading it is the only I/O here.

Rules:
1. Unknown keys, wrong types, missing keys and missing files are refused with the line and the key; then nothing is
   loaded, and a running gateway keeps what it has.
2. Relative paths are relative to the file.
3. A setting that would have no effect, or could not work, is an error: somebody relied on it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives import hashes
from pydantic import ValidationError

from ca_auth.profiles.naming import Naming, Persons
from ca_auth.profiles.organisation_codes import MemberOfCode, members_of_class
from ca_auth.profiles.profile_gmt0015 import field_oids
from ca_auth.profiles.profiles import DEFAULT, PROFILES
from ca_auth.profiles.trust import (
    Anchor,
    MemberPattern,
    Revocation,
    SubCA,
    Terminators,
    Trust,
    ca_certificates,
)
from ca_auth.profiles.trust_format import (
    AnchorEntry,
    ExtensionsEntry,
    RevocationEntry,
    SubCAEntry,
    TerminatorEntry,
    TrustFile,
    check_url,
)
from exchange import Location, SubsystemId, UnprocessableError, line_of, member_id, subsystem_id, written


def read_trust(
    path: Path,
    *,
    person_key: bytes | None = None,
    member_of_code: MemberOfCode | None = None,
) -> Trust:
    """Return what a trust file says.

    Args:
        path: TOML, UTF-8.
        person_key: Of the hash under which persons are known; needed when an anchor accepts certificates of persons.
        member_of_code: Finds a member by its code, for anchors that give no class.

    Raises:
        UnprocessableError: The file, or one that it names, cannot be read or breaks the format; rule `trust-file`.
            The message names the line and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise _refusal(f"{path} cannot be read: {reason}.", f"无法读取 {path}：{reason}。") from error
    complain = _Complaints(path.name, text)
    try:
        parsed = TrustFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _refusal(f"{path.name}: {error}.", f"{path.name}：TOML 语法错误：{error}。") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise complain.of(first["loc"], *_told(first["type"], first["msg"])) from None
    reader = _Reader(path, complain, person_key, member_of_code)
    return reader.trust(parsed)


class _Complaints:
    """Makes refusals that name the line and the key."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text

    def of(self, location: Location, problem: str, problem_zh: str) -> UnprocessableError:
        line = line_of(self._text, location)
        key = written(location)
        where = f"{self._name}, line {line}" if line else self._name
        where_zh = f"{self._name} 第 {line} 行" if line else self._name
        return _refusal(f"{where}: {key}: {problem}.", f"{where_zh}：{key}：{problem_zh}。")

    @contextmanager
    def at(self, location: Location) -> Iterator[None]:
        """Turn what goes wrong with a value into a refusal that names its place."""
        try:
            yield
        except OSError as error:
            raise self.of(location, f"{error.strerror}", f"无法读取（{error.strerror}）") from error
        except ValueError as error:
            raise self.of(location, str(error), str(error)) from error


class _Reader:
    """From the parsed file to `Trust`: what goes beyond types."""

    def __init__(
        self,
        path: Path,
        complain: _Complaints,
        person_key: bytes | None,
        member_of_code: MemberOfCode | None,
    ) -> None:
        self._home = path.resolve().parent
        self._files = [path.resolve()]
        self._complain = complain
        self._person_key = person_key
        self._member_of_code = member_of_code

    def trust(self, parsed: TrustFile) -> Trust:
        anchors = tuple(self._anchor(each, ("anchor", place)) for place, each in enumerate(parsed.anchor))
        self._check_unique(anchors)
        pins: dict[SubsystemId, frozenset[str]] = {}
        for place, pin in enumerate(parsed.pin):
            subsystem = subsystem_id(pin.subsystem)
            if subsystem in pins:
                raise self._complain.of(
                    ("pin", place, "subsystem"), "this subsystem is pinned already", "该子系统已有绑定"
                )
            pins[subsystem] = frozenset(pin.certificates)
        return Trust(
            anchors=anchors,
            pins=MappingProxyType(pins),
            terminators=self._terminators(parsed.terminator),
            files=tuple(self._files),
        )

    def _anchor(self, parsed: AnchorEntry, here: Location) -> Anchor:
        profile = PROFILES.get(parsed.profile)
        if profile is None:
            names = ", ".join(PROFILES)
            raise self._complain.of(
                (*here, "profile"), f"there is no such profile; there are {names}", f"没有此规范；可用：{names}"
            )
        with self._complain.at((*here, "certificates")):
            file = self._home / parsed.certificates
            certificates = ca_certificates(file.read_bytes())
            self._files.append(file)
        self._check_settings_have_effect(parsed, here)
        return Anchor(
            name=parsed.name,
            certificates=certificates,
            profile=profile,
            naming=self._naming(parsed, here),
            members=tuple(MemberPattern(text) for text in parsed.members),
            sub_cas=tuple(self._sub_ca(each, (*here, "sub_ca", place)) for place, each in enumerate(parsed.sub_ca)),
            only_listed_sub_cas=parsed.sub_cas == "listed",
            max_depth=parsed.max_depth,
            revocation=self._revocation(parsed.revocation, (*here, "revocation")),
        )

    def _check_settings_have_effect(self, parsed: AnchorEntry, here: Location) -> None:
        of_profiles: Mapping[str, tuple[str, ...]] = {
            "instance": _NAMING_PROFILES,
            "member_class": _NAMING_PROFILES,
            "subsystem_from": _NAMING_PROFILES,
            "persons": _NAMING_PROFILES,
            "scheme": _NAMING_PROFILES,
            "serial_number": ("subject-serial-number",),
            "extensions": ("gmt-0015",),
        }
        for key, profiles in of_profiles.items():
            if key in parsed.model_fields_set and parsed.profile not in profiles:
                raise self._complain.of(
                    (*here, "class" if key == "member_class" else key),
                    f"has no effect with the profile {parsed.profile}",
                    f"对规范 {parsed.profile} 无效",
                )

    def _naming(self, parsed: AnchorEntry, here: Location) -> Naming:
        oids = {key.replace("_", "-"): oid for key, oid in (parsed.extensions or ExtensionsEntry()) if oid is not None}
        in_force = field_oids(oids).values()
        if len(set(in_force)) != len(in_force):
            raise self._complain.of((*here, "extensions"), "one OID stands for two fields", "同一 OID 对应了两个字段")
        return Naming(
            member_of_code=self._members(parsed, here),
            subsystem_from=parsed.subsystem_from,
            scheme=parsed.scheme,
            serial_number=parsed.serial_number,
            extensions=MappingProxyType(oids),
            persons=self._persons(parsed, here),
        )

    def _members(self, parsed: AnchorEntry, here: Location) -> MemberOfCode:
        if parsed.profile not in _NAMING_PROFILES:
            return _no_member
        if (parsed.instance is None) != (parsed.member_class is None):
            raise self._complain.of(here, "instance and class belong together", "instance 与 class 须同时给出")
        if parsed.instance is not None and parsed.member_class is not None:
            with self._complain.at((*here, "class")):
                return members_of_class(parsed.instance, parsed.member_class)
        if self._member_of_code is None:
            raise self._complain.of(
                here,
                "instance and class are missing: a code in a certificate would name no member",
                "缺少 instance 和 class，证书中的代码无法对应成员",
            )
        return self._member_of_code

    def _persons(self, parsed: AnchorEntry, here: Location) -> Persons | None:
        if parsed.persons is None:
            return None
        if not self._person_key:
            raise self._complain.of(
                (*here, "persons"),
                "certificates of persons need the key of the subject hash (DATONG_SUBJECT_KEY)",
                "接受自然人证书需要主体散列密钥（DATONG_SUBJECT_KEY）",
            )
        member = parsed.persons.member
        return Persons(
            key=self._person_key,
            subsystem=parsed.persons.subsystem,
            member=None if member is None else member_id(member),
        )

    def _sub_ca(self, parsed: SubCAEntry, here: Location) -> SubCA:
        if (parsed.sha256 is None) == (parsed.key_id is None):
            raise self._complain.of(here, "give either sha256 or key_id", "sha256 与 key_id 须二选一")
        return SubCA(
            sha256=parsed.sha256,
            key_id=parsed.key_id,
            members=tuple(MemberPattern(text) for text in parsed.members),
        )

    def _revocation(self, parsed: RevocationEntry | None, here: Location) -> Revocation:
        if parsed is None:
            return Revocation()
        if parsed.required and not parsed.crl and parsed.ocsp == "off":
            raise self._complain.of(
                (*here, "required"),
                "there is neither a CRL nor OCSP: every certificate would be refused",
                "既无 CRL 也无 OCSP，所有证书都会被拒绝",
            )
        urls = tuple(each for each in parsed.crl if "://" in each)
        with self._complain.at((*here, "crl")):
            for each in urls:
                check_url(each)
        return Revocation(
            # A file that is not there yet is no error here: without news, `required` decides.
            crl_paths=tuple(self._home / each for each in parsed.crl if each not in urls),
            crl_urls=urls,
            ocsp=parsed.ocsp,
            required=parsed.required,
            grace=timedelta(hours=parsed.grace_hours),
        )

    def _terminators(self, parsed: list[TerminatorEntry]) -> Terminators:
        for place, each in enumerate(parsed):
            if (each.unix is None) == (each.certificate is None):
                raise self._complain.of(
                    ("terminator", place), "give either unix or certificate", "unix 与 certificate 须二选一"
                )
        return Terminators(
            sockets=tuple(self._home / each.unix for each in parsed if each.unix is not None),
            certificates=frozenset(each.certificate for each in parsed if each.certificate is not None),
        )

    def _check_unique(self, anchors: tuple[Anchor, ...]) -> None:
        names: set[str] = set()
        known: set[bytes] = set()
        for place, anchor in enumerate(anchors):
            if anchor.name in names:
                raise self._complain.of(
                    ("anchor", place, "name"), "another anchor has this name", "另一信任锚已用此名称"
                )
            names.add(anchor.name)
            for certificate in anchor.certificates:
                if (fingerprint := certificate.fingerprint(hashes.SHA256())) in known:
                    # Which of two entries counts must not depend on their order.
                    raise self._complain.of(
                        ("anchor", place, "certificates"),
                        "one of these certificates is an anchor already",
                        "其中某张证书已是信任锚",
                    )
                known.add(fingerprint)


_NAMING_PROFILES: Final = tuple(name for name in PROFILES if name != DEFAULT)


def _no_member(code: str) -> None:
    return None


def _told(kind: str, message: str) -> tuple[str, str]:
    match kind:
        case "extra_forbidden":
            return "there is no such key", "没有这个键"
        case "missing":
            return "the key is missing", "缺少这个键"
        case _:
            plain = message.removeprefix("Value error, ")
            return plain, plain


def _refusal(problem: str, problem_zh: str) -> UnprocessableError:
    return UnprocessableError("trust-file", problem=problem, problem_zh=problem_zh)
