"""`adapter.toml`: everything an adapter is told, in one file a department can read.

Rules:
1. Paths are relative to the file.
2. No secret stands in the file: a database URL may name environment variables, `postgresql://reader:${CIVIL_PASSWORD}@host/civil`.
   Such a value is percent-encoded, so that any password fits, unless it is the whole of the URL.
3. What is wrong is found when the file is read, not at the first question, and told with the key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator, Field, ValidationError

from department_adapters.code.section import PythonService
from department_adapters.files.section import FilesService
from department_adapters.http.section import HttpService
from department_adapters.section import ContractError, File, Section
from department_adapters.soap.section import SoapService
from department_adapters.sql.section import SqlService
from exchange import SubsystemId, service_id, subsystem_id

# The grammar of semver.org, as far as service discovery insists on it.
_SEMANTIC_VERSION = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z.-]+)?$"


def _subsystem(text: str) -> str:
    return subsystem_id(text)


def _service_code(text: str) -> str:
    service_id(f"CN/GOV/0/0/{text}")
    return text


class AdapterSection(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$", description="Shown by service discovery.")
    subsystem: Annotated[str, AfterValidator(_subsystem)]
    description: str = ""
    version: str = Field("1.0.0", pattern=_SEMANTIC_VERSION, description="Semantic version, for service discovery.")


class BusSection(Section):
    url: str = Field(pattern=r"^tls://[^\s,]+(, ?tls://[^\s,]+)*$", description="NATS servers, comma-separated.")
    certificate: File
    key: File
    trust_anchors: File
    gateways: Annotated[
        Path,
        Field(
            strict=False,
            description="PEM bundle of the gateways whose seals are accepted, or a folder of them; changes are read at once.",
        ),
    ]
    callers: File | None = Field(
        None,
        description="PEM bundle of the CAs, intermediate ones too, whose certificates sign requests; default: trust_anchors.",
    )
    renewal_url: str = Field(
        "",
        pattern=r"^(https://\S+)?$",
        description="Where the certificate is renewed: a gateway that serves the CA. Default: its files are only watched.",
    )
    certificate_look: float = Field(60.0, gt=0, description="Seconds between looks at the files of the certificate.")
    certificate_settle: float = Field(
        35.0,
        ge=0,
        description="Seconds until a new certificate seals: every gateway has read of it in the registry by then.",
    )


class LimitsSection(Section):
    concurrency: int = Field(64, gt=0, description="Requests at a service's system at once; a service may set its own.")
    queue: int = Field(256, ge=0, description="Requests to a service that may wait, likewise; beyond it 503.")
    max_request: int = Field(64 << 20, gt=0, description="Largest request body in bytes.")
    max_answer: int = Field(64 << 20, gt=0, description="Largest answer body in bytes.")
    max_whole: int = Field(
        8 << 20,
        gt=0,
        description="Largest body that is held in memory: answers under release terms, requests to most sources.",
    )
    spool_folder: File | None = Field(
        None, description="Where large requests wait until they are whole; default: the system's temporary folder."
    )


class LedgerSection(Section):
    folder: File = Path("ledger")
    key: File | None = None
    """The key that the ledger's own log is signed with; made if missing. Default: `<folder>.key`, beside the folder."""


ServiceKind = HttpService | SoapService | SqlService | FilesService | PythonService


class AdapterContract(Section):
    """One adapter: a subsystem, its certificate, and a source for each of its services."""

    adapter: AdapterSection
    bus: BusSection
    limits: LimitsSection = LimitsSection()
    ledger: LedgerSection = LedgerSection()
    services: dict[
        Annotated[str, AfterValidator(_service_code)],
        Annotated[ServiceKind, Field(discriminator="source")],
    ] = Field(min_length=1)

    @property
    def subsystem(self) -> SubsystemId:
        return SubsystemId(self.adapter.subsystem)

    def with_ledger(self, folder: Path) -> AdapterContract:
        """The same with its ledger elsewhere: only one process writes one ledger. Its key is beside it, as by default."""
        return self.model_copy(update={"ledger": LedgerSection(folder=folder)})


def adapter_file(place: Path) -> Path:
    """The `adapter.toml` that a user names by itself or by its folder."""
    return place / "adapter.toml" if place.is_dir() else place


def read_contract(path: Path) -> AdapterContract:
    """Read `adapter.toml`, with every path made absolute.

    Raises:
        ContractError: Not readable, not TOML, or a value is missing, unknown or wrong.
    """
    try:
        contract = AdapterContract.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ContractError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ContractError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        # The context of the error holds the values, a password among them: it is cut off.
        raise ContractError(f"{path}: {_first_of(error)}") from None
    home = path.resolve().parent
    bus = contract.bus
    placed = {name: home / getattr(bus, name) for name in ("certificate", "key", "trust_anchors", "gateways")}
    placed["callers"] = home / (bus.callers or bus.trust_anchors)
    limits = contract.limits
    if limits.spool_folder is not None:
        limits = limits.model_copy(update={"spool_folder": home / limits.spool_folder})
    return contract.model_copy(
        update={
            "bus": bus.model_copy(update=placed),
            "limits": limits,
            "ledger": LedgerSection(
                folder=home / contract.ledger.folder,
                key=home / contract.ledger.key if contract.ledger.key is not None else None,
            ),
            "services": {name: _placed(service, home) for name, service in contract.services.items()},
        }
    )


def _placed(service: ServiceKind, home: Path) -> ServiceKind:
    placed = service.placed(home)
    return placed if placed.contract is None else placed.model_copy(update={"contract": home / placed.contract})


def _first_of(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where, kind = list(first["loc"]), first["type"]
    if kind.startswith("union_tag"):
        kinds = (f'"{get_args(kind.model_fields["source"].annotation)[0]}"' for kind in get_args(ServiceKind))
        return f"{_key(where)}.source: must be one of {', '.join(kinds)}"
    if where[0] == "services" and len(where) > 2:
        del where[2]  # the kind of source, which is no key
    message = {"missing": "is missing", "extra_forbidden": "is not a known key"}.get(
        kind, first["msg"].removeprefix("Value error, ")
    )
    return f"{_key(where)}: {message}"


def _key(where: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).removeprefix(".")
