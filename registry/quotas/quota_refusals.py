"""What a caller is told when a call is not within its quota, or when nobody can say so."""

from __future__ import annotations

from exchange import TooManyRequestsError, UnavailableError
from registry.quotas.counting import QuotaState, Verdict


class QuotasUnavailableError(UnavailableError):
    """It cannot be made sure that the call is within its quota."""

    rule_name = "quota-store"
    detail = {
        "en": "The call could not be counted against its quota, so the request was not carried out.",
        "zh": "无法核算本次调用的配额，因此未执行该请求。",
    }


class QuotaExceededError(TooManyRequestsError):
    """The grant's quota is used up. `retry_after` says when to come back."""

    code, rule_name = "quota-exceeded", "quota-second"
    title = {"en": "The quota of the grant is used up", "zh": "授权配额已用完"}
    detail = {
        "en": "Grant {grant} allows {limit} calls {per}; {remaining} remain. Try again in {retry_after} s.",
        "zh": "授权 {grant} 允许{per_zh} {limit} 次调用，剩余 {remaining} 次，请在 {retry_after} 秒后重试。",
    }
    next = {
        "en": "Wait as long as Retry-After says, or ask the owner of the service for a larger quota.",
        "zh": "请按 Retry-After 指明的时间等待，或向数据提供部门申请更大的配额。",
    }

    def __init__(self, grant: str, verdict: Verdict) -> None:
        self.state: QuotaState = verdict.state
        self.retry_after = verdict.retry_after
        daily = verdict.refused == "quota-day"
        super().__init__(
            verdict.refused,
            grant=grant,
            limit=verdict.state.per_day if daily else verdict.state.per_second,
            per="a day, counted from midnight in China" if daily else "in any one second",
            per_zh="每日（北京时间零点起）" if daily else "任意一秒内",
            remaining=0,
            retry_after=verdict.retry_after,
        )
