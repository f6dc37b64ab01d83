"""How a chain is refused: the rule, the certificate, what is wrong and what to do, in English and Chinese. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from exchange import UnauthenticatedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a chain is refused. Safe to show: names from certificates are cleaned of control characters and cut."""

    rule: str
    certificate: str
    """Subject (RFC 4514) and serial number of the certificate concerned; empty if none is."""
    problem: str
    problem_zh: str
    next: str
    next_zh: str


class ChainRefusedError(UnauthenticatedError):
    """A certificate does not lead to a trust anchor, or must not be accepted although it does."""

    next = {"en": "{next_step}", "zh": "{next_step_zh}"}

    def __init__(self, rejection: Rejection) -> None:
        self.rejection = rejection
        super().__init__(
            rejection.rule,
            problem=rejection.problem,
            problem_zh=rejection.problem_zh,
            certificate=rejection.certificate,
            next_step=rejection.next,
            next_step_zh=rejection.next_zh,
        )


class OutOfEffort(Exception):  # noqa: N818  # not an error of its own: it becomes the refusal it carries
    """A validation has spent what it may. It passes every handler on the way out, which look for another path."""

    def __init__(self, refused: ChainRefusedError) -> None:
        self.refused = refused
        super().__init__(str(refused))


_REISSUE = ("Have the CA issue a certificate that keeps to RFC 5280.", "请由 CA 按 RFC 5280 重新签发证书。")
_FRESH_CRL = ("Fetch the CA's newest CRL and load it.", "请获取并加载该 CA 最新的 CRL。")
_FRESH_OCSP = (
    "Ask the CA's OCSP responder again, and check its certificate and clock.",
    "请重新查询该 CA 的 OCSP 服务，并检查其证书和时钟。",
)

RULES: Final[dict[str, tuple[str, str]]] = {
    "certificate-malformed": (
        "Send the certificate as the CA issued it; if it is, have it issued again.",
        "请原样发送 CA 签发的证书；若确系原样，请重新签发。",
    ),
    "certificate-chain": (
        "Send the intermediate CA certificates along, or ask the operator to accept this CA.",
        "请一并发送中间 CA 证书，或请平台运维人员接受该 CA。",
    ),
    "certificate-chain-effort": (
        "Send only the certificates of one path: the leaf and its intermediates.",
        "请只发送一条路径上的证书：终端证书及其中间证书。",
    ),
    "certificate-chain-depth": (
        "Use a certificate with fewer intermediate CAs above it.",
        "请使用上级中间 CA 较少的证书。",
    ),
    "certificate-signature": (
        "Send the issuing CA's own certificate; if you did, the certificate was changed: have it issued again.",
        "请发送真正签发者的 CA 证书；若已发送，则证书已被改动，请重新签发。",
    ),
    "certificate-expired": ("Renew the certificate.", "请更新证书。"),
    "certificate-not-yet-valid": (
        "Use the certificate from its first day on, or correct the clock.",
        "请在证书生效后使用，或校正时钟。",
    ),
    "certificate-critical-extension": (
        "Have the CA issue a certificate without this critical extension.",
        "请由 CA 签发不含该关键扩展项的证书。",
    ),
    "certificate-form": _REISSUE,
    "certificate-issuer-not-ca": (
        "Have the certificate issued by a CA whose certificate permits it to sign certificates.",
        "请由证书中允许签发证书的 CA 重新签发。",
    ),
    "certificate-path-length": (
        "Ask the upper CA to permit this sub-CA, or use a certificate of a CA that it does permit.",
        "请上级 CA 允许该下级 CA，或使用其所允许的 CA 签发的证书。",
    ),
    "certificate-name-constraints": (
        "Use a certificate whose names lie within what its CA may issue for.",
        "请使用名称在 CA 签发范围之内的证书。",
    ),
    "certificate-constraint-unsupported": (
        "Have the CA express its limits by DNS name, e-mail, IP address, URI or directory name.",
        "请由 CA 以 DNS 名称、电子邮件、IP 地址、URI 或目录名表达限制。",
    ),
    "certificate-policies": (
        "Use a certificate issued under a certificate policy that its CAs require.",
        "请使用符合上级 CA 所要求证书策略的证书。",
    ),
    "certificate-key": (
        "Use RSA of 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519.",
        "请使用 2048 至 8192 位 RSA、P-256、P-384、P-521 或 Ed25519 密钥。",
    ),
    "certificate-algorithm": (
        "Have it signed again with SHA-256 or stronger.",
        "请使用 SHA-256 或更强的算法重新签名。",
    ),
    "certificate-purpose": (
        "Use an end-entity certificate with extended key usage clientAuth and key usage digitalSignature.",
        "请使用扩展密钥用法含 clientAuth、密钥用法含 digitalSignature 的终端证书。",
    ),
    "certificate-revoked": (
        "Stop using this certificate and its key; ask the CA why, and enrol anew.",
        "请停止使用该证书及其私钥，向 CA 查明原因后重新申请。",
    ),
    "crl-missing": (
        "Load a current CRL of the CA that issued this certificate.",
        "请加载签发该证书的 CA 的有效 CRL。",
    ),
    "crl-malformed": _FRESH_CRL,
    "crl-form": ("Have the CA issue a CRL that keeps to RFC 5280 section 5.", "请由 CA 按 RFC 5280 第 5 节签发 CRL。"),
    "crl-scope": (
        "Load the CRL that covers this certificate: all reasons, and the distribution point it names.",
        "请加载覆盖该证书的 CRL：包含全部原因，且与证书所列分发点一致。",
    ),
    "crl-signature": (
        "Fetch the CRL from the CA itself; if its CRLs have a key of their own, send that certificate along.",
        "请直接从 CA 获取 CRL；若 CRL 使用单独的密钥签名，请一并提供其证书。",
    ),
    "crl-stale": _FRESH_CRL,
    "crl-not-yet-valid": (
        "Check the clocks of this machine and of the CA.",
        "请检查本机与 CA 的时钟。",
    ),
    "ocsp-missing": (
        "Get an OCSP answer for this certificate, or load a CRL of its CA.",
        "请获取该证书的 OCSP 应答，或加载其 CA 的 CRL。",
    ),
    "ocsp-malformed": _FRESH_OCSP,
    "ocsp-mismatch": (
        "Ask about this certificate and with this CA's certificate: the answer is about another.",
        "应答针对的是另一证书；请以该证书及其 CA 证书重新查询。",
    ),
    "ocsp-responder": (
        "Have the CA issue its responder a certificate with extended key usage OCSPSigning, directly.",
        "请由该 CA 直接为 OCSP 服务签发扩展密钥用法为 OCSPSigning 的证书。",
    ),
    "ocsp-signature": _FRESH_OCSP,
    "ocsp-stale": _FRESH_OCSP,
    "ocsp-not-yet-valid": (
        "Check the clocks of this machine and of the responder.",
        "请检查本机与 OCSP 服务的时钟。",
    ),
    "ocsp-nonce": _FRESH_OCSP,
    "ocsp-unknown": (
        "Ask the CA why its responder does not know the certificate.",
        "请向 CA 查明其 OCSP 服务为何不认识该证书。",
    ),
}
"""Every rule by which a chain is refused, with what to do about it (English, Chinese)."""


def refusal(rule: str, certificate: str, problem: str, problem_zh: str) -> ChainRefusedError:
    """The error to raise. `rule` is one of `RULES`."""
    what_next, what_next_zh = RULES[rule]
    return ChainRefusedError(
        Rejection(
            rule=rule,
            certificate=certificate,
            problem=problem,
            problem_zh=problem_zh,
            next=what_next,
            next_zh=what_next_zh,
        )
    )


def printable(text: str, limit: int = 200) -> str:
    """Text from a certificate as it may be shown: no control characters, no endless names."""
    clean = "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "…"
