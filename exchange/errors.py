"""The one tree of errors a caller can meet.

    MeshError                          500
    ├── InvalidRequestError            400  what was sent cannot be a request
    │   └── InvalidClientError         400  X-Road-Client is missing or malformed
    ├── UnauthenticatedError           401  who is calling is not proven
    ├── AccessDeniedError              403  proven, and not allowed
    │   ├── RoleMissingError           403  the caller's subsystem does not hold the role
    │   └── ClientMismatchError        403  the certificate may not speak for X-Road-Client
    ├── NotFoundError                  404  no such thing, or not for this caller's eyes
    │   ├── NotRegisteredError         422  what the body refers to
    │   ├── UnknownMemberError         404
    │   └── UnknownServiceError        404
    ├── RequestTimeoutError            408  the request did not arrive in time
    ├── ConflictError                  409  the change contradicts what is registered
    ├── PayloadTooLargeError           413
    ├── UnprocessableError             422  well-formed, and breaks a rule of the contract
    ├── TooManyRequestsError           429  more than this caller may have open
    ├── HeadersTooLargeError           431
    ├── BadAnswerError                 502  what came back from the department cannot be trusted
    ├── QuestionRefusedError           502  the adapter did not accept the gateway's question
    ├── BackendError                   502  the department's own system failed
    ├── ContractBrokenError            502  the department's own system answered otherwise than its contract says
    ├── RequestBeyondContractError     422  the adapter finds that the request is not what the contract says
    ├── UnavailableError               503
    │   ├── AdapterUnavailableError    503  no adapter serves the service now
    │   ├── BusUnavailableError        503  the bus is down
    │   ├── BackendUnavailableError    503  the department's own system keeps failing, and is left alone for a while
    │   ├── ServiceDisabledError       503  the owner closed the service, with a notice
    │   ├── LogUnavailableError        503  the record cannot be made durable, so nothing is released
    │   ├── RegistryStaleError         503  grants cannot be confirmed as current
    │   └── OverloadedError            503  more requests at once than the limit
    └── AnswerTimeoutError             504  no answer before the deadline

`str(error)` is shown to callers: it names nothing internal and says what to do. Every text exists in English and Chinese;
templates are filled from the keyword arguments ("facts") given to the constructor. `rule` names the rule that refused.
The X-Road code follows the vocabulary of X-Road 7.8, so that its clients recognise the error.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Language = Literal["en", "zh"]
Text = dict[Language, str]


class MeshError(Exception):
    """Base of everything that may be told to a caller.

    Args:
        rule: The rule that refused, kebab-case, as `docs/errors.md` lists it; defaults to the class's own.
        pointer: RFC 6901 pointer to the member of the sent body that is wrong, if it is one.
        facts: Values for the templates in `detail` and `next`. They are shown to the caller: never put secrets here.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    rule_name: ClassVar[str] = "internal"
    xroad_code: ClassVar[str] = "server.clientproxy.internal_error"
    source: ClassVar[str] = "gateway"
    title: ClassVar[Text] = {"en": "The mesh failed", "zh": "平台内部错误"}
    detail: ClassVar[Text] = {"en": "The request could not be completed.", "zh": "请求未能完成。"}
    next: ClassVar[Text] = {
        "en": "Report the exchange id to the operator.",
        "zh": "请把交换编号告知平台运维人员。",
    }
    retry_after: int | None = None
    """Seconds, for the Retry-After header of errors that pass by themselves."""
    pointer: str = ""
    """RFC 6901 pointer to the member of the body that is wrong; empty when the error is of no single one."""

    def __init__(self, rule: str | None = None, *, pointer: str = "", **facts: Any) -> None:
        self.rule = rule or self.rule_name
        if pointer:
            self.pointer = pointer
        self.facts: dict[str, Any] = facts
        super().__init__(self.detail_in("en"))

    def detail_in(self, language: Language) -> str:
        """What happened, in one sentence."""
        return _fill(self.detail[language], self.facts)

    def next_in(self, language: Language) -> str:
        """What the caller can do about it."""
        return _fill(self.next[language], self.facts)


class _Missing(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "?"


def _fill(template: str, facts: dict[str, object]) -> str:
    return template.format_map(_Missing(facts))


class InvalidRequestError(MeshError):
    status, code, rule_name = 400, "invalid-request", "request-form"
    xroad_code = "server.clientproxy.invalid_request"
    title = {"en": "Not a valid request", "zh": "请求格式不正确"}
    detail = {"en": "{problem}", "zh": "{problem_zh}"}
    next = {"en": "Correct the request and send it again.", "zh": "请修正后重新发送。"}

    def __init__(self, rule: str | None = None, *, problem: str, problem_zh: str = "", **facts: Any) -> None:
        super().__init__(rule, problem=problem, problem_zh=problem_zh or problem, **facts)


class InvalidClientError(InvalidRequestError):
    code, rule_name = "invalid-client", "client-header"
    xroad_code = "server.clientproxy.invalid_client_identifier"
    title = {"en": "X-Road-Client is missing or malformed", "zh": "缺少 X-Road-Client 或其格式不正确"}
    next = {
        "en": "Send X-Road-Client: instance/class/member/subsystem, each part percent-encoded.",
        "zh": "请发送 X-Road-Client: 实例/类别/成员代码/子系统，各部分分别百分号编码。",
    }


class UnauthenticatedError(MeshError):
    status, code, rule_name = 401, "unauthenticated", "client-certificate"
    xroad_code = "server.clientproxy.ssl_authentication_failed"
    title = {"en": "The caller is not authenticated", "zh": "调用方身份未通过认证"}
    detail = {"en": "{problem}", "zh": "{problem_zh}"}
    next = {
        "en": "Call with a certificate of an accepted CA: curl --cert FILE --key FILE --cacert CA.",
        "zh": "请使用受信任 CA 签发的证书调用：curl --cert 证书 --key 私钥 --cacert 根证书。",
    }

    def __init__(self, rule: str | None = None, *, problem: str, problem_zh: str = "", **facts: Any) -> None:
        super().__init__(rule, problem=problem, problem_zh=problem_zh or problem, **facts)


class AccessDeniedError(MeshError):
    """The caller is known and no grant covers the call. `problem` says which condition failed."""

    status, code, rule_name = 403, "access-denied", "grant"
    xroad_code = "server.serverproxy.access_denied"
    title = {"en": "No grant covers this request", "zh": "没有授权覆盖此请求"}
    detail = {"en": "{problem}", "zh": "{problem_zh}"}
    next = {
        "en": "Ask the owner of the service for a grant that names this subsystem, method, path and purpose.",
        "zh": "请向数据提供部门申请授权，注明子系统、方法、路径和用途。",
    }

    def __init__(self, rule: str | None = None, *, problem: str, problem_zh: str = "", **facts: Any) -> None:
        super().__init__(rule, problem=problem, problem_zh=problem_zh or problem, **facts)


class RoleMissingError(AccessDeniedError):
    code, rule_name = "role-missing", "role"
    title = {"en": "The caller does not hold the role", "zh": "调用方没有所需角色"}
    next = {
        "en": "Call with the certificate of a subsystem that holds the role, or have the operator assign it.",
        "zh": "请使用具有该角色的子系统证书，或请平台运维人员授予角色。",
    }


class ClientMismatchError(AccessDeniedError):
    code, rule_name = "client-mismatch", "client-of-certificate"
    xroad_code = "server.clientproxy.unknown_member"
    title = {"en": "The certificate may not speak for this client", "zh": "证书与 X-Road-Client 不一致"}
    next = {
        "en": "Name a registered subsystem of the certificate's own member in X-Road-Client.",
        "zh": "X-Road-Client 必须是证书所属成员已登记的子系统。",
    }


class NotFoundError(MeshError):
    status, code, rule_name = 404, "not-found", "exists"
    xroad_code = "server.clientproxy.invalid_request"
    title = {"en": "Not found", "zh": "未找到"}
    detail = {"en": "There is no {what} here.", "zh": "此处没有{what_zh}。"}
    next = {"en": "Check the address.", "zh": "请检查地址。"}

    def __init__(self, rule: str | None = None, *, what: str = "resource", what_zh: str = "", **facts: Any) -> None:
        super().__init__(rule, what=what, what_zh=what_zh or f" {what}", **facts)


class NotRegisteredError(NotFoundError):
    """A member of the sent body names something that is not there; `pointer` says which."""

    status, code, rule_name = 422, "not-registered", "registered"
    title = {"en": "The request names what is not registered", "zh": "请求引用了未登记的内容"}
    detail = {"en": "There is no {what}.", "zh": "没有{what_zh}。"}
    next = {"en": "Register it first, or correct the named member.", "zh": "请先登记，或修正所指字段。"}


class UnknownMemberError(NotFoundError):
    code, rule_name = "unknown-member", "provider-registered"
    xroad_code = "server.clientproxy.unknown_member"
    title = {"en": "The provider is not registered", "zh": "提供方未登记"}
    next = {"en": "Check the first four parts of the path.", "zh": "请检查路径的前四段。"}


class UnknownServiceError(NotFoundError):
    code, rule_name = "unknown-service", "service-registered"
    xroad_code = "server.serverproxy.unknown_service"
    title = {"en": "The service is not registered", "zh": "服务未登记"}
    next = {"en": "Check the service code, the fifth part of the path.", "zh": "请检查路径第五段的服务代码。"}


class RequestTimeoutError(MeshError):
    status, code, rule_name = 408, "request-timeout", "body-deadline"
    xroad_code = "server.clientproxy.io_error"
    title = {"en": "The request took too long to arrive", "zh": "请求未在规定时间内到达"}
    detail = {"en": "The request was not complete in time.", "zh": "请求未在规定时间内发送完毕。"}
    next = {"en": "Send the whole request without pauses.", "zh": "请不间断地发送完整请求。"}


class ConflictError(MeshError):
    status, code, rule_name = 409, "conflict", "registered-state"
    title = {"en": "The change contradicts what is registered", "zh": "变更与已登记内容冲突"}
    detail = {"en": "{problem}", "zh": "{problem_zh}"}
    next = {"en": "Read the current state and decide again.", "zh": "请查看当前状态后再操作。"}

    def __init__(self, rule: str | None = None, *, problem: str, problem_zh: str = "", **facts: Any) -> None:
        super().__init__(rule, problem=problem, problem_zh=problem_zh or problem, **facts)


class PayloadTooLargeError(MeshError):
    status, code, rule_name = 413, "payload-too-large", "body-limit"
    xroad_code = "server.clientproxy.io_error"
    title = {"en": "The body is too large", "zh": "请求体过大"}
    detail = {"en": "The body is larger than {limit} bytes.", "zh": "请求体超过 {limit} 字节。"}
    next = {"en": "Split the request, or use a file exchange.", "zh": "请拆分请求，或改用文件交换。"}


class UnprocessableError(MeshError):
    status, code, rule_name = 422, "unprocessable", "contract"
    xroad_code = "server.clientproxy.invalid_request"
    title = {"en": "The request breaks the contract", "zh": "请求不符合约定"}
    detail = {"en": "{problem}", "zh": "{problem_zh}"}
    next = {"en": "Correct the named member and send again.", "zh": "请修正所指字段后重新发送。"}

    def __init__(self, rule: str | None = None, *, problem: str, problem_zh: str = "", **facts: Any) -> None:
        super().__init__(rule, problem=problem, problem_zh=problem_zh or problem, **facts)


class TooManyRequestsError(MeshError):
    status, code, rule_name = 429, "too-many-requests", "connection-limit"
    xroad_code = "server.clientproxy.network_error"
    title = {"en": "Too many requests or connections", "zh": "请求或连接过多"}
    detail = {"en": "This caller has as many open as it may have.", "zh": "该调用方打开的数量已达上限。"}
    next = {"en": "Wait for answers, and use connections again.", "zh": "请等待应答，并复用已有连接。"}
    retry_after: int | None = 5


class HeadersTooLargeError(MeshError):
    status, code, rule_name = 431, "headers-too-large", "header-limit"
    xroad_code = "server.clientproxy.io_error"
    title = {"en": "The request head is too large", "zh": "请求头过大"}
    detail = {
        "en": "The request head is larger than {limit_bytes} bytes or has more than {limit_lines} lines.",
        "zh": "请求头超过 {limit_bytes} 字节或 {limit_lines} 行。",
    }
    next = {"en": "Send fewer or shorter headers.", "zh": "请减少请求头的数量或长度。"}


class BadAnswerError(MeshError):
    status, code, rule_name = 502, "bad-answer", "answer-signature"
    xroad_code = "server.clientproxy.inconsistent_response"
    source = "adapter"
    title = {"en": "The answer cannot be trusted", "zh": "应答无法采信"}
    detail = {"en": "{problem}", "zh": "{problem_zh}"}
    next = {
        "en": "Nothing was released to you. Report the exchange id to the owner of the service.",
        "zh": "未向您返回任何数据。请把交换编号告知数据提供部门。",
    }

    def __init__(self, rule: str | None = None, *, problem: str, problem_zh: str = "", **facts: Any) -> None:
        super().__init__(rule, problem=problem, problem_zh=problem_zh or problem, **facts)


class AnswerBrokenError(BadAnswerError):
    """A streamed answer ended before it was whole, or before it was closed under the department's seal."""

    code, rule_name = "answer-broken", "answer-complete"
    xroad_code = "server.clientproxy.io_error"
    title = {"en": "The answer broke off", "zh": "应答传输中断"}
    next = {
        "en": "What was received is not the answer: throw it away. Ask again if the operation changes nothing.",
        "zh": "已收到的内容不构成应答，请丢弃。操作不产生变更时可重新请求。",
    }


class CallerGoneError(MeshError):
    """The caller did not take the whole of a streamed answer. Nobody is told; it stands on the record."""

    status, code, rule_name = 408, "caller-gone", "caller-stays"
    xroad_code = "server.clientproxy.io_error"
    title = {"en": "The caller did not take the whole answer", "zh": "调用方未接收完整应答"}
    detail = {
        "en": "The caller left, or stopped reading, before the answer was whole.",
        "zh": "调用方在应答传完之前断开或停止接收。",
    }
    next = {"en": "Ask again, and read without pauses.", "zh": "请重新请求，并不间断地接收。"}


class QuestionRefusedError(MeshError):
    status, code, rule_name = 502, "question-refused", "adapter-accepts"
    xroad_code = "server.serverproxy.invalid_request"
    source = "adapter"
    title = {"en": "The department's adapter refused the question", "zh": "部门适配器拒绝了该请求"}
    detail = {
        "en": "The adapter does not accept this gateway's seal, or its clock differs by more than a minute.",
        "zh": "适配器不接受本网关的签名，或双方时钟相差超过一分钟。",
    }
    next = {
        "en": "Report the exchange id to the operator; the reason is in the department's own log.",
        "zh": "请把交换编号告知平台运维人员；原因见该部门日志。",
    }


class BackendError(MeshError):
    status, code, rule_name = 502, "backend-failed", "backend-answers"
    xroad_code = "server.serverproxy.network_error"
    source = "backend"
    title = {"en": "The department's own system failed", "zh": "部门业务系统故障"}
    detail = {
        "en": "The department's adapter answered, its own system did not.",
        "zh": "部门适配器在线，但其业务系统没有应答。",
    }
    next = {
        "en": "Try again later; the details are in the department's own log under this exchange id.",
        "zh": "请稍后重试；详情见该部门日志中的本交换编号。",
    }


class ContractBrokenError(MeshError):
    """The department's adapter holds back an answer. What is wrong with it stands in that department's own log."""

    status, code, rule_name = 502, "contract-broken", "contract-kept"
    xroad_code = "server.serverproxy.service_failed"
    source = "backend"
    title = {"en": "The department's own system broke its contract", "zh": "部门业务系统的应答不符合约定"}
    detail = {
        "en": "The answer is not what the department's contract says, so it was held back. The request itself was carried out.",
        "zh": "应答不符合该部门公布的约定，已被拦截；请求本身已送达业务系统并处理。",
    }
    next = {
        "en": "Report the exchange id to the owner of the service, before you repeat an operation that changes something.",
        "zh": "请把交换编号告知数据提供部门；会产生变更的操作请勿直接重试。",
    }


class RequestBeyondContractError(MeshError):
    """The department's adapter holds a request back. It was not asked for: nothing was done."""

    status, code, rule_name = 422, "contract-refused", "contract-at-department"
    xroad_code = "server.serverproxy.invalid_request"
    source = "adapter"
    title = {"en": "The request is not what the department's contract says", "zh": "请求不符合部门适配器的约定"}
    detail = {
        "en": "The department's adapter did not pass the request on, because it does not keep to the contract there.",
        "zh": "请求不符合部门适配器所执行的约定，未转发至业务系统。",
    }
    next = {
        "en": "Compare the request with the document of the service (getOpenAPI); the department's own log says what is wrong.",
        "zh": "请对照服务的接口文档（getOpenAPI）检查请求；具体原因见该部门日志。",
    }


class UnavailableError(MeshError):
    status, code, rule_name = 503, "unavailable", "available"
    xroad_code = "server.clientproxy.network_error"
    title = {"en": "Not available now", "zh": "暂不可用"}
    detail = {"en": "The mesh cannot serve this request now.", "zh": "平台暂时无法处理此请求。"}
    next = {"en": "Try again after the stated time.", "zh": "请在指明的时间后重试。"}
    retry_after: int | None = 5


class AdapterUnavailableError(UnavailableError):
    code, rule_name, source = "adapter-unavailable", "adapter-connected", "bus"
    title = {"en": "No adapter serves this service now", "zh": "该服务当前没有在线适配器"}
    detail = {"en": "No adapter of {owner} is connected.", "zh": "{owner} 没有在线的适配器。"}
    next = {"en": "Try again later, or tell the owner of the service.", "zh": "请稍后重试，或联系数据提供部门。"}


class BusUnavailableError(UnavailableError):
    code, rule_name, source = "bus-unavailable", "bus-connected", "bus"
    title = {"en": "The bus is down", "zh": "消息总线不可用"}
    detail = {"en": "The gateway is not connected to the bus.", "zh": "网关未连接到消息总线。"}


class BackendUnavailableError(UnavailableError):
    code, rule_name, source = "backend-unavailable", "backend-breaker", "backend"
    xroad_code = "server.serverproxy.network_error"
    title = {"en": "The department's own system is down", "zh": "部门业务系统暂不可用"}
    detail = {
        "en": "The department's own system failed again and again, so it is not asked for a few seconds. It was not asked now.",
        "zh": "部门业务系统连续故障，适配器暂停向其转发请求；本次请求未送达该系统。",
    }


class ServiceDisabledError(UnavailableError):
    code, rule_name = "service-disabled", "service-open"
    xroad_code = "server.serverproxy.service_disabled"
    title = {"en": "The owner has closed the service", "zh": "提供部门已暂停该服务"}
    detail = {"en": "{notice}", "zh": "{notice}"}
    retry_after: int | None = 300


class LogUnavailableError(UnavailableError):
    code, rule_name = "log-unavailable", "record-before-release"
    xroad_code = "server.clientproxy.logging_failed"
    title = {"en": "The exchange cannot be recorded", "zh": "交换无法留痕"}
    detail = {
        "en": "The exchange log did not accept the record, so nothing was released.",
        "zh": "交换日志未能写入，因此没有返回任何数据。",
    }


class RegistryStaleError(UnavailableError):
    code, rule_name = "registry-stale", "registry-fresh"
    xroad_code = "server.clientproxy.global_conf_outdated"
    title = {"en": "Grants cannot be confirmed", "zh": "授权信息无法确认"}
    detail = {
        "en": "The registry was last confirmed {age} s ago, the limit is {limit} s.",
        "zh": "登记信息最近一次确认在 {age} 秒前，上限为 {limit} 秒。",
    }


class OverloadedError(UnavailableError):
    code, rule_name = "overloaded", "concurrency-limit"
    title = {"en": "Too many requests at once", "zh": "并发请求过多"}
    detail = {"en": "The limit of requests in progress is reached.", "zh": "正在处理的请求已达上限。"}
    retry_after: int | None = 1


class AnswerTimeoutError(MeshError):
    status, code, rule_name = 504, "answer-timeout", "deadline"
    xroad_code = "server.serverproxy.io_error"
    source = "adapter"
    title = {"en": "No answer before the deadline", "zh": "在截止时间前没有应答"}
    detail = {
        "en": "No answer came within {seconds} s. Whether the department acted is unknown.",
        "zh": "{seconds} 秒内没有应答，部门是否已处理未知。",
    }
    next = {
        "en": "Ask for the record of this exchange before repeating an operation that changes something.",
        "zh": "如操作会产生变更，请先查询本次交换的记录再决定是否重试。",
    }
