"""`/v1/certificates`: which certificates the registry knows, beside those routes of the CA that `gateway.enrolment` brings.

A certificate's address is its fingerprint, so that no certificate stands where a route of the CA does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.convertors import Convertor, register_url_convertor

from exchange import NotFoundError
from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.bodies import Why, read_body, takes
from gateway.api.callers import CallerDep
from gateway.api.changing import Recorded, answer, changed, changing, plain
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import PageQuery, known_parameters, page_of
from registry import (
    Certificate,
    CertificateUse,
    Change,
    Snapshot,
    register_certificate,
    revoke_certificate,
    sees_certificate,
)


class _FingerprintConvertor(Convertor[str]):
    """64 hexadecimal digits, in addresses."""

    regex = "[0-9a-f]{64}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("fingerprint", _FingerprintConvertor())

router = APIRouter(prefix="/v1/certificates", tags=["certificates"])
OF_CERTIFICATE = "/{fingerprint:fingerprint}"

State = Literal["active", "revoked"]
Fingerprint = Annotated[
    str,
    Path(
        description="SHA-256 of the certificate's DER, lower-case hex. 证书指纹。",
        pattern="^[0-9a-f]{64}$",
        examples=["0f" * 32],
    ),
]


class CertificateRegistration(Why):
    """A certificate that is to speak for a subsystem."""

    subsystem: fields.Subsystem = Field(description="The subsystem it names, or one of the member it names. 子系统。")
    certificate: str = Field(min_length=1, max_length=20_000, description="PEM; the first one counts. 证书（PEM）。")
    use: CertificateUse = Field(
        "adapter", description="What it may be used for: to answer, to carry, or to be pinned as a caller's. 用途。"
    )


class CertificateView(BaseModel):
    """A registered certificate."""

    fingerprint: str
    subsystem: str
    use: CertificateUse
    state: State
    not_before: fields.Moment
    not_after: fields.Moment
    certificate: str = Field(description="PEM.")

    @classmethod
    def of(cls, record: Certificate) -> CertificateView:
        parsed = x509.load_der_x509_certificate(record.der)
        return cls(
            fingerprint=record.fingerprint,
            subsystem=record.subsystem,
            use=record.use,
            state="active" if record.active else "revoked",
            not_before=parsed.not_valid_before_utc,
            not_after=parsed.not_valid_after_utc,
            certificate=parsed.public_bytes(Encoding.PEM).decode("ascii"),
        )


class CertificatePage(BaseModel):
    """Certificates, by fingerprint."""

    certificates: list[CertificateView]
    next_cursor: str | None


class CertificateChanged(Recorded):
    """A certificate as it is now, and the change that made it so."""

    certificate: CertificateView


class CertificateSearch(PageQuery):
    """Which certificates to list; what is left out means any."""

    subsystem: fields.Subsystem | None = Field(None, description="Of this subsystem. 所属子系统。")
    use: CertificateUse | None = Field(None, description="For this use. 用途。")
    state: State | None = Field(None, description="In this state. 状态。")


def no_certificate() -> NotFoundError:
    return NotFoundError(what="such certificate", what_zh="该证书")


@router.get("", response_model=CertificatePage, responses=problems(*refusals.READING), openapi_extra=BY_CERTIFICATE)
async def list_certificates(
    request: Request, caller: CallerDep, actor: ActorDep, wanted: Annotated[CertificateSearch, Query()]
) -> Response:
    """Registered certificates, by fingerprint: all for operators and auditors, the caller's own for others."""
    known_parameters(request, CertificateSearch)
    found = [each for each in caller.snapshot.certificates() if _fits(each, wanted) and sees_certificate(actor, each)]
    shown, cursor = page_of(found, lambda each: each.fingerprint, wanted)
    return answer({"certificates": [plain(CertificateView.of(each)) for each in shown], "next_cursor": cursor})


@router.post(
    "",
    status_code=201,
    responses=made(CertificateChanged) | problems(*refusals.CHANGING, refusals.CONFLICT, refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(CertificateRegistration),
)
async def create_certificate(request: Request, actor: ActorDep) -> Response:
    """Register a certificate that speaks for a subsystem. Needs the role operator.

    Checked are identity and dates, and for adapters and gateways the kind of key; not who issued it: that is asked at every use.
    """
    known_parameters(request)
    body = await read_body(request, CertificateRegistration)
    async with changing(request, actor, body.why) as change:
        registered, fingerprint = await register_certificate(
            change, actor, body.subsystem, body.certificate.encode(), use=body.use
        )
    return await _changed(request, registered, fingerprint)


@router.get(
    OF_CERTIFICATE,
    response_model=CertificateView,
    responses=problems(*refusals.READING, no_certificate()),
    openapi_extra=BY_CERTIFICATE,
)
async def show_certificate(request: Request, caller: CallerDep, actor: ActorDep, fingerprint: Fingerprint) -> Response:
    """One registered certificate: for operators, auditors and the subsystem it speaks for."""
    known_parameters(request)
    found = caller.snapshot.certificate(fingerprint)
    if found is None or not sees_certificate(actor, found):
        raise no_certificate()
    return answer(plain(CertificateView.of(found)))


@router.post(
    OF_CERTIFICATE + "/revoke",
    response_model=CertificateChanged,
    responses=problems(*refusals.CHANGING, no_certificate()),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def revoke_registered_certificate(request: Request, actor: ActorDep, fingerprint: Fingerprint) -> Response:
    """Let a certificate speak for nobody any more; it does not come back. For operators and the owner it speaks for."""
    known_parameters(request)
    body = await read_body(request, Why)
    async with changing(request, actor, body.why) as change:
        revoked = await revoke_certificate(change, actor, fingerprint)
    return await _changed(request, revoked, fingerprint)


async def _changed(request: Request, change: Change | None, fingerprint: str) -> Response:
    def content(snapshot: Snapshot) -> dict[str, Any]:
        found = snapshot.certificate(fingerprint)
        assert found is not None  # it was changed, or found unchanged
        return {"certificate": plain(CertificateView.of(found))}

    return await changed(request, change, content, target=fingerprint, action="certificate")


def _fits(record: Certificate, wanted: CertificateSearch) -> bool:
    return (
        wanted.subsystem in (None, record.subsystem)
        and wanted.use in (None, record.use)
        and (wanted.state is None or (wanted.state == "active") == record.active)
    )
