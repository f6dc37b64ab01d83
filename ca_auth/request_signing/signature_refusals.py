"""What a caller is told whose request signature is refused: the rule, what is wrong, what to do. Pure."""

from __future__ import annotations

from typing import NoReturn

from exchange import SIGNATURE_ALGORITHMS, InvalidRequestError, SignatureMismatchError, UnauthenticatedError


class RequestSignatureError(UnauthenticatedError):
    """The request is not proven to be what the caller's key signed."""

    title = {"en": "The request is not signed as it must be", "zh": "请求签名不符合要求"}
    next = {"en": "{remedy}", "zh": "{remedy_zh}"}


def missing() -> RequestSignatureError:
    """The grant demands a signature, and there is none."""
    return RequestSignatureError(
        "signature-missing",
        problem="The request must be signed, and has no Signature-Input or no Signature.",
        problem_zh="该请求必须签名，但缺少 Signature-Input 或 Signature。",
        remedy='Sign it with the key of your certificate (RFC 9421, tag="datong"): datong call --sign, or see '
        "docs/signed-requests.md.",
        remedy_zh='请用证书私钥签名（RFC 9421，tag="datong"）：datong call --sign，或参见 docs/signed-requests.md。',
    )


def of_person() -> RequestSignatureError:
    """A natural person's certificate holds their number: it cannot go to the department with the signature."""
    return bad_key(
        "The certificate is a natural person's: it holds their number, which does not leave this gateway, so that it proves "
        "nothing to others.",
        "该证书属于自然人，含有本人号码且不离开本网关，因此不能向他方证明请求签名。",
    )


def mismatch(algorithm: str, base: bytes, error: SignatureMismatchError) -> RequestSignatureError:
    """The signature is not the key's over the base that this gateway saw."""
    return RequestSignatureError(
        "signature-verify",
        problem=f"The signature does not verify with the key of the certificate ({algorithm}): {error}.",
        problem_zh=f"用证书公钥（{algorithm}）验证请求签名未通过。",
        remedy="Sign the base of RFC 9421 section 2.5 with the certificate's own key, and change nothing afterwards. "
        f"This gateway saw: {_shown(base)}",
        remedy_zh="请用证书对应的私钥对 RFC 9421 第 2.5 节的签名基串签名，签名后不要再改动请求。"
        f"网关看到的签名基串：{_shown(base)}",
    )


def nonce_used() -> RequestSignatureError:
    """The refusal of a nonce that was used before."""
    return bad_nonce("The nonce was used before.", "该 nonce 已经使用过。")


def refuse_form(what: str, what_zh: str) -> NoReturn:
    raise InvalidRequestError("signature-form", problem=f"{what}.", problem_zh=f"{what_zh}。")


def refuse_coverage(component: str, what: str) -> NoReturn:
    raise RequestSignatureError(
        "signature-coverage",
        problem=f"The signature does not vouch for this request: {what}.",
        problem_zh=f"签名未能覆盖该请求，有问题的签名组件：{component}。",
        remedy="Send Datong-Purpose. Cover, each once: @method, @authority, @path, @query if there is a query, every header "
        "you send but Accept*, Date, Datong-Subject, Forwarded, Host, traceparent, User-Agent and the like, content-digest if "
        "there is a body.",
        remedy_zh="请发送 Datong-Purpose。请覆盖（各一次）：@method、@authority、@path，有查询串时 @query，所发送的全部请求头（"
        "Accept*、Date、Datong-Subject、Forwarded、Host、traceparent、User-Agent 等除外），有请求体时 content-digest。",
    )


def bad_key(problem: str, problem_zh: str) -> RequestSignatureError:
    return RequestSignatureError(
        "signature-key",
        problem=problem,
        problem_zh=problem_zh,
        remedy="Sign with the key of the certificate you connect with; keyid is its SHA-256 fingerprint in lower-case hex, "
        f"without colons. Algorithms: {', '.join(SIGNATURE_ALGORITHMS)}.",
        remedy_zh="请用连接所用证书的私钥签名；keyid 为证书 SHA-256 指纹的小写十六进制，不含冒号。"
        f"支持的算法：{'、'.join(SIGNATURE_ALGORITHMS)}。",
    )


def bad_time(problem: str, problem_zh: str) -> RequestSignatureError:
    return RequestSignatureError(
        "signature-time",
        problem=problem,
        problem_zh=problem_zh,
        remedy="Set the clock (NTP), and sign each request just before it is sent: created is Unix time in seconds.",
        remedy_zh="请校准时钟（NTP），并在发送前即时签名：created 为 Unix 秒。",
    )


def bad_nonce(problem: str, problem_zh: str) -> RequestSignatureError:
    return RequestSignatureError(
        "signature-nonce",
        problem=problem,
        problem_zh=problem_zh,
        remedy="Draw a new random nonce for every request, repeated ones included: openssl rand -hex 16.",
        remedy_zh="每次请求（包括重试）都要重新生成随机 nonce：openssl rand -hex 16。",
    )


def _shown(base: bytes) -> str:
    """The base on one line, as in a string of Python or JSON; what the caller sent comes back to the caller only."""
    return repr(base.decode("ascii"))[:2000]
