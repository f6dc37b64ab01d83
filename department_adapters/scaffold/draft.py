"""What is drafted for an adapter before it is written: one service, its source, its contract and what its answers hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from department_adapters.scaffold.sensitivity import Proposal
from exchange import Language

CONTRACT_FILE = "contract.yaml"


class ScaffoldError(ValueError):
    """An adapter cannot be drafted from what was given. The message says what is missing, in English and Chinese."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.texts: dict[Language, str] = {"en": en, "zh": zh}


@dataclass(frozen=True, slots=True)
class Told:
    """A text in both languages."""

    en: str
    zh: str

    def of(self, language: Language) -> str:
        """In one of them."""
        return self.zh if language == "zh" else self.en


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDraft:
    """One service's source."""

    settings: str
    """What stands below `[services.CODE]`, from `source =` on: TOML with its comments."""
    tables: str = ""
    """TOML of the tables below it, `[[services.CODE.operations]]`."""
    contract: bytes
    """Its OpenAPI document, JSON or YAML."""
    values: Mapping[str, Sequence[object]] = field(default_factory=dict)
    """Item path -> some values that were looked at; used for proposals and forgotten."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Item path -> what it is called, where the contract does not tell."""
    secrets: Mapping[str, Told] = field(default_factory=dict)
    """Variable of the environment -> what it is to hold."""
    notes: Sequence[Told] = ()
    """What whoever asked for the draft should know."""
    origin: Told
    """What it was drafted from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDraft:
    """An item of the answers."""

    path: str
    title: str
    data_type: str
    """Of the catalogue's: string, integer, boolean, ..."""
    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationDraft:
    """An operation as the registry will know it."""

    method: str
    path: str
    safe: bool
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterDraft:
    """Everything that the folder is written from."""

    name: str
    subsystem: str
    service: str
    title: str
    bus: str
    gateway: str
    """The gateway's URL, at which the certificate is renewed; may be empty."""
    source: SourceDraft
    operations: Sequence[OperationDraft]
    items: Sequence[ItemDraft]


def variable(name: str, what: str) -> str:
    """The variable of the environment that holds a secret of an adapter: `tax-2`, `DB_PASSWORD` -> `TAX_2_DB_PASSWORD`."""
    prefix = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    return f"{'_' if prefix[:1].isdigit() else ''}{prefix}_{what}"
