"""The tax bureau's own HTTP API, as a department would have it before it joins the mesh: it knows nothing of Datong.

    python -m deploy.demo.tax_bureau --data DIR [--port N] [--port-file FILE]

Its errors are its own: `{"code": ..., "message": ...}` in Chinese. Its description is at /openapi.json.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from deploy.demo.serving import AsgiApp, run_backend
from deploy.demo.synthetic import ENTERPRISE_IN_GOOD_ORDER, is_uscc
from deploy.demo.tax_register import PAGE_SIZE, ClearanceRefusedError, Register, UnknownEnterpriseError

_JSON = "application/json"


class Problem(BaseModel):
    """错误应答"""

    code: str = Field(description="错误代码", examples=["ENTERPRISE_NOT_FOUND"])
    message: str = Field(description="中文说明", examples=["未找到该纳税人"])


class EnterpriseBody(BaseModel):
    """纳税人登记信息"""

    uscc: str = Field(description="统一社会信用代码", examples=[ENTERPRISE_IN_GOOD_ORDER])
    name: str = Field(description="纳税人名称")
    status: str = Field(description="登记状态：开业、停业、非正常、注销")
    credit_level: str = Field(description="纳税信用等级：A、B、C、D")
    taxpayer_type: str = Field(description="纳税人类型：一般纳税人、小规模纳税人")
    industry: str = Field(description="行业")
    legal_representative: str = Field(description="法定代表人（经营者）姓名")
    registered_on: str = Field(description="登记日期")
    division: str = Field(description="行政区划代码")
    address: str = Field(description="注册地址")
    legal_representative_number: str = Field(description="法定代表人公民身份号码")
    phone: str = Field(description="联系电话")


class EnterpriseItem(BaseModel):
    """查询结果中的一户纳税人"""

    uscc: str = Field(description="统一社会信用代码")
    name: str = Field(description="纳税人名称")
    status: str = Field(description="登记状态")


class EnterprisePage(BaseModel):
    """按名称查询的一页结果"""

    total: int = Field(description="符合条件的总户数")
    page: int = Field(description="页码，从 1 开始")
    page_size: int = Field(description="每页户数")
    items: list[EnterpriseItem] = Field(description="本页纳税人")


class ArrearBody(BaseModel):
    """一笔欠税"""

    tax: str = Field(description="税种")
    period: str = Field(description="所属期", examples=["2025-Q1"])
    due_on: str = Field(description="应缴日期")
    amount_fen: int = Field(description="欠缴税额，单位：分")
    late_fee_fen: int = Field(description="滞纳金，单位：分")


class ArrearsBody(BaseModel):
    """欠税情况"""

    uscc: str = Field(description="统一社会信用代码")
    total_fen: int = Field(description="税额与滞纳金合计，单位：分")
    arrears: list[ArrearBody] = Field(description="欠税明细，无欠税时为空")


class CertificateApplication(BaseModel):
    """开具完税证明的申请"""

    model_config = ConfigDict(extra="forbid", strict=True)
    applicant: str = Field(description="申请单位", min_length=1, max_length=100, examples=["示例市住房保障局"])
    purpose: str = Field(description="用途", min_length=1, max_length=100, examples=["公租房资格核查"])


class CertificateBody(BaseModel):
    """完税证明"""

    number: str = Field(description="证明编号", examples=["WS9970012026000001"])
    uscc: str = Field(description="统一社会信用代码")
    name: str = Field(description="纳税人名称")
    conclusion: str = Field(description="证明结论")
    applicant: str = Field(description="申请单位")
    purpose: str = Field(description="用途")
    issued_at: str = Field(description="开具时间（UTC）")
    valid_until: str = Field(description="有效期至")


Uscc = Annotated[str, Path(description="统一社会信用代码（18 位）", examples=[ENTERPRISE_IN_GOOD_ORDER])]


def _problem(status: int, code: str, message: str) -> Response:
    return Response(msgspec.json.encode({"code": code, "message": message}), status, media_type=_JSON)


def _is(description: str, model: type[BaseModel] = Problem) -> dict[str, Any]:
    """An entry of `responses`, for the document only: answers are sent as prepared, without another validation."""
    return {"description": description, "model": model}


_REFUSALS: dict[int | str, dict[str, Any]] = {404: _is("未找到该纳税人"), 422: _is("统一社会信用代码或参数不正确")}


def create_app(register: Register, clock: Callable[[], datetime]) -> AsgiApp:
    """Return the bureau's API over an open register; `clock` gives aware times."""
    api = FastAPI(
        title="示例市税务局开放接口",
        description="演示用税务业务接口。纳税人全部虚构，统一社会信用代码校验位有效，区划 997001 不属于任何地区。",
        version="1.0.0",
        docs_url=None,
        redoc_url=None,
    )

    def lookup(uscc: str, prepared: Callable[[str], bytes | None]) -> Response:
        body = prepared(uscc)
        if body is not None:
            return Response(body, media_type=_JSON)
        if not is_uscc(uscc):
            return _problem(422, "INVALID_USCC", "统一社会信用代码格式或校验位不正确")
        return _problem(404, "ENTERPRISE_NOT_FOUND", "未找到该纳税人")

    @api.get("/enterprises/{uscc}", summary="查询纳税人", responses={200: _is("登记信息", EnterpriseBody), **_REFUSALS})
    async def get_enterprise(uscc: Uscc) -> Response:
        """按统一社会信用代码查询一户纳税人的登记信息和纳税信用等级。"""
        return lookup(uscc, register.enterprise_json)

    @api.get("/enterprises", summary="按名称查询纳税人", responses={422: _is("参数不正确")})
    async def find_enterprises(
        name: Annotated[str, Query(description="名称中包含的文字；为空时列出全部", max_length=100)] = "",
        page: Annotated[int, Query(description="页码，从 1 开始", ge=1, le=100_000)] = 1,
    ) -> EnterprisePage:
        """按名称中的文字查询纳税人，按代码排序，每页 20 户。"""
        total, found = register.search(name, page)
        items = [EnterpriseItem(uscc=each.uscc, name=each.name, status=each.status) for each in found]
        return EnterprisePage(total=total, page=page, page_size=PAGE_SIZE, items=items)

    @api.get(
        "/enterprises/{uscc}/arrears", summary="查询欠税", responses={200: _is("欠税情况", ArrearsBody), **_REFUSALS}
    )
    async def get_arrears(uscc: Uscc) -> Response:
        """查询一户纳税人的欠税明细；没有欠税时明细为空。"""
        return lookup(uscc, register.arrears_json)

    # Not `async`: it waits for the disk, so it runs in a thread and look-ups go on.
    @api.post(
        "/enterprises/{uscc}/certificates",
        status_code=201,
        summary="开具完税证明",
        responses={
            201: _is("已开具，Location 为证明地址", CertificateBody),
            409: _is("存在欠税或已注销，不能开具"),
            **_REFUSALS,
        },
    )
    def create_certificate(uscc: Uscc, application: CertificateApplication) -> Response:
        """为没有欠税的纳税人开具一份新的完税证明。每次调用开具一份，编号连续。"""
        if not is_uscc(uscc):
            return _problem(422, "INVALID_USCC", "统一社会信用代码格式或校验位不正确")
        try:
            issued = register.issue_certificate(
                uscc, applicant=application.applicant, purpose=application.purpose, now=clock()
            )
        except UnknownEnterpriseError:
            return _problem(404, "ENTERPRISE_NOT_FOUND", "未找到该纳税人")
        except ClearanceRefusedError as refusal:
            return _problem(409, "CLEARANCE_REFUSED", str(refusal))
        location = {"Location": f"/certificates/{issued.number}"}
        return Response(msgspec.json.encode(issued), 201, location, media_type=_JSON)

    @api.get(
        "/certificates/{number}",
        summary="查验完税证明",
        responses={200: _is("完税证明", CertificateBody), 404: _is("没有此编号的证明"), 422: _is("参数不正确")},
    )
    def get_certificate(number: Annotated[str, Path(description="证明编号", max_length=40)]) -> Response:
        """按编号查验一份完税证明。"""
        found = register.certificate(number)
        if found is None:
            return _problem(404, "CERTIFICATE_NOT_FOUND", "没有此编号的证明")
        return Response(msgspec.json.encode(found), media_type=_JSON)

    @api.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        where = "、".join(".".join(str(part) for part in each["loc"]) for each in error.errors())
        return _problem(422, "INVALID_REQUEST", f"请求参数不正确：{where}")

    @api.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> Response:
        response = _problem(error.status_code, "HTTP_ERROR", "没有此接口或不支持该方法")
        response.headers.update(error.headers or {})
        return response

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # The call that is made most skips routing and argument parsing, which would cost more than the look-up.
        # Anything but a plain hit takes the documented road above and is answered there.
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith("/enterprises/"):
            body = register.enterprise_json(scope["path"][13:])
            if body is not None:
                head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
                await send({"type": "http.response.start", "status": 200, "headers": head})
                await send({"type": "http.response.body", "body": body})
                return
        await api(scope, receive, send)

    return app


def main() -> None:
    """Run the bureau until SIGTERM, SIGINT or the parent's death."""
    run_backend("tax bureau", "tax.sqlite", Register, lambda register: create_app(register, lambda: datetime.now(UTC)))


if __name__ == "__main__":
    main()
