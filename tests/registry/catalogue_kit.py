"""Resources, actors and shorthands that the catalogue's tests share."""

from __future__ import annotations

import copy
from typing import Any

from exchange import SubsystemId, member_of
from registry import Actor, Catalogue, Resource, ResourceDocument
from tests.registry.conftest import AUDIT, ENTERPRISES, HOUSING, TAX

CODE = "306002/000001"
OPERATOR = Actor.operator("admin")
OWNER = Actor(subsystem=TAX, official="张三", roles=frozenset({"owner"}))
INTEGRATOR = Actor(subsystem=SubsystemId(f"{member_of(TAX)}/portal"), roles=frozenset({"integrator"}))
STRANGER = Actor(subsystem=HOUSING, roles=frozenset({"owner", "integrator"}))
AUDITOR = Actor(subsystem=AUDIT, roles=frozenset({"auditor"}))

_PLAIN: dict[str, Any] = {
    "code": CODE,
    "classification": {
        "category": {"code": "3", "name": "部门信息资源"},
        "subcategory": {"code": "06", "name": "税务"},
        "entry": {"code": "002", "name": "征收"},
    },
    "provider": TAX,
    "name": "欠税信息",
    "name_en": "Tax arrears",
    "abstract": "纳税人各税种、各所属期的欠缴税额。\n不含滞纳金。",
    "abstract_en": "Unpaid taxes by tax and period.",
    "format": "database",
    "items": [
        {"path": "uscc", "name": "统一社会信用代码", "name_en": "Code", "length": 18, "sensitivity": "public"},
        {"path": "arrears.amount", "name": "欠缴税额", "name_en": "Amount owed", "data_type": "integer"},
        {"path": r"owner\.name", "name": "法定代表人", "sensitivity": "personal", "mask": "name"},
    ],
    "sharing_class": "conditional",
    "conditions": "用于资格核查",
    "mode": "query-interface",
    "update_cycle": "daily",
    "themes": ["税务", "信用"],
    "keywords": ["欠税"],
    "accesses": [{"service": ENTERPRISES, "method": "GET", "path": "/enterprises/{uscc}"}],
}


def document(**changes: Any) -> dict[str, Any]:
    """A resource that breaks no rule, in the JSON form, with members replaced; None takes one away."""
    found = {**copy.deepcopy(_PLAIN), **changes}
    return {name: value for name, value in found.items() if value is not None}


def parsed(**changes: Any) -> ResourceDocument:
    return ResourceDocument.model_validate(document(**changes))


def resource(**changes: Any) -> Resource:
    return parsed(**changes).resource()


async def publish(catalogue: Catalogue, **changes: Any) -> str:
    """Write and publish a resource; its code."""
    made = parsed(**changes)
    await catalogue.save(OPERATOR, made, why="编目", replace=True)
    await catalogue.publish(OPERATOR, made.code, why="发布")
    return made.code
