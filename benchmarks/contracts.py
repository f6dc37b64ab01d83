"""What it costs to hold an exchange against its service's contract, and to read a contract. Runs in this process alone.

    python -m benchmarks.contracts [--rounds 5]

Each line is the least CPU time of the rounds: for one request or answer as gateway and adapter check it, and for a document of
200 operations whose schemas all refer to each other.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.progress import say
from exchange import Contract, Headers
from exchange.contracts.contract import LARGEST
from exchange.contracts.planning import plan_of

_HEADERS: Headers = [
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip"),
    (b"datong-purpose", b"trial"),
    (b"x-road-id", b"1"),
    (b"content-type", b"application/json"),
]
_USCC = {"type": "string", "pattern": "^[0-9A-HJ-NPQRTUWXY]{18}$"}
_PAYMENT = {
    "type": "object",
    "required": ["year"],
    "properties": {
        "year": {"type": "integer", "format": "int32"},
        "kind": {"enum": ["vat", "income"]},
        "amount": {"type": "number", "minimum": 0},
        "paid": {"type": "boolean"},
    },
}
_ENTERPRISE = {
    "type": "object",
    "required": ["uscc", "name"],
    "additionalProperties": False,
    "properties": {
        "uscc": _USCC,
        "name": {"type": "string", "maxLength": 100},
        "address": {"$ref": "#/components/schemas/Address"},
        "payments": {"type": "array", "items": _PAYMENT},
        "note": {"type": "string"},
    },
}
_JSON_OF: dict[str, Any] = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Enterprise"}}}}
_DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/enterprises": {"post": {"requestBody": {"required": True, **_JSON_OF}, "responses": {"201": {}}}},
        "/enterprises/{uscc}": {
            "get": {
                "parameters": [
                    {"name": "uscc", "in": "path", "required": True, "schema": _USCC},
                    {"name": "year", "in": "query", "schema": {"type": "integer", "minimum": 2000}},
                ],
                "responses": {"200": _JSON_OF},
            }
        },
    },
    "components": {
        "schemas": {
            "Enterprise": _ENTERPRISE,
            "Address": {"type": "object", "properties": {"city": {"type": "string"}, "code": {"type": "string"}}},
        }
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What contracts cost.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    contract = Contract.of(_DOCUMENT)
    small, large = _enterprise(10), _enterprise(18_000)
    assert len(large) < LARGEST
    all_of, one_of = ("enterprises",), ("enterprises", "91110000600037341L")

    def request(method: str, segments: tuple[str, ...], query: bytes, body: bytes) -> None:
        operation = contract.find(method, segments)
        assert operation is not None
        operation.effort(query, _HEADERS, body)
        operation.check_request(segments, query, _HEADERS, body)

    def answer(body: bytes) -> None:
        operation = contract.find("GET", one_of)
        assert operation is not None
        operation.check_answer(200, _HEADERS, body)

    _tell(f"request, {len(small)} bytes of JSON", lambda: request("POST", all_of, b"", small), rounds, 4000)
    _tell(
        "request, one parameter in the path, one in the query",
        lambda: request("GET", one_of, b"year=2024", b""),
        rounds,
        4000,
    )
    _tell(f"answer, {len(small)} bytes of JSON", lambda: answer(small), rounds, 4000)
    _tell(f"request, {len(large)} bytes of JSON", lambda: request("POST", all_of, b"", large), rounds, 10)
    document = _large_document()
    plan = plan_of(document)
    _tell(f"document of {len(json.dumps(document))} bytes, read", lambda: plan_of(document), rounds, 1)
    _tell(f"the same, {plan.nodes} schemas, compiled", lambda: Contract(plan), rounds, 1)


def _tell(what: str, do: Callable[[], object], rounds: int, times: int) -> None:
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            do()
        best = min(best, (time.process_time() - began) / times)
    say(f"{what}: {best * 1e6:,.1f} us")


def _enterprise(payments: int) -> bytes:
    payment = {"year": 2024, "kind": "vat", "amount": 1.5, "paid": True}
    enterprise = {
        "uscc": "91110000600037341L",
        "name": "某某公司",
        "address": {"city": "北京", "code": "100000"},
        "payments": [payment] * payments,
        "note": "x" * 350,
    }
    return json.dumps(enterprise, ensure_ascii=False, separators=(",", ":")).encode()


def _large_document() -> dict[str, Any]:
    schemas = {
        f"Table{number}": {
            "type": "object",
            "properties": {
                **{f"column{column}": {"type": "string", "maxLength": 50} for column in range(30)},
                "next": {"$ref": f"#/components/schemas/Table{(number + 1) % 200}"},
            },
        }
        for number in range(200)
    }
    paths = {
        f"/tables/{number}/{{id}}": {
            "get": {
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
                "responses": {
                    "200": {
                        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/Table{number}"}}}
                    }
                },
            }
        }
        for number in range(200)
    }
    return {"openapi": "3.1.0", "paths": paths, "components": {"schemas": schemas}}


if __name__ == "__main__":
    main()
