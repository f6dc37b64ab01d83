"""`/v1/certificates`: how a certificate is got and renewed, and where the CA's root and CRLs are.

Rules:
1. Enrolment and renewal are judged by `ca_auth.IssuingCA` alone; here bytes are read, bounded and counted.
2. An address that sends wrong codes is made to wait. (Guessing is hopeless; this is about load and about being noticed.)
3. Signing and the CA's file are kept off the event loop, and only so many at once.
4. What goes wrong inside is an event; a caller learns that the CA cannot do it now.
"""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from ca_auth import EnrolmentRateError, EnrolmentRefusedError, Issued, IssuingCA, fingerprint_of
from exchange import (
    InvalidRequestError,
    OverloadedError,
    PayloadTooLargeError,
    UnauthenticatedError,
    UnavailableError,
)

LARGEST_BODY: Final = 20_000
_AT_ONCE: Final = 8
_WRONG_CODES: Final = 10
_WRONG_CODES_WITHIN: Final = 60.0
_ADDRESSES: Final = 10_000

_T = TypeVar("_T")
OnEnrolled = Callable[[Issued], Awaitable[None]]
"""Told what was issued for a code, before the answer; again for a repeated answer."""
OnRenewed = Callable[[str, Issued], Awaitable[None]]
"""Told the fingerprint of the old certificate and what was issued instead, before the answer; again for a repeated answer."""

events = structlog.get_logger("datong.ca")


class CaUnavailableError(UnavailableError):
    rule_name = "ca-available"
    detail = {"en": "The CA cannot issue now.", "zh": "CA 当前无法签发证书。"}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class EnrolmentRequest(_Body):
    """A one-time code, and the key it is to be used for."""

    code: str = Field(max_length=200, description="The code, as the operator of the CA gave it. 一次性注册码。")
    csr: str = Field(max_length=16_384, description="PKCS #10, PEM; only its public key is used. 证书签名请求。")


class RenewalRequest(_Body):
    """A new key, for the certificate of this connection."""

    csr: str = Field(max_length=16_384, description="PKCS #10, PEM; only its public key is used. 证书签名请求。")


class IssuedCertificate(BaseModel):
    """A certificate and what leads from it to the root."""

    certificate: str = Field(description="PEM.")
    chain: str = Field(description="PEM of the issuing CA and those above it, without the root.")
    serial_number: str = Field(description="Lower-case hex.")
    fingerprint: str = Field(description="SHA-256 of the certificate's DER, lower-case hex.")
    not_after: str = Field(description="When it ends, RFC 3339.")

    @classmethod
    def of(cls, issued: Issued) -> IssuedCertificate:
        return cls(
            certificate=_pem(issued.certificate),
            chain="".join(map(_pem, issued.chain)),
            serial_number=issued.row.serial,
            fingerprint=issued.row.fingerprint,
            not_after=issued.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )


def peer_of_connection(request: Request) -> bytes | None:
    """The client certificate that our own TLS verified, DER (`ca_auth.PeerCertificateProtocol`).

    Not one that a TLS terminator handed over: whoever can speak as a terminator would get a certificate for anybody, since
    certificates are no secrets.
    """
    state = request.scope.get("state", {})
    if state.get("peer_spoken_for"):
        return None
    der: bytes | None = state.get("peer_der")
    return der


def enrolment_router(
    ca: IssuingCA,
    *,
    peer: Callable[[Request], bytes | None] = peer_of_connection,
    on_enrolled: OnEnrolled | None = None,
    on_renewed: OnRenewed | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> APIRouter:
    """The routes of one CA.

    Args:
        peer: The certificate with which the connection was made, proven; None without.
        on_enrolled: For whoever keeps books of certificates, too: it registers what its code was given out for.
        on_renewed: For whoever keeps books of certificates, too: it registers the new one where the old one was.
        monotonic: Seconds, for counting wrong codes.
    """
    router = APIRouter(prefix="/v1/certificates", tags=["certificates"])
    wrong_codes = _WrongCodes(monotonic)
    working = _Working()

    @router.get("/ca", response_class=Response, responses=_content("application/pem-certificate-chain"))
    async def certificates_of_the_ca(request: Request) -> Response:
        """The root, then the issuing CA and those between, PEM. Trust the root by its fingerprint only."""
        _no_query(request)
        ordered = (ca.root, *ca.chain[:-1])
        return _file("".join(map(_pem, ordered)).encode(), "application/pem-certificate-chain")

    @router.get("/crl", response_class=Response, responses=_content("application/pkix-crl"))
    async def current_crl(request: Request) -> Response:
        """The issuing CA's certificate revocation list, DER."""
        _no_query(request)
        row = await working.run(ca.revocations.current)
        return _file(row.der, "application/pkix-crl")

    @router.get("/crls", response_class=Response, responses=_content("application/x-pem-file"))
    async def every_crl(request: Request) -> Response:
        """The CRLs of the issuing CA and of those above it, PEM: all that checking a chain needs."""
        _no_query(request)
        row = await working.run(ca.revocations.current)
        upstream = await working.run(ca.revocations.upstream)
        own = x509.load_der_x509_crl(row.der).public_bytes(serialization.Encoding.PEM)
        return _file(own + upstream, "application/x-pem-file")

    @router.post("/enrolments", status_code=201, openapi_extra=_takes(EnrolmentRequest))
    async def enrol(request: Request) -> IssuedCertificate:
        """Exchange a one-time code for a certificate. The same code with the same key gets the same certificate again."""
        address = request.client.host if request.client is not None else ""
        wrong_codes.check(address)
        asked = await _read(request, EnrolmentRequest)
        try:
            issued = await working.run(lambda: ca.enrol(asked.code, asked.csr.encode()))
        except EnrolmentRefusedError as error:
            wrong_codes.count(address)
            events.warning("ca.enrolment.refused", address=address, rule=error.rule)
            raise
        if on_enrolled is not None:
            await on_enrolled(issued)
        events.info("ca.enrolled", address=address, holder=issued.row.holder, serial=issued.row.serial)
        return IssuedCertificate.of(issued)

    @router.post("/renewals", status_code=201, openapi_extra=_takes(RenewalRequest))
    async def renew(request: Request) -> IssuedCertificate:
        """Replace the certificate of this connection by one for a new key. The old one stays good until its end."""
        der = peer(request)
        if der is None:
            raise UnauthenticatedError(
                "client-certificate",
                problem="A renewal is asked for with the certificate that is to be renewed.",
                problem_zh="续期请求须使用待续期的证书建立连接。",
            )
        asked = await _read(request, RenewalRequest)
        issued = await working.run(lambda: ca.renew(der, asked.csr.encode()))
        if on_renewed is not None:
            await on_renewed(fingerprint_of(der), issued)
        events.info("ca.renewed", holder=issued.row.holder, serial=issued.row.serial, renews=issued.row.renews)
        return IssuedCertificate.of(issued)

    return router


class _Working:
    """Runs what blocks in threads, so many at once; what the CA's own parts raise becomes one error for callers."""

    def __init__(self) -> None:
        self._count = 0

    async def run(self, work: Callable[[], _T]) -> _T:
        if self._count >= _AT_ONCE:
            raise OverloadedError
        self._count += 1
        try:
            return await run_in_threadpool(work)
        except (sqlite3.Error, OSError) as error:
            raise CaUnavailableError from error
        finally:
            self._count -= 1


class _WrongCodes:
    """Counts refused codes by address; the address that was quiet longest is forgotten first."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._known: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises EnrolmentRateError if the address has used up its attempts."""
        since, count = self._known.get(address, (0.0, 0))
        if count >= _WRONG_CODES and self._monotonic() < since + _WRONG_CODES_WITHIN:
            raise EnrolmentRateError(
                problem="Too many codes from this address were refused.", problem_zh="该地址提交的无效注册码过多。"
            )

    def count(self, address: str) -> None:
        now = self._monotonic()
        since, count = self._known.pop(address, (now, 0))
        self._known[address] = (now, 1) if now >= since + _WRONG_CODES_WITHIN else (since, count + 1)
        if len(self._known) > _ADDRESSES:
            self._known.popitem(last=False)


_Model = TypeVar("_Model", bound=_Body)


async def _read(request: Request, model: type[_Model]) -> _Model:
    _no_query(request)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise PayloadTooLargeError(limit=LARGEST_BODY)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        # Where, not what: the body holds a code.
        where = ".".join(str(each) for each in error.errors(include_url=False, include_input=False)[0]["loc"]) or "body"
        wanted = ", ".join(model.model_fields)
        raise InvalidRequestError(
            "enrolment-form",
            problem=f"The body is a JSON object of texts with {wanted} and nothing else; look at {where[:40]}.",
            problem_zh=f"请求体应为仅含 {wanted} 的 JSON 对象，且均为字符串；请检查 {where[:40]}。",
        ) from error


def _no_query(request: Request) -> None:
    if request.url.query:
        raise InvalidRequestError(
            "query-parameter", problem="This address takes no query parameters.", problem_zh="该地址不接受查询参数。"
        )


def _file(content: bytes, media: str) -> Response:
    return Response(content, media_type=media, headers={"cache-control": "no-store"})


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _content(media: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media: {"schema": {"type": "string"}}}}}


def _takes(model: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}
