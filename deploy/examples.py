"""Commands that work when pasted: what to try on a mesh that has just come up, and what each is to show."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.identities import (
    AUDIT_SUBSYSTEM,
    CIVIL_SUBSYSTEM,
    HEALTH_SUBSYSTEM,
    HOUSING_SUBSYSTEM,
    LAND_SUBSYSTEM,
    STRANGER_SUBSYSTEM,
    TAX_SUBSYSTEM,
)
from deploy.demo.synthetic import ENTERPRISE_IN_GOOD_ORDER, RESIDENT_CHILD, RESIDENT_MARRIED
from deploy.parts import Place
from exchange import Language, SubsystemId, to_wire

PURPOSE = "public-rental-housing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One command line."""

    what: Mapping[Language, str]
    command: str
    status: int | None
    """Of the HTTP answer; None for a command that is not one request."""


def examples(place: Place, environment: Mapping[str, str]) -> list[Example]:
    """What to paste, in the order to paste it.

    Args:
        environment: Of the user: a proxy named in it must not get what is meant for this machine.
    """
    curl = _Curl(place, environment)
    company = f"{TAX_SUBSYSTEM}/enterprises/enterprises/{ENTERPRISE_IN_GOOD_ORDER}"
    marriage = f"{CIVIL_SUBSYSTEM}/residents/residents/{RESIDENT_MARRIED}/marriage"
    birth = f"{HEALTH_SUBSYSTEM}/births/births/{RESIDENT_CHILD}"
    property_ = f"{LAND_SUBSYSTEM}/properties/owners/{RESIDENT_MARRIED}/properties"
    ask_company = curl.exchange("housing", HOUSING_SUBSYSTEM, company, purpose=PURPOSE)
    asked = ask_company.replace("curl -i ", "curl -sS -o /dev/null -D - ", 1)
    receipt, keys = _shown(place.data / "receipt.json"), _shown(place.data / "keys.json")
    fetched = curl.line("housing", None, {"X-Road-Client": HOUSING_SUBSYSTEM}, "-sS", "-o", receipt)
    return [
        Example(
            what={"en": "a company, asked of the tax bureau", "zh": "住房保障局向税务局查询企业"},
            command=ask_company,
            status=200,
        ),
        Example(
            what={"en": "a marriage, asked of civil affairs", "zh": "住房保障局向民政局查询婚姻状况"},
            command=curl.exchange("housing", HOUSING_SUBSYSTEM, marriage, purpose=PURPOSE),
            status=200,
        ),
        Example(
            what={
                "en": "a birth certificate, asked of the health bureau",
                "zh": "住房保障局向卫生健康局查询出生医学证明",
            },
            command=curl.exchange("housing", HOUSING_SUBSYSTEM, birth, purpose=PURPOSE),
            status=200,
        ),
        Example(
            what={
                "en": "what a person owns, asked of the land bureau",
                "zh": "住房保障局向自然资源局查询个人名下不动产",
            },
            command=curl.exchange("housing", HOUSING_SUBSYSTEM, property_, purpose=PURPOSE),
            status=200,
        ),
        Example(
            what={"en": "a company, asked without a grant: refused", "zh": "没有授权查询企业：拒绝"},
            command=curl.exchange("stranger", STRANGER_SUBSYSTEM, company, purpose=PURPOSE),
            status=403,
        ),
        Example(
            what={"en": "without a certificate: refused", "zh": "没有证书：拒绝"},
            command=curl.exchange(None, HOUSING_SUBSYSTEM, company, purpose=PURPOSE),
            status=401,
        ),
        Example(
            what={"en": "what the auditor sees", "zh": "审计局查看交换记录"},
            command=curl.line("audit", f"{place.gateway_url}/v1/exchanges?limit=5", {"X-Road-Client": AUDIT_SUBSYSTEM}),
            status=200,
        ),
        Example(
            what={"en": "a receipt, checked without the mesh", "zh": "获取收据并离线验证"},
            command=f"RECEIPT=$({asked} | tr -d '\\r' | awk 'tolower($1) == \"datong-receipt:\" {{print $2}}')"
            f' && {fetched} "$RECEIPT" && {_datong()} verify {shlex.quote(receipt)} --keys {shlex.quote(keys)}',
            status=None,
        ),
    ]


class _Curl:
    def __init__(self, place: Place, environment: Mapping[str, str]) -> None:
        self._place = place
        proxied = any(environment.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"))
        self._common = ["--noproxy", "*"] if proxied else []

    def exchange(self, caller: str | None, client: SubsystemId, path: str, *, purpose: str) -> str:
        url = f"{self._place.gateway_url}/r1/{to_wire(path)}"
        return self.line(caller, url, {"X-Road-Client": client, "Datong-Purpose": purpose})

    def line(self, caller: str | None, url: str | None, headers: Mapping[str, str], *options: str) -> str:
        pki = self._place.data / "pki"
        words = ["curl", *(options or ("-i",)), *self._common, "--cacert", _shown(pki / "ca.pem")]
        if caller:
            words += ["--cert", _shown(pki / f"{caller}.crt"), "--key", _shown(pki / f"{caller}.key")]
        for name, value in headers.items():
            words += ["-H", f"{name}: {value}"]
        return shlex.join([*words, *([url] if url else [])])


def _shown(path: Path) -> str:
    """A path as short as it can be typed from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path.resolve())


def _datong() -> str:
    """How to call this command: by name if that is the one the shell would find."""
    found = shutil.which("datong")
    own = Path(sys.executable).with_name("datong")
    if found and Path(found).resolve() == own.resolve():
        return "datong"
    return shlex.quote(_shown_program(own)) if own.exists() else f"{shlex.quote(sys.executable)} -m deploy.cli"


def _shown_program(path: Path) -> str:
    # Not resolved: a virtual environment's programs must be called by their place in it.
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
