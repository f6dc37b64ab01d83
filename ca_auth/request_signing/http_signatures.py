"""Signed requests (RFC 9421): the caller's own key vouches for the question, so that no operator can forge one.

Rules:
1. Ours is the signature with the tag `datong`; without one, the only signature if it has no tag. Others may stand beside.
2. It covers `@method`, `@authority` (so that it counts at one gateway only), `@path`, `@query` if there is a query,
   `x-road-client`, every other header that goes on to the department but for a few that cannot change what is asked
   (`exchange.signatures.signed_questions`), and `content-digest` if there is a body. It does not cover `datong-subject`,
   which would then be kept as it was sent.
3. A covered header stands in the request once: of two, another reader might take the other one.
4. `created` is at most 60 s away from now, either way; `expires`, if given, is not over.
5. `nonce` has 16 to 64 visible characters. That it is used once is for `ca_auth.request_signing.nonces` to see to, after this.
6. `keyid` is the SHA-256 fingerprint of the certificate that the caller is known by. The key decides the algorithm;
   `alg`, if given, must agree (`exchange.signatures.signature_algorithms`).
7. Content-Digest matches the body.
8. What is refused is refused with the rule and what to do: 400 for what cannot be read, 401 for what does not prove.

Not checked here: that the certificate is good (`ca_auth.authenticator`), and that it may speak for X-Road-Client.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import http_sf
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from ca_auth.edge.client_cert import fingerprint_of
from ca_auth.edge.client_cert_header import speaks_of_certificates
from ca_auth.request_signing.signature_refusals import (
    bad_key,
    bad_nonce,
    bad_time,
    mismatch,
    missing,
    refuse_coverage,
    refuse_form,
)
from exchange import (
    Body,
    RequestParts,
    SignatureBaseError,
    SignatureMismatchError,
    SignatureParameters,
    UnsuitableKeyError,
    VerifyingKey,
    algorithm_of,
    check_content_digest,
    evidence_bytes,
    fields_of,
    needs_covering,
    read_parameters,
    request_signature_base,
    verify_message,
)

TAG: Final = "datong"
WINDOW_SECONDS: Final = 60
"""How far `created` may be from now."""
MAX_FIELD: Final = 4096
MAX_SIGNATURES: Final = 4
ALWAYS_COVERED: Final = ("@method", "@authority", "@path")
SUBJECT: Final = "datong-subject"
"""Kept as a keyed hash only, so never in a base, which is kept."""

_OUR_TAG: Final = b'tag="%b"' % TAG.encode()
_NONCE: Final = re.compile(r"[!#-\[\]-~]{16,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerKey:
    """What verifies a caller's signatures, made once per certificate."""

    keyid: str
    """Lower-case hex SHA-256 of the certificate."""
    algorithm: str
    key: VerifyingKey

    @classmethod
    def of(cls, der: bytes) -> CallerKey:
        """The key of a certificate; the last 4096 are remembered.

        Raises:
            RequestSignatureError: Rule `signature-key`: it is of a kind that signs no requests.
        """
        return _caller_key(der)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSignature:
    """A signature that verified."""

    base: bytes
    signature: bytes
    alg: str
    keyid: str
    created: int
    """Unix seconds."""
    nonce: str
    label: str

    @property
    def evidence(self) -> bytes:
        """For the adapter, and beside the record: see `exchange.signatures.recorded_signatures`."""
        return evidence_bytes(self.base, self.signature)


def verify_request(
    *,
    method: str,
    path: bytes,
    query: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    body: Body,
    caller: CallerKey,
    now: float,
    authority: bytes | None = None,
    also_covered: Sequence[str] = (),
) -> RequestSignature:
    """Return the caller's signature of this request, verified. The nonce is not yet spent.

    Args:
        path: Raw, as in the request line.
        query: Raw, without `?`.
        headers: As received, all of them, names in lower case.
        body: As received, before any Content-Encoding is undone.
        caller: Of the certificate the caller is known by.
        now: Unix seconds.
        authority: What the caller addressed; default: the Host header.
        also_covered: Components that must be covered although rule 2 does not demand it of this request, such as
            `datong-purpose` when the purpose would otherwise be taken from the grant.

    Raises:
        RequestSignatureError: Rule `signature-missing`, `-coverage`, `-time`, `-nonce`, `-key` or `-verify`.
        InvalidRequestError: Rule `signature-form` or `content-digest`.
    """
    fields = fields_of(headers)
    label, parameters, signature = _ours(fields)
    _check_key(parameters.values, caller)
    created = _check_time(parameters.values, now)
    nonce = _check_nonce(parameters.values)
    required = required_components(fields, has_query=bool(query), has_body=bool(body))
    _check_coverage(parameters, fields, (*required, *also_covered))
    if authority is None:
        hosts = fields.get(b"host", ())
        if len(hosts) != 1:
            refuse_coverage("@authority", f"{len(hosts)} Host headers instead of one")
        authority = hosts[0]
    parts = RequestParts(method=method, authority=authority, path=path, query=query, fields=fields)
    try:
        base = request_signature_base(parts, parameters)
    except SignatureBaseError as error:
        refuse_coverage(error.component, str(error))
    try:
        verify_message(caller.key, signature, base)
    except SignatureMismatchError as error:
        raise mismatch(caller.algorithm, base, error) from error
    if b"content-digest" in fields:
        check_content_digest(fields[b"content-digest"], body)
    return RequestSignature(
        base=base,
        signature=signature,
        alg=caller.algorithm,
        keyid=caller.keyid,
        created=created,
        nonce=nonce,
        label=label,
    )


def carries_our_signature(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a request that need not be signed seems to be, so that it is worth verifying; names in lower case."""
    return any(name == b"signature-input" and _OUR_TAG in value for name, value in headers)


def _ours(fields: Mapping[bytes, Sequence[bytes]]) -> tuple[str, SignatureParameters, bytes]:
    """Label, parameters and bytes of our signature among those of the request."""
    if b"signature-input" not in fields or b"signature" not in fields:
        raise missing()
    inputs = _dictionary("Signature-Input", fields[b"signature-input"])
    signatures = _dictionary("Signature", fields[b"signature"])
    label = _label(inputs)
    try:
        parameters = read_parameters(inputs[label])
    except SignatureBaseError as error:
        if error.component:
            refuse_coverage(error.component, str(error))
        refuse_form(f"Signature-Input is not of our form: {error}", f"Signature-Input 不符合要求：{error}")
    found = signatures.get(label)
    value = found[0] if isinstance(found, tuple) else found
    if not isinstance(value, bytes):
        refuse_form(f"Signature has no byte sequence {label}=:BASE64:", f"Signature 中没有字节序列 {label}=:BASE64:")
    return label, parameters, value


def _dictionary(name: str, lines: Sequence[bytes]) -> dict[str, Any]:
    field = b", ".join(lines)
    if len(field) > MAX_FIELD:
        refuse_form(f"{name} is longer than {MAX_FIELD} bytes", f"{name} 超过 {MAX_FIELD} 字节")
    try:
        parsed = http_sf.parse(field, tltype="dictionary", on_duplicate_key=_twice)
    except ValueError as error:  # StructuredFieldError is one
        said = str(error)[:200]
        refuse_form(f"{name} cannot be read: {said}", f"{name} 无法解析：{said}")
    if not isinstance(parsed, dict) or not 0 < len(parsed) <= MAX_SIGNATURES:
        refuse_form(f"{name} holds 1 to {MAX_SIGNATURES} signatures", f"{name} 中应有 1 至 {MAX_SIGNATURES} 个签名")
    return parsed


def _label(inputs: Mapping[str, Any]) -> str:
    tags = {label: member[1].get("tag") if isinstance(member, tuple) else None for label, member in inputs.items()}
    tagged = [label for label, tag in tags.items() if tag == TAG]
    if len(tagged) == 1:
        return tagged[0]
    if not tagged and list(tags.values()) == [None]:
        return next(iter(tags))
    refuse_form(
        f'Signature-Input must hold one signature with the parameter tag="{TAG}"',
        f'Signature-Input 中应有且仅有一个带参数 tag="{TAG}" 的签名',
    )


def _check_key(values: Mapping[str, int | str], caller: CallerKey) -> None:
    keyid, alg = values.get("keyid"), values.get("alg", caller.algorithm)
    if keyid != caller.keyid:
        raise bad_key(
            f"The parameter keyid is not the fingerprint of the certificate of this connection, {caller.keyid}.",
            f"参数 keyid 不是本连接证书的指纹 {caller.keyid}。",
        )
    if alg != caller.algorithm:
        raise bad_key(
            f"The parameter alg is not {caller.algorithm}, the algorithm of this certificate's key.",
            f"参数 alg 不是该证书密钥所用的算法 {caller.algorithm}。",
        )


def _check_time(values: Mapping[str, int | str], now: float) -> int:
    created, expires = values.get("created"), values.get("expires")
    if not isinstance(created, int):
        raise bad_time("The parameter created is missing.", "缺少参数 created。")
    if abs(now - created) > WINDOW_SECONDS:
        raise bad_time(
            f"The signature was made {now - created:.0f} s before now by this gateway's clock; the limit is "
            f"{WINDOW_SECONDS} s either way.",
            f"按网关时钟，签名时间与当前相差 {now - created:.0f} 秒；允许的偏差为前后 {WINDOW_SECONDS} 秒。",
        )
    if isinstance(expires, int) and (now > expires or expires < created):
        raise bad_time("The signature has expired.", "签名已过期。")
    return created


def _check_nonce(values: Mapping[str, int | str]) -> str:
    nonce = values.get("nonce")
    if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise bad_nonce(
            "The parameter nonce must have 16 to 64 visible ASCII characters.",
            "参数 nonce 必须为 16 至 64 个可见 ASCII 字符。",
        )
    return nonce


def _check_coverage(
    parameters: SignatureParameters, fields: Mapping[bytes, Sequence[bytes]], required: Sequence[str]
) -> None:
    covered = {component.name for component in parameters.components}
    for name in required:
        if name not in covered:
            refuse_coverage(name, f"{name} is not covered")
    if SUBJECT in covered:
        refuse_coverage(SUBJECT, f"{SUBJECT} is covered, and signatures are kept")
    for name in covered:
        if len(fields.get(name.encode(), ())) > 1:
            refuse_coverage(name, f"{name} is covered and stands in the request more than once")


def required_components(fields: Mapping[bytes, Sequence[bytes]], *, has_query: bool, has_body: bool) -> tuple[str, ...]:
    """The components that a signature of such a request must cover, each once.

    Args:
        fields: Header names in lower case -> values.
    """
    others = [name.decode("latin-1") for name in fields if needs_covering(name) and not speaks_of_certificates(name)]
    names = ("x-road-client", *others, *(("content-digest",) if has_body else ()))
    return (*ALWAYS_COVERED, *(("@query",) if has_query else ()), *dict.fromkeys(names))


@functools.lru_cache(4096)
def _caller_key(der: bytes) -> CallerKey:
    try:
        key = x509.load_der_x509_certificate(der).public_key()
        algorithm = algorithm_of(key)
    except (UnsuitableKeyError, UnsupportedAlgorithm, ValueError) as error:
        raise bad_key(
            f"The certificate's key signs no requests: {error}.", "该证书的密钥类型不能用于请求签名。"
        ) from error
    return CallerKey(keyid=fingerprint_of(der), algorithm=algorithm, key=key)  # type: ignore[arg-type]  # it has one


def _twice(key: str, _context: str) -> None:
    raise ValueError(f"{key} stands there twice")
