"""Who is who in the example seed, and a clock that is set by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import registry as registry_room
from exchange import ServiceId, SubsystemId

EXAMPLE_SEED = Path(registry_room.__file__).with_name("example_seed.toml")
HOUSING = SubsystemId("CN/GOV/1199000000000102XG/housing")
AUDIT = SubsystemId("CN/GOV/11990000000001030M/audit")
TAX = SubsystemId("CN/GOV/11990000000001011Q/tax")
ENTERPRISES = ServiceId("CN/GOV/11990000000001011Q/tax/enterprises")
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that stands until it is set."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now
