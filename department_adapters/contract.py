"""`adapter.toml`: everything an adapter is told, in one file a department can read.

Paths are relative to the file. A database URL may name environment variables, `postgresql://reader:${CIVIL_PASSWORD}@host/civil`,
so that no secret stands in the file.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from exchange import SubsystemId, subsystem_id


class ContractError(ValueError):
    """The adapter's configuration cannot be used; the message names the key and what is wrong with it."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _subsystem(text: str) -> str:
    return subsystem_id(text)


class AdapterSection(_Strict):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$", description="Shown by service discovery.")
    subsystem: Annotated[str, AfterValidator(_subsystem)]
    description: str = ""
    version: str = Field("1.0.0", description="Semantic version, shown by service discovery.")


class BusSection(_Strict):
    url: str
    certificate: Annotated[Path, Field(strict=False)]
    key: Annotated[Path, Field(strict=False)]
    trust_anchors: Annotated[Path, Field(strict=False)]
    gateways: Annotated[Path, Field(strict=False, description="PEM bundle of the gateways whose seals are accepted.")]


class LimitsSection(_Strict):
    concurrency: int = Field(64, gt=0, description="Requests at the department's system at once.")
    queue: int = Field(256, ge=0, description="Requests that may wait; beyond it 503.")
    max_request: int = Field(64 << 20, gt=0, description="Largest request body in bytes.")
    max_answer: int = Field(64 << 20, gt=0, description="Largest answer body in bytes.")


class LedgerSection(_Strict):
    folder: Annotated[Path, Field(strict=False)] = Path("ledger")


class OperationSection(_Strict):
    path: str = Field(pattern=r"^/")
    query: str
    method: Literal["GET"] = "GET"
    result: Literal["one", "many"] = "one"
    optional: list[str] = []
    required: list[str] = []
    integers: list[str] = []
    max_rows: int = Field(500, gt=0, le=100_000)


class HttpService(_Strict):
    source: Literal["http"]
    base_url: str = Field(pattern=r"^https?://")
    connections: int = Field(100, gt=0)


class SqlService(_Strict):
    source: Literal["sql"]
    database: str
    connections: int = Field(10, gt=0)
    operations: list[OperationSection] = Field(min_length=1)

    @field_validator("database")
    @classmethod
    def _with_environment(cls, value: str) -> str:
        def insert(match: re.Match[str]) -> str:
            try:
                return os.environ[match[1]]
            except KeyError as error:
                raise ValueError(f"the environment variable {match[1]} is not set") from error

        return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", insert, value)


class AdapterContract(_Strict):
    """One adapter: a subsystem, its certificate, and a source for each of its services."""

    adapter: AdapterSection
    bus: BusSection
    limits: LimitsSection = LimitsSection()
    ledger: LedgerSection = LedgerSection()
    services: dict[str, Annotated[HttpService | SqlService, Field(discriminator="source")]] = Field(min_length=1)

    @property
    def subsystem(self) -> SubsystemId:
        return SubsystemId(self.adapter.subsystem)


def read_contract(path: Path) -> AdapterContract:
    """Read `adapter.toml`, with every path made absolute.

    Raises:
        ContractError: Not readable, not TOML, or a value is missing, unknown or wrong.
    """
    try:
        contract = AdapterContract.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ContractError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ContractError(f"{path}: {where}: {first['msg']}") from error
    home = path.resolve().parent
    bus = contract.bus
    placed = {name: home / getattr(bus, name) for name in ("certificate", "key", "trust_anchors", "gateways")}
    return contract.model_copy(
        update={
            "bus": bus.model_copy(update=placed),
            "ledger": LedgerSection(folder=home / contract.ledger.folder),
            "services": {name: _placed(service, home) for name, service in contract.services.items()},
        }
    )


def _placed(service: HttpService | SqlService, home: Path) -> HttpService | SqlService:
    if isinstance(service, SqlService) and (match := re.fullmatch(r"sqlite:///(?!/)(.+)", service.database)):
        return service.model_copy(update={"database": f"sqlite:///{home / match[1]}"})
    return service
