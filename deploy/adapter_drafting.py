"""From what a department has to the draft of an adapter: the source, and what the registry's examination of its contract found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from department_adapters import (
    AdapterDraft,
    ItemDraft,
    OperationDraft,
    SourceDraft,
    draft_from_database,
    draft_from_files,
    draft_from_openapi,
    draft_from_wsdl,
    openapi_base_url,
    propose_sensitivity,
    wsdl_address,
)
from deploy.adapter_documents import FoundDocument, addresses_of, document_at
from registry import Examiner

_DATA_TYPES = {
    "integer": "integer",
    "number": "double",
    "boolean": "boolean",
    "object": "object",
    "array": "array",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an adapter is to be, as far as it was said."""

    name: str
    subsystem: str
    service: str
    title: str
    """Empty: what the source suggests."""
    tables: Sequence[str]
    key: Sequence[str]
    base_url: str
    bus: str
    gateway: str
    place: Path
    """Where its folder will be."""


async def drafted(kind: str, value: str, wanted: Wanted) -> AdapterDraft:
    """The whole adapter.

    Args:
        kind: What it is drafted from: `openapi`, `db`, `files` or `wsdl`.
        value: The file, URL or glob.

    Raises:
        ScaffoldError: It cannot be drafted from that.
        MeshError: The registry would refuse its contract; the error says where.
    """
    # A document of others is looked at before anything is believed that it says.
    document = await document_at(value) if kind == "openapi" else None
    found = await Examiner().examine(document.text) if document is not None else None
    source = await _source(kind, value, wanted, document)
    described = (found or await Examiner().examine(source.contract)).description
    items: dict[str, ItemDraft] = {}
    for operation in described.operations:
        for item in operation.items:
            called = source.titles.get(item.path) or item.title
            items[item.path] = ItemDraft(
                path=item.path,
                title=called,
                data_type=_data_type(item.type),
                proposal=propose_sensitivity(item.path, called, source.values.get(item.path, ())),
            )
    return AdapterDraft(
        name=wanted.name,
        subsystem=wanted.subsystem,
        service=wanted.service,
        title=wanted.title or described.title_zh or described.title_en,
        bus=wanted.bus,
        gateway=wanted.gateway,
        source=source,
        operations=[
            OperationDraft(
                method=each.operation.method, path=each.operation.path, safe=each.operation.safe, summary=each.summary
            )
            for each in described.operations
        ],
        items=list(items.values()),
    )


async def _source(kind: str, value: str, wanted: Wanted, document: FoundDocument | None) -> SourceDraft:
    name, service, place = wanted.name, wanted.service, wanted.place
    if kind == "db":
        return await draft_from_database(name, service, value, wanted.tables, key=wanted.key, folder=place)
    if kind == "files":
        return draft_from_files(name, service, value, key=wanted.key, folder=place)
    if kind == "wsdl":
        found = await addresses_of(wsdl_address(Path(value)))
        return draft_from_wsdl(Path(value), found, folder=place, title=wanted.title)
    assert document is not None
    base_url = wanted.base_url or openapi_base_url(document.text, document.place)
    return draft_from_openapi(name, document.text, base_url, await addresses_of(base_url), value)


def _data_type(json_type: str) -> str:
    """The catalogue's type of an item whose JSON type may be `string|null`."""
    first = next((each for each in json_type.split("|") if each != "null"), "")
    return _DATA_TYPES.get(first, "string")
