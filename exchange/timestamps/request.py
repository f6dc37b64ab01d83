"""What is sent to a time-stamping authority and what comes back (RFC 3161 sections 2.4.1, 2.4.2 and 3.4). Pure."""

from __future__ import annotations

import hashlib
from typing import Final

from exchange.timestamps import der
from exchange.timestamps.algorithms import DIGESTS
from exchange.timestamps.der import DerError, Reader, expect
from exchange.timestamps.stamp import StampError

REQUEST_TYPE: Final = "application/timestamp-query"
RESPONSE_TYPE: Final = "application/timestamp-reply"

_VERSION: Final = 1
_TRUE: Final = der.write(der.BOOLEAN, b"\xff")
_NULL: Final = der.write(der.NULL)
_STATUS: Final = {
    2: ("rejection", "拒绝"),
    3: ("waiting", "等待处理"),
    4: ("a revocation is imminent", "证书即将被吊销"),
    5: ("a revocation has occurred", "证书已被吊销"),
}
_GRANTED: Final = (0, 1)
_FAILURES: Final = {
    0: "badAlg",
    2: "badRequest",
    5: "badDataFormat",
    14: "timeNotAvailable",
    15: "unacceptedPolicy",
    16: "unacceptedExtension",
    17: "addInfoNotAvailable",
    25: "systemFailure",
}
"""Bits of PKIFailureInfo."""
_LONGEST_TEXT: Final = 200


def time_stamp_request(text: bytes, *, nonce: int, digest: str = "sha256", policy: str = "") -> bytes:
    """TimeStampReq in DER; it asks for the authority's certificate, too.

    Args:
        text: What is to be stamped; only its digest is sent.
        nonce: Not negative; a fresh random one tells the answer from earlier ones.
        digest: sha256, sha384 or sha512.
        policy: Object identifier of the policy that is asked for; empty: the authority's own.

    Raises:
        DerError: The policy is no object identifier.
    """
    identifier = next(identifier for identifier, name in DIGESTS.items() if name == digest)
    algorithm = der.write(der.SEQUENCE, der.write_identifier(identifier), _NULL)
    imprint = der.write(der.SEQUENCE, algorithm, der.write(der.OCTET_STRING, hashlib.new(digest, text).digest()))
    asked = der.write_identifier(policy) if policy else b""
    return der.write(der.SEQUENCE, der.write_integer(_VERSION), imprint, asked, der.write_integer(nonce), _TRUE)


def read_response(response: bytes) -> bytes:
    """The token in a TimeStampResp (DER). It is not looked into: `check_token` does.

    Raises:
        StampError: It is no such response, or the authority refused; the message tells its reason.
    """
    try:
        outer = Reader(response)
        inside = outer.inside(der.SEQUENCE)
        outer.end()
        status = inside.inside(der.SEQUENCE)
        number = status.integer()
        texts = _texts(status.inside(der.SEQUENCE)) if status.next_is(der.SEQUENCE) else []
        failures = _failures(status.value(der.BIT_STRING)) if status.next_is(der.BIT_STRING) else []
        status.end()
        if number not in _GRANTED:
            said = ": ".join([", ".join(failures), *texts][not failures :])
            en, zh = _STATUS.get(number, (f"status {number}", f"状态 {number}"))
            raise StampError(
                f"the authority refused ({en}){': ' if said else ''}{said}",
                f"时间戳机构拒绝了请求（{zh}）{'：' if said else ''}{said}",
            )
        token = inside.whole(der.SEQUENCE)
        inside.end()
    except DerError as error:
        raise StampError(f"not a time-stamp response: {error}", f"不是时间戳应答：{error}") from error
    return token


def _texts(reader: Reader) -> list[str]:
    """PKIFreeText, as it can be shown."""
    found = []
    while reader.more:
        text = reader.value(der.UTF8_STRING).decode("utf-8", "replace")[:_LONGEST_TEXT]
        found.append("".join(each if each.isprintable() else "?" for each in text))
    return found


def _failures(content: bytes) -> list[str]:
    expect(bool(content) and content[0] < 8, "not a bit string")
    bits = "".join(f"{octet:08b}" for octet in content[1:5])
    return [_FAILURES.get(place, f"failure {place}") for place, bit in enumerate(bits) if bit == "1"]
