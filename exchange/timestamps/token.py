"""RFC 3161 time-stamp tokens: what an authority says existed when, checked with nothing but `cryptography`. Pure.

Rules:
1. A token is a CMS SignedData (`exchange.timestamps.signed_data`) over one TSTInfo (RFC 3161 section 2.4.2).
2. The signer's certificate is for time stamping and for nothing else, critically (RFC 3161 section 2.3), and led to an anchor
   at the moment the token tells. The anchors are the reader's; the certificates in a token only help to build the path.
3. Whether the authority's certificate was revoked is not looked up: that needs a network. Who no longer believes an authority
   takes its anchor away. The `tsa` name in the token is a hint and is not compared.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import warnings
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from exchange.receipts.certificate_path import UNREADABLE
from exchange.timestamps import der
from exchange.timestamps.algorithms import Algorithm, digest_size
from exchange.timestamps.der import DerError, Reader, expect
from exchange.timestamps.signed_data import SignedData
from exchange.timestamps.stamp import Stamp, StampError

__all__ = ["MOST_BYTES", "Stamp", "StampError", "check_token", "read_token"]

MOST_BYTES: Final = 65536
"""Of a token. One with three RSA-4096 certificates has about 6000."""

_MOST_NUMBER: Final = 64
"""Bytes of a serial number or nonce; RFC 3161 expects 20."""
_MAX_DEPTH: Final = 8
_TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
_GENERALIZED_TIME: Final = re.compile(rb"([0-9]{14})(?:\.([0-9]{0,15}[1-9]))?Z")


def read_token(token: bytes, text: bytes | None = None) -> Stamp:
    """What a token (DER) says, and, if a text is given, says of that text. Neither signature nor signer is verified.

    Raises:
        StampError: It is not a time-stamp token, or not over the text.
    """
    return _read(token, text)[1]


def check_token(
    token: bytes,
    text: bytes,
    anchors: Sequence[x509.Certificate],
    *,
    at: datetime | None = None,
    nonce: int | None = None,
    policies: Collection[str] = (),
) -> Stamp:
    """What a token says, if an authority under one of the anchors has signed that `text` existed at that time.

    Args:
        token: DER, at most `MOST_BYTES`.
        text: What was stamped: for a checkpoint the text of its note, without signatures, in UTF-8.
        anchors: CA certificates of the authorities that the reader believes.
        at: Aware; when the signer's certificate must have led to an anchor. Default: at the moment the token tells, so
            that a token outlives the certificate.
        nonce: What the request held, if this is its answer.
        policies: The policies that are accepted; empty: any.

    Raises:
        StampError: It is no such token; the message says what is wrong.
    """
    signed, stamp = _read(token, text)
    if nonce is not None and stamp.nonce != nonce:
        raise StampError("the token does not hold the nonce of the request", "该时间戳令牌不含请求中的随机数")
    if policies and stamp.policy not in policies:
        raise StampError(
            f"the token was made under the policy {stamp.policy}, which is not accepted",
            f"该时间戳令牌依据的策略 {stamp.policy} 不被接受",
        )
    with warnings.catch_warnings():
        # Certificates with odd serial numbers or parameters: whether they count is decided here, not by a warning.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        signer, others = signed.check(_TST_INFO)
        _check_purpose(signer)
        _check_path(signer, others, anchors, at or stamp.gen_time)
    return stamp


def _read(token: bytes, text: bytes | None) -> tuple[SignedData, Stamp]:
    if len(token) > MOST_BYTES:
        raise StampError("the token is too long", "时间戳令牌过长")
    try:
        signed = SignedData.read(token, _TST_INFO)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # as above
            named = signed.named()
        stamp = _stamp(signed.content, named.subject.rfc4514_string() if named else "")
    except DerError as error:
        raise StampError(f"not a time-stamp token: {error}", f"不是时间戳令牌：{error}") from error
    if text is not None and not hmac.compare_digest(hashlib.new(stamp.algorithm, text).digest(), stamp.imprint):
        raise StampError("the token is not over this text", "该时间戳令牌不是针对此文本的")
    return signed, stamp


def _stamp(content: bytes, authority: str) -> Stamp:
    """Read TSTInfo, RFC 3161 section 2.4.2."""
    outer = Reader(content)
    info = outer.inside(der.SEQUENCE)
    outer.end()
    expect(info.integer() == 1, "another version of TSTInfo")
    policy = info.identifier()
    imprint = info.inside(der.SEQUENCE)
    algorithm, digest = Algorithm.read(imprint).digest, imprint.value(der.OCTET_STRING)
    imprint.end()
    expect(len(digest) == digest_size(algorithm), "an imprint of another length than its algorithm's")
    serial = _number(info)
    gen_time = _time(info.value(der.GENERALIZED_TIME))
    accuracy = _accuracy(info.inside(der.SEQUENCE)) if info.next_is(der.SEQUENCE) else None
    if info.next_is(
        der.BOOLEAN
    ):  # whether the authority's stamps are in order of time; the default is sometimes written
        expect(info.value(der.BOOLEAN) in (b"\x00", b"\xff"), "not a truth value")
    nonce = _number(info) if info.next_is(der.INTEGER) else None
    if info.next_is(der.context(0)):
        info.value(der.context(0))
    if info.next_is(der.context(1)):
        _check_extensions(info.inside(der.context(1)))
    info.end()
    return Stamp(
        gen_time=gen_time,
        accuracy=accuracy,
        serial=serial,
        policy=policy,
        algorithm=algorithm,
        imprint=digest,
        nonce=nonce,
        authority=authority,
    )


def _number(reader: Reader) -> int:
    content = reader.value(der.INTEGER)
    number = der.integer(content)
    expect(len(content) <= _MOST_NUMBER, "a number that is too long")
    return number


def _time(content: bytes) -> datetime:
    found = _GENERALIZED_TIME.fullmatch(content)
    if not found:
        raise DerError("not a time in UTC with seconds")
    try:
        moment = datetime.strptime(found[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise DerError("not a time") from error
    return moment.replace(microsecond=int((found[2] or b"")[:6].ljust(6, b"0")))


def _accuracy(reader: Reader) -> timedelta:
    tags = der.context(0, constructed=False), der.context(1, constructed=False)
    seconds = _number(reader) if reader.next_is(der.INTEGER) else 0
    millis, micros = (der.integer(reader.value(tag)) if reader.next_is(tag) else 0 for tag in tags)
    reader.end()
    expect(0 <= seconds < 1 << 31 and 0 <= millis < 1000 and 0 <= micros < 1000, "not an accuracy")
    return timedelta(seconds=seconds, milliseconds=millis, microseconds=micros)


def _check_extensions(reader: Reader) -> None:
    """None of TSTInfo's extensions is known here: those that must be understood refuse the token."""
    for each in reader.all(der.SEQUENCE):
        extension = Reader(each).inside(der.SEQUENCE)
        identifier = extension.identifier()
        critical = extension.next_is(der.BOOLEAN) and extension.value(der.BOOLEAN) != b"\x00"
        extension.value(der.OCTET_STRING)
        extension.end()
        expect(not critical, f"the critical extension {identifier}")


def _check_purpose(signer: x509.Certificate) -> None:
    """RFC 3161 section 2.3: for time stamping only, and critically so."""
    try:
        extensions = signer.extensions
        purpose = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        alone = purpose.critical and list(purpose.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
        usages = [each.value for each in extensions if isinstance(each.value, x509.KeyUsage)]
        signs = all(usage.digital_signature or usage.content_commitment for usage in usages)
    except x509.ExtensionNotFound:
        alone = signs = False
    except (ValueError, *UNREADABLE) as error:
        raise StampError("the signer's certificate cannot be read", "签发者的证书无法读取") from error
    if not alone or not signs:
        raise StampError(
            "the signer's certificate is not one for time stamping alone (critical extended key usage)",
            "签发者的证书并非仅用于时间戳（关键扩展密钥用途）",
        )


def _check_path(
    signer: x509.Certificate, others: list[x509.Certificate], anchors: Sequence[x509.Certificate], at: datetime
) -> None:
    """The path to an anchor as it was at a moment; the library builds it and knows RFC 5280."""
    if not signer.not_valid_before_utc <= at <= signer.not_valid_after_utc:
        raise StampError(
            f"the authority's certificate was not valid at {at.isoformat()}",
            f"时间戳机构的证书在 {at.isoformat()} 无效",
        )
    if not anchors:
        raise StampError("there are no anchors for time stamps", "没有时间戳的信任锚")
    # CAs that are for time stamping only say so, which the rules for web servers' CAs would refuse.
    ca = ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _may_certify_time_stamping
    )
    builder = PolicyBuilder().store(Store(list(anchors))).time(at).max_chain_depth(_MAX_DEPTH)
    builder = builder.extension_policies(ca_policy=ca, ee_policy=ExtensionPolicy.permit_all())
    try:
        builder.build_client_verifier().verify(signer, others)
    except (VerificationError, ValueError, *UNREADABLE) as error:
        raise StampError(f"no path to an anchor for time stamps: {error}", "无法追溯到时间戳的信任锚") from error


def _may_certify_time_stamping(_: object, certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    purposes = {ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if usage is not None and purposes.isdisjoint(usage):
        raise ValueError(f"the CA {certificate.subject.rfc4514_string()} may not certify time stamping")
