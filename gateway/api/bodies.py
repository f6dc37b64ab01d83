"""Reading the bodies of changing calls strictly: what is wrong is named by a JSON pointer, and nothing is guessed.

Rules:
1. A body has the content type the call takes, no content coding, and a bounded size; it is read after the caller is known.
2. JSON is read strictly (`gateway.api.strict_json`). What cannot be parsed is named by line and column (400), everything else by
   pointer (422).
3. A body is an instance of a strict model: unknown members are refused, and no text is taken for a number.
4. Of several faults the first is told. Values of the caller's are not repeated.
5. Every changing call says why: as `why` in its body, or in `Datong-Why` when the body is a document of another form.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from exchange import InvalidRequestError, PayloadTooLargeError, RequestTimeoutError, UnprocessableError
from gateway.api.fields import LONGEST_LINE, Line
from gateway.api.strict_json import Step, fault, parse_json, pointer

JSON: Final = "application/json"
LARGEST_BODY: Final = 1 << 20
WHY_HEADER: Final = "Datong-Why"
LIFTED: Final = "x-datong-schemas"
"""Where `takes` leaves schemas that `gateway.api.openapi` moves to the document's components."""


class UnsupportedMediaTypeError(InvalidRequestError):
    status, code, rule_name = 415, "unsupported-media-type", "content-type"
    title = {"en": "The body is not of a form this call takes", "zh": "请求体的格式不受支持"}
    next = {
        "en": "Send the body in the form that /v1/openapi.json names, with its Content-Type.",
        "zh": "请按 /v1/openapi.json 所列格式发送，并注明 Content-Type。",
    }


class Body(BaseModel):
    """What a call takes: nothing but what is declared, of exactly the declared types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Why(Body):
    """A body that says why; every changing call's own."""

    why: Line = Field(description="The reason, kept on record; a document number is a good one. 变更理由，留存备查。")


_Model = TypeVar("_Model", bound=BaseModel)


async def read_body(request: Request, model: type[_Model], *, limit: int = LARGEST_BODY) -> _Model:
    """The JSON body as an instance of `model`.

    Raises:
        UnsupportedMediaTypeError: It is not declared as JSON.
        PayloadTooLargeError: It has more than `limit` bytes.
        InvalidRequestError: It is not JSON.
        UnprocessableError: It breaks the model; `pointer` says where.
    """
    _, body = await read_bytes(request, (JSON,), limit=limit)
    return parse_model(body, model)


async def read_bytes(request: Request, media: Collection[str], *, limit: int = LARGEST_BODY) -> tuple[str, bytes]:
    """The body as it is and which of the content types in `media` it has; for documents of forms that are not ours.

    Raises:
        UnsupportedMediaTypeError: It has another content type, or a content coding.
        PayloadTooLargeError: It has more than `limit` bytes.
    """
    kind = _content_type(request, media)
    return kind, await _received(request, limit)


async def read_nothing(request: Request) -> None:
    """For calls that take no body: what is sent all the same is read like a body without members, never ignored.

    Raises: like `read_body`; nothing at all, and `{}`, are right.
    """
    body = await _received(request, LARGEST_BODY)
    if body:
        _content_type(request, (JSON,))
        parse_model(body, Body)


async def _received(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise PayloadTooLargeError(limit=limit)
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise PayloadTooLargeError(limit=limit)
    except ClientDisconnect as error:
        raise RequestTimeoutError from error  # nobody is there to be told
    return bytes(body)


def parse_model(body: bytes, model: type[_Model]) -> _Model:
    """An instance of `model` from JSON; raises like `read_body`."""
    document = parse_json(body)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise body_error(error.errors(include_url=False, include_input=False), document) from error


def body_error(found: Iterable[Mapping[str, Any]], document: Any) -> UnprocessableError:
    """What a caller is told about the first of pydantic's findings in `document`."""
    first = next(iter(found))
    where = pointer(_steps_in(document, first["loc"], missing=first["type"] == "missing"))
    return fault("body", where + first.get("ctx", {}).get("pointer", ""), *complaint_of(first))


def why_of(request: Request) -> str:
    """The reason in `Datong-Why`, percent-encoded UTF-8, for calls whose body is a document of another form.

    Raises:
        UnprocessableError: It is missing, or not one printable line; the pointer is `/why`.
    """
    try:
        text = unquote_to_bytes(request.headers.get(WHY_HEADER, "").encode("latin-1")).decode()
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > LONGEST_LINE or text != text.strip() or not text.isprintable():
        raise UnprocessableError(
            "why",
            problem=f"Say why in the header {WHY_HEADER}: percent-encoded UTF-8, one line of at most {LONGEST_LINE} characters.",
            problem_zh=f"请在 {WHY_HEADER} 请求头中说明理由：百分号编码的 UTF-8 单行文本，不超过 {LONGEST_LINE} 个字符。",
            pointer="/why",
        )
    return text


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """For `openapi_extra`: the call takes a JSON body of this model."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    lifted = {**schema.pop("$defs", {}), model.__name__: schema}
    content = {JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {"requestBody": {"required": True, "content": content}, LIFTED: lifted}


WHY_PARAMETER: Final[dict[str, Any]] = {
    "name": WHY_HEADER,
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "The reason, kept on record; percent-encoded UTF-8. 变更理由（百分号编码的 UTF-8），留存备查。",
    "example": "%E6%89%B9%E5%A4%8D%E3%80%942026%E3%80%957%E5%8F%B7",
}
"""For `openapi_extra` of calls that use `why_of`."""


def complaint_of(found: Mapping[str, Any]) -> tuple[str, str]:
    """What is wrong, in English and Chinese, to go on after the name of what it is about."""
    context = found.get("ctx", {})
    texts: dict[str, tuple[str, str]] = {
        "missing": ("is missing", "缺失"),
        "extra_forbidden": ("is not a member of this body", "不是此请求体的成员"),
        "string_type": ("must be a text", "应为字符串"),
        "int_type": ("must be a whole number", "应为整数"),
        "int_parsing": ("is not a whole number", "不是整数"),
        "int_from_float": ("must be a whole number", "应为整数"),
        "int_parsing_size": ("is too large", "数值过大"),
        "float_type": ("must be a number", "应为数字"),
        "bool_type": ("must be true or false", "应为 true 或 false"),
        "bool_parsing": ("must be true or false", "应为 true 或 false"),
        "list_type": ("must be a list", "应为数组"),
        "tuple_type": ("must be a list", "应为数组"),
        "set_type": ("must be a list", "应为数组"),
        "frozen_set_type": ("must be a list", "应为数组"),
        "dict_type": ("must be an object", "应为对象"),
        "model_type": ("must be an object", "应为对象"),
        "model_attributes_type": ("must be an object", "应为对象"),
        "none_required": ("must be null", "应为 null"),
        "greater_than": (f"must be above {context.get('gt')}", f"应大于 {context.get('gt')}"),
        "greater_than_equal": (f"must be at least {context.get('ge')}", f"不得小于 {context.get('ge')}"),
        "less_than": (f"must be below {context.get('lt')}", f"应小于 {context.get('lt')}"),
        "less_than_equal": (f"must be at most {context.get('le')}", f"不得大于 {context.get('le')}"),
        "finite_number": ("must be a finite number", "应为有限数值"),
        "literal_error": (f"must be {context.get('expected')}", f"只能是 {context.get('expected')}"),
        "enum": (f"must be {context.get('expected')}", f"只能是 {context.get('expected')}"),
        "string_pattern_mismatch": ("has characters that cannot occur in it", "含有不允许的字符"),
        "string_too_short": _at_least(context, "characters", "个字符"),
        "string_too_long": _at_most(context, "characters", "个字符"),
        "too_short": _at_least(context, "entries", "项"),
        "too_long": _at_most(context, "entries", "项"),
    }
    fallback = context.get("en", "cannot be read"), context.get("zh", "无法解析")
    return texts.get(found["type"], fallback)


def _at_least(context: Mapping[str, Any], what: str, what_zh: str) -> tuple[str, str]:
    least = context.get("min_length")
    return (
        ("must not be empty", "不能为空")
        if least == 1
        else (
            f"must have at least {least} {what}",
            f"至少应有 {least} {what_zh}",
        )
    )


def _at_most(context: Mapping[str, Any], what: str, what_zh: str) -> tuple[str, str]:
    most = context.get("max_length")
    return f"must have at most {most} {what}", f"最多可有 {most} {what_zh}"


def _content_type(request: Request, media: Collection[str]) -> str:
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    charset = parameters.replace(" ", "").lower()
    if kind not in media or ("charset=" in charset and charset not in ("charset=utf-8", 'charset="utf-8"')):
        allowed = ", ".join(media)
        raise UnsupportedMediaTypeError(
            problem=f"The body must be {allowed}, in UTF-8 where it is text.",
            problem_zh=f"请求体应为 {allowed}，文本须为 UTF-8 编码。",
        )
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaTypeError(
            "content-coding", problem="The body must not be compressed.", problem_zh="请求体不得压缩。"
        )
    return kind


def _steps_in(document: Any, steps: Iterable[Step], *, missing: bool) -> list[Step]:
    """Those steps that lead somewhere in the document: pydantic also names types and alternatives on its way."""
    found: list[Step] = []
    here = document
    every = list(steps)
    for number, step in enumerate(every):
        inside = (isinstance(here, dict) and step in here) or (
            isinstance(here, list) and isinstance(step, int) and 0 <= step < len(here)
        )
        if inside:
            here = here[step]
            found.append(step)
        elif missing and number == len(every) - 1:
            found.append(step)
    return found
