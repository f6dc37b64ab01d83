"""What `/v1/openapi.json` says beyond the handlers' own types: problems, who may call, how an error looks. OpenAPI 3.1.

The examples of problems are rendered by the same code as the real ones, so they cannot say anything else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel

from exchange import MeshError
from gateway.api.bodies import LIFTED
from gateway.api.changing import CHANGE_HEADER
from gateway.problems import render

DESCRIPTION: Final = """\
Who takes part in this mesh, what they offer, who may ask for what and by whose decision, and the record of what was exchanged.
平台成员、服务、资源目录、申请、授权与交换留痕的管理接口。

Who calls is who its client certificate names. A certificate of a whole member also needs `X-Road-Client`. `X-Road-UserId` names
the official who acts (percent-encoded UTF-8), and goes on record. Every `GET` may be a `HEAD`. Unknown and repeated query
parameters, and unknown members of bodies, are refused, never ignored.

Every change says why: as `why` in its body, or in the header `Datong-Why` where the body is a document of another form. The answer
names the change, also in `Datong-Change`, and where it stands in the evidence log (`recorded`). The same change twice is one
change: 201 the first time, 200 with the same record the second. Nothing is deleted.

Lists go on with `next_cursor`, given as `cursor`. Instants are RFC 3339; where a date is taken, it is a day in China.

Errors are problem details (RFC 9457), in Chinese or English by `Accept-Language`, as XML by `Accept`; what each `type` means is at
`/problems/{code}`. `pointer` leads to the member of the body that is wrong (RFC 6901). What a caller may not know of is not found.

The exchange face `/r1/{instance}/{class}/{member}/{subsystem}/{service}/{path}` is not described here: its operations are the
departments' own.
"""

CERTIFICATE: Final = "clientCertificate"
BY_CERTIFICATE: Final[dict[str, Any]] = {
    "security": [{CERTIFICATE: []}],
    "parameters": [
        {
            "name": "X-Road-Client",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "The subsystem to act as; needed if the certificate speaks for a whole member. 所代表的子系统。",
            "example": "CN/GOV/11997001DT00000513/audit",
        }
    ],
}
"""For `openapi_extra` of operations that want a certificate."""

_EXCHANGE: Final = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
_PROBLEM: Final = {
    "title": "Problem",
    "description": "An error (RFC 9457). 错误。",
    "type": "object",
    "required": ["type", "title", "status", "detail", "rule", "next", "source"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "The page about this kind of problem."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What happened."},
        "instance": {"type": "string", "format": "uri", "description": "`urn:uuid:` of the exchange, or of our fault."},
        "rule": {"type": "string", "description": "The rule that refused."},
        "next": {"type": "string", "description": "What to do about it."},
        "source": {"enum": ["gateway", "bus", "adapter", "backend"], "description": "Where it arose."},
        "pointer": {
            "type": "string",
            "format": "json-pointer",
            "description": "The member of the sent body that is wrong (RFC 6901).",
        },
    },
}
_SCHEME: Final = {
    "type": "mutualTLS",
    "description": "A certificate of an accepted CA that names the caller: URI `datong:instance/class/member[/subsystem]`.",
}


def problems(*errors: MeshError) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that can end in these errors, or in one that nobody foresaw."""
    by_status: dict[int | str, list[MeshError]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    responses = {status: _response(found) for status, found in by_status.items()}
    return {**responses, "default": _response([MeshError()])}


def made(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that makes a record (201), or finds it made or changes it (200)."""
    headers = {CHANGE_HEADER: {"schema": {"type": "integer"}, "description": "`change` of the body. 变更号。"}}
    return {
        201: {"model": model, "description": "It is registered. 已登记。", "headers": headers},
        200: {"model": model, "description": "It was so already, or is so now. 内容相同或已变更。", "headers": headers},
    }


def _response(errors: list[MeshError]) -> dict[str, Any]:
    examples: dict[str, Any] = {}
    for error in errors:
        for language in ("en", "zh"):
            exchange_id = _EXCHANGE if error.status == 500 else ""
            _, body = render(error, exchange_id=exchange_id, accept_language=language.encode())
            examples[f"{error.rule}-{language}"] = {"value": json.loads(body)}
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}}
    return {
        "description": " ".join(f"{error.title['en']} {error.title['zh']}." for error in errors),
        "content": content,
    }


def describe_api(api: FastAPI) -> None:
    """Have `api` describe itself completely; made once, at the first request for it."""
    plain = api.openapi

    def described() -> Mapping[str, Any]:
        if api.openapi_schema is None:
            document = plain()
            components = document.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            schemas["Problem"] = _PROBLEM
            shared: dict[str, Any] = {}
            for operation in (each for item in document["paths"].values() for each in item.values()):
                schemas |= operation.pop(LIFTED, {})
                _share_problems(operation, shared)
            components["responses"] = shared
            components["securitySchemes"] = {CERTIFICATE: _SCHEME}
        return api.openapi_schema or {}

    api.openapi = described  # type: ignore[method-assign,assignment]  # as FastAPI's documentation has it


def _share_problems(operation: Mapping[str, Any], shared: dict[str, Any]) -> None:
    """Move what an operation may be refused with to where all point to: spelled out, it was nine tenths of the document."""
    for status, response in operation["responses"].items():
        if "application/problem+json" in response.get("content", {}):
            name, number = f"Problem-{status}", 1
            while shared.setdefault(name, response) != response:
                number += 1
                name = f"Problem-{status}-{number}"
            operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
