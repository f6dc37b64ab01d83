"""Whether what the registry decides by is what its own record of changes says.

Every record that is registered is written together with a change that holds all of it. So somebody who altered a grant in the
database and nothing else is found here; who altered the change as well is found where changes are compared with the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from registry.history.history import rows_at
from registry.records import Certificate, OperationEntry, ResourceEntry
from registry.registry import Registry
from registry.rows import load_rows

# What a record is called, for people, and where it stands in `Rows`.
_KINDS = {
    "member": "members",
    "subsystem": "subsystems",
    "service": "services",
    "operation": "operations",
    "group": "groups",
    "resource": "resources",
    "role": "role_grants",
    "certificate": "certificates",
    "grant": "grants",
}


async def altered_record(registry: Registry) -> str | None:
    """Kind and identifier of a record that is not what the newest change of it says, such as `grant g42`; None if all are.

    Members, subsystems, services and their operations, groups, resources as far as calls depend on them, roles, certificates
    and grants are compared.
    """
    # Later than any clock by which a change was made.
    end = datetime.now(UTC) + timedelta(days=366)
    async with registry.reading() as connection:
        told = await rows_at(connection, end, end)
        held = await load_rows(connection, 0)
    for kind, name in _KINDS.items():
        recorded, registered = _by_key(getattr(told, name)), _by_key(getattr(held, name))
        for key in recorded | registered:
            if recorded.get(key) != registered.get(key):
                return f"{kind} {key}"
    return None


def _by_key(records: Sequence[Any]) -> dict[str, Any]:
    return {_key(each): each for each in records if not isinstance(each, OperationEntry) or each.active}


def _key(record: Any) -> str:
    if isinstance(record, OperationEntry):
        return f"{record.operation.method} {record.operation.path} of {record.service}"
    if isinstance(record, ResourceEntry):
        return record.code
    return str(record.fingerprint if isinstance(record, Certificate) else record.id)
