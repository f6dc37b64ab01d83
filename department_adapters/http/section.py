"""`source = "http"`: a service that the department's own HTTP API answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from department_adapters.http.outbound import Outbound, TlsVersion, host_name, network, static_headers
from department_adapters.http.source import DEFAULT_METHODS, OURS, HttpMethod, HttpSource
from department_adapters.section import File, ServiceSection, resolved
from department_adapters.source import Source

_SECRET_NAME = re.compile(r"authorization|cookie|key|token|secret|password", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{[^}]*\}")


def _host(text: str) -> str:
    return host_name(text)


def _network(text: str) -> str:
    return str(network(text))


def _plain(text: str) -> str:
    return resolved(text, quoted=False)


def _bearer(text: str) -> str:
    # The whole of it: half a token in the file is half a secret.
    if not _REFERENCE.fullmatch(text):
        raise ValueError("no secret stands in the file: write ${NAME}, and set that variable, or use bearer_file")
    return _plain(text)


def _headers(given: dict[str, str]) -> dict[str, str]:
    for name, value in given.items():
        if _SECRET_NAME.search(name) and not _REFERENCE.search(value):
            raise ValueError(f"no secret stands in the file: write the value of {name} as ${{NAME}}")
    values = {name: _plain(value) for name, value in given.items()}
    static_headers(list(values.items()), ours=OURS)
    return values


class OutboundSection(ServiceSection):
    """The keys of every kind of source that speaks HTTP to the department's system."""

    connections: int = Field(100, gt=0, description="Connections to the system at most.")
    methods: list[HttpMethod] = Field(list(DEFAULT_METHODS), min_length=1, description="Others are answered with 405.")
    hosts: list[Annotated[str, AfterValidator(_host)]] = Field(
        [], description="Hosts that base_url may name; default: the one that it names."
    )
    allow_addresses: list[Annotated[str, AfterValidator(_network)]] = Field(
        [], description="Networks and addresses that may be connected to although they are not public."
    )
    trust_anchors: File | None = Field(None, description="PEM bundle for an https system; default: the machine's.")
    client_certificate: File | None = Field(None, description="PEM certificate to show to an https system.")
    client_key: File | None = Field(None, description="Its PEM key.")
    tls_min: TlsVersion = Field("1.2", description="The oldest TLS that is spoken.")
    bearer: Annotated[str, AfterValidator(_bearer)] | None = Field(
        None, repr=False, description="Token for the system, ${NAME}; takes the place of the caller's Authorization."
    )
    bearer_file: File | None = Field(None, description="File of such a token; read again when it changes.")
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = Field(
        {}, repr=False, description="Sent with each request, in place of the caller's."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.outbound()
        return self

    def outbound(self) -> Outbound:
        """As a source takes it; raises ValueError."""
        return Outbound(
            hosts=self.hosts,
            allow_addresses=self.allow_addresses,
            trust_anchors=self.trust_anchors,
            client_certificate=self.client_certificate,
            client_key=self.client_key,
            tls_min=self.tls_min,
            bearer=self.bearer,
            bearer_file=self.bearer_file,
            headers=static_headers(list(self.headers.items()), ours=OURS),
        )

    def http_source(self, base_url: str, *, max_answer: int) -> HttpSource:
        """A source over `base_url` with the keys of this section; raises ValueError."""
        return HttpSource(
            base_url,
            connections=self.connections,
            max_answer=max_answer,
            methods=frozenset(self.methods),
            outbound=self.outbound(),
        )

    def placed(self, home: Path) -> Self:
        files = {
            name: home / file
            for name in ("trust_anchors", "client_certificate", "client_key", "bearer_file")
            if (file := getattr(self, name)) is not None
        }
        return self.model_copy(update=files) if files else self


class HttpService(OutboundSection):
    """Requests are passed on to `base_url`."""

    source: Literal["http"]
    base_url: str

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, text: str, info: ValidationInfo) -> str:
        url = _plain(text)
        hosts, addresses = info.data.get("hosts"), info.data.get("allow_addresses")
        if hosts is not None and addresses is not None:  # else what is wrong is told of them
            HttpSource(url, outbound=Outbound(hosts=hosts, allow_addresses=addresses))
        return url

    def make_source(self, *, max_answer: int) -> Source:
        return self.http_source(self.base_url, max_answer=max_answer)
