"""A decision explained: would this call be permitted, by what, and if not, why and what to do. Pure.

Rules:
1. The answer is the one the exchange face gives: it comes from `Snapshot.decide`, and from nothing else.
2. What else must hold is told of a call that is permitted: a signed request, a case number, quotas, and what of the answer is
   released. Whether they do hold is found out when the call is made.
3. Only the caller's own grants are told. Who may ask for whom is for those to judge who call this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from exchange import ClientMismatchError, Language, MeshError, ServiceId, SubsystemId, parse_path, to_wire
from registry.grants.refusals import RefusedByGrantError
from registry.records import Grant, Operation
from registry.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A call that somebody might make."""

    client: SubsystemId
    service: ServiceId
    method: str
    path: str = ""
    """What would follow the service code in the request line, percent-encoded or not; a query string makes no difference."""
    purpose: str | None = None
    case: str = ""
    at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the permitting grant demands and limits beyond the call as such. What is empty, 0 or False says nothing."""

    signed_requests: bool = False
    case_pattern: str = ""
    quota_per_second: int = 0
    quota_per_day: int = 0
    items: tuple[str, ...] = ()
    masks: Mapping[str, str]

    @classmethod
    def of(cls, grant: Grant) -> Conditions:
        return cls(**{name: getattr(grant, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The decision about a call."""

    question: Question
    grant: Grant | None = None
    """What permits the call; None when it is refused."""
    operation: Operation | None = None
    purpose: str = ""
    """The one that goes on the record."""
    conditions: Conditions | None = None
    error: MeshError | None = None
    """The refusal."""
    nearest: Grant | None = None
    """The caller's own grant that came nearest, when there is one."""

    @property
    def permitted(self) -> bool:
        return self.error is None

    @property
    def rule(self) -> str:
        """The rule that refused; empty when none did."""
        return self.error.rule if self.error else ""

    def detail_in(self, language: Language) -> str:
        """The decision, in one or two sentences."""
        if self.error is not None:
            return self.error.detail_in(language)
        assert self.grant is not None  # or there were an error
        named = f"{self.grant.id}@{self.grant.version}"
        return {
            "en": f"Permitted by grant {named} for the purpose {self.purpose}.",
            "zh": f"允许：依据授权 {named}，用途 {self.purpose}。",
        }[language]

    def next_in(self, language: Language) -> str:
        """What to do, empty when nothing is to be done."""
        if self.error is not None:
            return self.error.next_in(language)
        signed = self.conditions is not None and self.conditions.signed_requests
        texts: dict[Language, str] = {
            "en": "Sign the request with the caller's own key (docs/signed-requests.md).",
            "zh": "请求须由调用方私钥签名（见 docs/signed-requests.md）。",
        }
        return texts[language] if signed else ""


def explain(snapshot: Snapshot, question: Question) -> Explanation:
    """Decide a call as the exchange face would, without making it."""
    try:
        _, segments, _ = parse_path(b"/r1/%b%b" % (to_wire(question.service).encode(), _wire_path(question.path)))
        if snapshot.subsystem(question.client) is None:
            raise ClientMismatchError(
                "client-registered",
                problem="The client is not a registered subsystem.",
                problem_zh="X-Road-Client 不是已登记的子系统。",
            )
        decision = snapshot.decide(
            question.client,
            question.service,
            question.method,
            segments,
            question.purpose,
            question.at,
            question.case,
        )
    except MeshError as error:
        nearest = error.nearest if isinstance(error, RefusedByGrantError) else None
        return Explanation(question=question, error=error, nearest=nearest)
    return Explanation(
        question=question,
        grant=decision.grant,
        operation=decision.operation,
        purpose=decision.purpose,
        conditions=Conditions.of(decision.grant),
    )


def _wire_path(path: str) -> bytes:
    """The path as it would be sent: what is not encoded yet is encoded, and a slash stands before it."""
    bare = path.partition("?")[0].removeprefix("/")
    return b"/" + quote(bare, safe="!$%&'()*+,;=:@-._~/").encode() if bare else b""
