"""A service that a SOAP service answers, drafted from its WSDL: each of its operations as `POST /{operation}`, in JSON.

Nothing in a WSDL tells whether an operation changes something, so all are drafted as ones that may.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from department_adapters.scaffold.adapter_file import quoted
from department_adapters.scaffold.addresses import allowed_addresses
from department_adapters.scaffold.draft import ScaffoldError, SourceDraft, Told
from department_adapters.scaffold.lookup_contract import written_document
from department_adapters.soap.model import SchemaError
from department_adapters.soap.openapi import openapi_of
from department_adapters.soap.wsdl import Wsdl, load_wsdl


def wsdl_address(path: Path) -> str:
    """Where a WSDL says that its service stands; raises ScaffoldError if it cannot be read."""
    return _loaded(path).address


def draft_from_wsdl(path: Path, addresses: Sequence[str], *, folder: Path, title: str = "") -> SourceDraft:
    """The source.

    Args:
        path: The WSDL; what it imports lies in its folder.
        addresses: At which the host of its address is now; empty if nobody knows.
        folder: Where the adapter's file will lie.

    Raises:
        ScaffoldError: It cannot be read, offers nothing, or no adapter may connect there.
    """
    wsdl = _loaded(path)
    try:
        contract = written_document(openapi_of(wsdl, title=title))
    except SchemaError as error:
        raise ScaffoldError(f"{path}: {error}", f"{path}：{error}") from error
    if not wsdl.operations:
        raise ScaffoldError(f"{path} offers no operation that can be drafted.", f"{path} 没有可用的操作。")
    allowed, notes = allowed_addresses(wsdl.address, addresses)
    settings = [
        "# WSDL 中的每个操作以 POST /操作名 提供，请求和应答为 JSON；服务地址取自 WSDL。",
        "# Each operation of the WSDL is offered as POST /operation, in JSON; the WSDL says where the service stands.",
        'source = "soap"',
        f"wsdl = {quoted(os.path.relpath(path.absolute(), folder.absolute()))}",
        *allowed,
        'contract = "contract.yaml"',
    ]
    for name, why in wsdl.unsupported.items():
        notes.append(Told(f"{name} is not offered: {why}", f"未提供操作 {name}：{why}"))
    notes.append(
        Told(
            "A WSDL does not say which operations only read. Write `x-datong-safe: true` into contract.yaml for those that do.",
            "WSDL 不说明哪些操作只读。对只读操作，请在 contract.yaml 中写明 `x-datong-safe: true`。",
        )
    )
    return SourceDraft(
        settings="\n".join(settings),
        contract=contract,
        notes=notes,
        origin=Told(f"the WSDL {path.name}", f" WSDL {path.name} "),
    )


def _loaded(path: Path) -> Wsdl:
    try:
        return load_wsdl(path)
    except SchemaError as error:
        raise ScaffoldError(str(error), str(error)) from error
