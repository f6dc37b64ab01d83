"""What the calls of `/v1/applications` take."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from gateway.api import fields
from gateway.api.bodies import Body
from registry import Ask, ReasonCode, Ruling, Verdict

_LONGEST_TEXT = 2000

Text = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_TEXT)]
"""What somebody wrote to explain; kept on record."""
OptionalText = Annotated[str, StringConstraints(max_length=_LONGEST_TEXT)]
ItemPath = Annotated[str, StringConstraints(min_length=1, max_length=500)]
ResourceCode = Annotated[str, StringConstraints(min_length=1, max_length=128)]
_Purpose = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Volume = Annotated[int, Field(ge=0, le=10**12)]


class Wanted(Body):
    """What is asked for, and why. A draft may leave out whatever is not known yet."""

    purposes: tuple[_Purpose, ...] = Field(
        (), description="Codes that the grant and each call will name. 用途代码。", examples=[["public-rental-housing"]]
    )
    purpose_text: OptionalText = Field("", description="What the data is for. 使用目的。")
    legal_basis: OptionalText = Field("", description="What lets the applicant do that. 使用依据。")
    overriding_basis: OptionalText = Field(
        "", description="For what is not shared: what obliges the owner all the same. 不予共享数据的提供依据。"
    )
    scenario: OptionalText = Field("", description="In which step of which matter. 应用场景。")
    items: tuple[ItemPath, ...] = Field(
        (), description="Paths of the items wanted; empty: all that the resource lists. 信息项。"
    )
    mode: fields.OptionalLine = Field("", description="How; empty: as the resource is offered. 共享方式。")
    valid_from: fields.Begins | None = Field(None, description="Null: from the decision on. 开始时间。")
    valid_to: fields.Ends | None = Field(None, description="Until when the data is needed. 截止时间。")
    calls_per_day: _Volume = Field(0, description="Expected volume; 0: not stated. 预计日调用量。")
    case_rule: fields.OptionalLine = Field(
        "", description="What case numbers look like: * any characters, ? one, # a digit. 办件编号规则。"
    )
    contact: fields.OptionalLine = Field("", description="Whom to ask. 联系人。")
    official: fields.OptionalLine = Field("", description="Who answers for the use. 责任人。")

    def ask(self, resource: str) -> Ask:
        named = {name: getattr(self, name) for name in Wanted.model_fields}
        return Ask(resource=resource, **named)


class WantedOf(Wanted):
    """A draft, whole."""

    resource: ResourceCode = Field(description="Code of the resource. 资源代码。", examples=["306001/000012"])


class NewApplication(WantedOf):
    """An application to begin."""

    submit: bool = Field(False, description="Hand it in at once. 是否立即提交。")


class Said(Body):
    """A step with what is said about it."""

    text: Text = Field(description="Kept on record, and shown to both sides. 说明，双方可见并留存。")


class MaybeSaid(Body):
    """A step that need not be explained."""

    text: OptionalText = ""


class Supplement(Said):
    """A reply, with whatever is asked for otherwise now; what is left out stays."""

    purposes: tuple[_Purpose, ...] | None = None
    purpose_text: OptionalText | None = None
    legal_basis: OptionalText | None = None
    overriding_basis: OptionalText | None = None
    scenario: OptionalText | None = None
    items: tuple[ItemPath, ...] | None = None
    mode: fields.OptionalLine | None = None
    valid_from: fields.Begins | None = None
    valid_to: fields.Ends | None = None
    calls_per_day: _Volume | None = None
    case_rule: fields.OptionalLine | None = None
    contact: fields.OptionalLine | None = None
    official: fields.OptionalLine | None = None

    def changes(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Wanted.model_fields}


class DecisionBody(Body):
    """A decision; what is left out of an approval is as it was asked for."""

    decision: Literal["approve", "refuse"] = Field(description="批准或拒绝。")
    reason_code: ReasonCode | None = Field(
        None, description="Why something is not given; for a refusal, and for an approval of less. 理由代码。"
    )
    text: OptionalText = Field("", description="The reason in words; likewise. 理由说明。")
    basis: OptionalText = Field("", description="On which law it rests; likewise. 法律依据。")
    items: tuple[ItemPath, ...] | None = Field(None, description="Items granted. 授权的信息项。")
    masks: dict[str, fields.OptionalLine] | None = Field(
        None,
        description="Item path -> mask, beside those the catalogue proposes; empty takes a proposed one away. 脱敏规则。",
    )
    purposes: tuple[_Purpose, ...] | None = Field(None, description="Purposes granted. 授权用途。")
    valid_from: fields.Begins | None = Field(None, description="Not before today. 授权开始时间。")
    valid_to: fields.Ends | None = Field(None, description="Not after what was asked for. 授权截止时间。")
    quota_per_second: _Volume = Field(0, description="0: no limit. 每秒调用上限。")
    quota_per_day: _Volume = Field(0, description="0: no limit. 每日调用上限。")
    signed_requests: bool = Field(False, description="Whether each request must be signed. 是否要求签名请求。")
    case_pattern: fields.OptionalLine | None = Field(
        None, description="Null: the applicant's case rule. 办件编号规则。"
    )
    decided_on: date | None = Field(None, description="Today, in China; anything else is refused. 决定日期。")
    two_persons: bool = Field(False, description="Demand that another person confirms. 是否要求双人复核。")

    def verdict(self) -> Verdict:
        same = ("text", "basis", "items", "masks", "purposes", "valid_from", "valid_to", "quota_per_second")
        more = ("quota_per_day", "signed_requests", "case_pattern", "decided_on")
        return Verdict(
            approve=self.decision == "approve",
            reason_code=self.reason_code or "",
            **{name: getattr(self, name) for name in (*same, *more)},
        )


class Confirmation(MaybeSaid):
    """What the second person says about a proposed decision."""

    agree: bool = Field(description="False rejects the proposal; then say why. 是否同意。")


class DisputeBody(Said):
    """A dispute to open."""

    about: Literal["refusal", "partial-approval", "miss"] = Field(description="争议事由。")
    miss: Annotated[str, StringConstraints(max_length=64)] = Field(
        "", description="Id of the missed deadline, if it is about one. 超期记录编号。", examples=["m77"]
    )


class RulingBody(Said):
    """The ruling of an authority or government, recorded by an operator."""

    outcome: Ruling = Field(description="upheld: what was disputed stands. 维持或推翻。")
    document: Text = Field(description="The document in which they ruled. 裁定文号。", examples=["桂数裁〔2026〕3号"])


class StandingBody(Said):
    """That the owner approves beforehand, or no longer."""

    resource: ResourceCode
    active: bool = Field(True, description="False: no longer. false 表示不再预先批准。")
