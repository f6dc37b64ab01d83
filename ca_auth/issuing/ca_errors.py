"""What an issuing CA refuses, in the words its callers and its operator read."""

from __future__ import annotations

from typing import Any

from exchange import Language, MeshError, TooManyRequestsError, UnavailableError, UnprocessableError


class EnrolmentRefusedError(MeshError):
    """A code or a present certificate does not entitle its holder to a certificate."""

    status, code, rule_name = 403, "enrolment-refused", "enrolment-code"
    xroad_code = "server.clientproxy.ssl_authentication_failed"
    title = {"en": "No certificate is issued for this", "zh": "不予签发证书"}
    detail = {"en": "{problem}", "zh": "{problem_zh}"}
    next = {
        "en": "Ask the operator of the CA for a new enrolment code.",
        "zh": "请向 CA 运维人员申请新的注册码。",
    }

    def __init__(self, rule: str | None = None, *, problem: str, problem_zh: str, **facts: Any) -> None:
        super().__init__(rule, problem=problem, problem_zh=problem_zh, **facts)


class EnrolmentRateError(TooManyRequestsError):
    """Too many attempts from one address, or too many renewals of one certificate."""

    rule_name = "enrolment-rate"
    detail = {"en": "{problem}", "zh": "{problem_zh}"}
    next = {"en": "Wait, then try again.", "zh": "请稍后重试。"}
    retry_after: int | None = 60

    def __init__(self, rule: str | None = None, *, problem: str, problem_zh: str, **facts: Any) -> None:
        super().__init__(rule, problem=problem, problem_zh=problem_zh, **facts)


class SigningKeyError(UnavailableError):
    """The CA's key cannot sign now: the token is gone, its PIN is refused."""

    rule_name = "ca-key"
    detail = {"en": "The CA cannot sign now.", "zh": "CA 当前无法签名。"}


class CaOperationError(UnprocessableError):
    """What the operator of a CA asks for cannot be done; the text says why and what to do instead."""

    rule_name = "ca-operation"
    title = {"en": "The CA cannot do this", "zh": "CA 无法执行该操作"}
    next = {"en": "Correct what the text names and repeat the command.", "zh": "请按提示修正后重新执行命令。"}


class EnrolmentError(Exception):
    """No certificate; the texts say why and what to do."""

    def __init__(self, rule: str, en: str, zh: str) -> None:
        super().__init__(en)
        self.rule = rule
        self.texts: dict[Language, str] = {"en": en, "zh": zh}
