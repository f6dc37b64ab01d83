"""Everything an operator can set for a gateway: read once by the entry point, then passed on as values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


class Settings(BaseSettings):
    """Settings of one gateway, from the environment (prefix `DATONG_`). Times are seconds, sizes bytes."""

    model_config = SettingsConfigDict(env_prefix="DATONG_", frozen=True, extra="ignore")

    # Who we are and whom we trust. No defaults: no CA, no start.
    trust_anchors: Path = Field(description="PEM bundle of accepted CAs for callers, adapters and the bus.")
    trust_file: Path | None = Field(
        None,
        description="Which CAs are accepted for callers and how (docs/profiles/trust-file.md); else trust_anchors.",
    )
    revocation_folder: Path = Field(
        Path("datong-data/revocation"), description="Where the news of revoked certificates is kept."
    )
    ca_folder: Path | None = Field(
        None, description="Folder of the issuing CA (`datong ca init`) that is served under /v1/certificates."
    )
    server_certificate: Path = Field(description="PEM chain of the HTTPS server certificate.")
    server_key: Path = Field(description="PEM key of the HTTPS server certificate.")
    gateway_certificate: Path = Field(
        description="PEM certificate whose key seals requests; also its identity on the bus."
    )
    gateway_key: Path = Field(description="PEM key of the gateway certificate.")
    log_key: Path = Field(
        description="Note signer key (C2SP signed note, Ed25519) for checkpoints of the exchange log."
    )
    subject_key: Path = Field(
        description="File of 32 random bytes that make pseudonyms of the numbers of persons and companies (docs/subjects.md)."
    )

    # How our own certificates are replaced while we run.
    renewal_url: str = Field(
        "", description="https address where the gateway renews its own certificates; default: they are only watched."
    )
    certificate_look: float = Field(
        60.0, gt=0, description="How often our certificate files are looked at; a replaced one is loaded."
    )
    certificate_settle: float = Field(
        35.0,
        ge=0,
        description="A new gateway certificate seals this long after its file is there: adapters know it by then.",
    )

    # Where things are.
    gateway_name: str = Field(
        "",
        description="Name of this gateway process, unlike any other at the same log; default: its certificate's URI.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8443, ge=0, le=65535, description="Port to listen on; 0 chooses a free one.")
    public_url: str = Field("", description="How callers reach this gateway, for links; default https://host:port.")
    bus_url: str = Field("tls://127.0.0.1:4222", description="NATS servers, comma-separated.")
    bus_public_url: str = Field(
        "",
        pattern=r"^(tls://[^\s,]+(, ?tls://[^\s,]+)*)?$",
        description="The same as adapters reach them, told to those that enrol. Default: DATONG_BUS_URL.",
    )
    registry_database: str = Field("sqlite:///datong-data/registry.db", description="Database URL of the registry.")
    log_database: str = Field("sqlite:///datong-data/log.db", description="Database URL of the exchange log.")
    nonce_database: str = Field(
        "sqlite:///datong-data/nonces.db",
        description="Database URL of the used nonces of signed requests; one for all gateways that answer to one name.",
    )
    quota_database: str = Field(
        "sqlite:///datong-data/quotas.db",
        description="Database URL of the counts of quotas; one for all gateways of a mesh.",
    )
    subject_database: str = Field(
        "sqlite:///datong-data/subjects.db",
        description="Database URL of the keys under which subjects are hashed; one for all gateways of a mesh.",
    )
    search_database: str = Field(
        "",
        description="Database URL of the search index, which is derived from the log; default: beside the log (docs/audit.md).",
    )

    # Who else vouches for the log, and how long its records are kept.
    witness_policy: Path | None = Field(
        None,
        description="Witnesses and quorum (C2SP tlog-policy) that make a receipt final; default: none (docs/witnesses.md).",
    )
    timestamps: Path | None = Field(
        None,
        description="TOML file of RFC 3161 authorities that stamp checkpoints (docs/timestamps.md); default: none.",
    )
    retention: Path | None = Field(
        None, description="TOML file of retention classes (docs/retention.md); default: three years for everything."
    )

    # How working days are counted.
    jurisdictions: Path | None = Field(
        None, description="TOML file of deadlines per jurisdiction (docs/clock.md); default: the packaged ones."
    )
    holiday_notices: Path | None = Field(
        None, description="TOML file of holiday notices that the program does not know yet (docs/clock.md)."
    )
    two_person_decisions: bool = Field(
        False, description="Two persons decide about every application, also where its resource does not demand it."
    )

    # What else than the national codes a resource of the catalogue may have.
    catalogue_code_pattern: Annotated[str, AfterValidator(_regular_expression)] = Field(
        "", description="Regular expression of further resource codes (docs/catalogue.md); default: national ones only."
    )

    # What is held against the registered OpenAPI documents.
    contract_checks: Literal["enforce", "report", "off"] = Field(
        "enforce",
        description="Whether requests that break a contract are refused, or only told of in events (docs/contracts.md).",
    )

    # Limits.
    max_body: int = Field(64 << 20, gt=0, description="Largest request body of any service; a service may set less.")
    spool_folder: Path | None = Field(
        None, description="Where large requests wait until they are whole; default: the system's temporary folder."
    )
    max_streams: int = Field(32, gt=0, description="Large answers passed on at once; further ones wait.")
    stream_stall: float = Field(
        30.0, gt=0, le=100, description="A large answer of which nothing comes, or is taken, for so long is broken off."
    )
    max_head: int = Field(16 << 10, gt=0, description="Largest request head; beyond it 431.")
    max_header_lines: int = Field(64, gt=0, description="Most header lines; beyond it 431.")
    handshake_timeout: float = Field(10.0, gt=0, description="A TLS handshake not complete by then is cut off.")
    head_timeout: float = Field(10.0, gt=0, description="A request head not complete by then is refused and closed.")
    body_timeout: float = Field(
        10.0, gt=0, description="A request body not complete by then, plus its bytes, is refused."
    )
    body_rate: int = Field(16 << 10, gt=0, description="Bytes of a body that give it a second more.")
    idle_timeout: float = Field(75.0, gt=0, description="An idle connection is closed after this time.")
    max_in_progress: int = Field(
        512, gt=0, description="Requests in progress at once; beyond it 503. One department has half of them at most."
    )
    max_in_progress_per_client: int = Field(512, gt=0, description="The same, for one client subsystem.")
    registry_poll: float = Field(0.25, gt=0, description="How often the registry is asked for changes.")
    registry_max_age: float = Field(30.0, gt=0, description="A registry not confirmed for so long refuses everything.")
    checkpoint_interval: float = Field(
        1.0, gt=0, le=45, description="A record is under a signed checkpoint within this time."
    )
    recovery_grace: float = Field(
        5.0, ge=0, description="After its deadline plus this, an open intent becomes unknown."
    )
    keys_file: Path | None = Field(None, description="Where the key list for `datong verify` is written at start.")
    ready_file: Path | None = Field(None, description="Written with the address when the gateway accepts requests.")
