"""The natural-resources bureau's own SOAP service, as a department would have it before it joins the mesh: it knows nothing of
Datong.

    python -m deploy.demo.land_bureau --data DIR [--port N] [--port-file FILE]

One address, `POST /services/land`; its description is at `/services/land?wsdl`. Its faults are its own, in Chinese.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from deploy.demo.land_register import LandRegister, Property
from deploy.demo.serving import AsgiApp, run_backend

NAMESPACE = "urn:sample-city:land"
ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_MAX_BODY = 64 << 10
_UNIT = re.compile(r"[0-9]{12}[A-Z]{2}[0-9]{5}[FW][0-9]{8}")
_CITIZEN = re.compile(r"[0-9]{17}[0-9X]")
_PATH = "/services/land"

ElementTree.register_namespace("soap", ENVELOPE)
ElementTree.register_namespace("land", NAMESPACE)


class LandFaultError(Exception):
    """A request that is not served: a fault with this code, text and, if it has one, element in the detail."""

    def __init__(self, code: str, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.code, self.text, self.detail = code, text, detail


def wsdl(address: str) -> bytes:
    """The service's description, with the address it is at."""
    text = importlib.resources.files("deploy.demo").joinpath("land_bureau.wsdl").read_text(encoding="utf-8")
    return text.replace("http://land.sample-city.example/services/land", address).encode()


def create_app(register: LandRegister, clock: Callable[[], datetime]) -> AsgiApp:
    """Return the service over an open register; `clock` gives aware times."""
    operations = {f"{{{NAMESPACE}}}GetProperty": _get_property, f"{{{NAMESPACE}}}FindByOwner": _find_by_owner}

    def answer(body: bytes) -> Element:
        asked = _asked(body)
        operation = operations.get(asked.tag)
        if operation is None:
            raise LandFaultError("Client", "没有此操作")
        return operation(asked, register, clock())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] != _PATH:
            await _send(send, 404, b"", b"text/plain")
        elif scope["method"] == "GET" and scope["query_string"].lower() == b"wsdl":
            host = dict(scope["headers"]).get(b"host", b"127.0.0.1").decode("latin-1")
            await _send(send, 200, wsdl(f"http://{host}{_PATH}"))
        elif scope["method"] != "POST":
            await _send(send, 405, b"", b"text/plain")
        else:
            try:
                body = await _read(receive)
                await _send(send, 200, _envelope(answer(body)))
            except LandFaultError as fault:
                await _send(send, 500, _envelope(_fault(fault)))

    return app


def _asked(body: bytes) -> Element:
    """The first element of the envelope's body."""
    if b"<!DOCTYPE" in body or b"\0" in body:
        raise LandFaultError("Client", "请求不得含有 DTD，且须为 UTF-8")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise LandFaultError("Client", "请求不是 XML") from error
    if root.tag != f"{{{ENVELOPE}}}Envelope":
        raise LandFaultError("VersionMismatch", "仅支持 SOAP 1.1")
    asked = root.find(f"{{{ENVELOPE}}}Body/*")
    if asked is None:
        raise LandFaultError("Client", "请求为空")
    return asked


def _given(asked: Element, name: str) -> str | None:
    return asked.findtext(f"{{{NAMESPACE}}}{name}")


def _get_property(asked: Element, register: LandRegister, _now: datetime) -> Element:
    unit = _given(asked, "unitNumber") or ""
    if not _UNIT.fullmatch(unit):
        raise LandFaultError("Client", "不动产单元号格式不正确", "InvalidNumber")
    found = register.property(unit)
    if found is None:
        raise LandFaultError("Client", "未找到该不动产单元", "PropertyNotFound")
    told = Element(f"{{{NAMESPACE}}}GetPropertyResponse")
    _add_property(told, found)
    return told


def _find_by_owner(asked: Element, register: LandRegister, now: datetime) -> Element:
    number, usage = _given(asked, "ownerNumber") or "", _given(asked, "usage")
    if not _CITIZEN.fullmatch(number):
        raise LandFaultError("Client", "公民身份号码格式不正确", "InvalidNumber")
    told = Element(f"{{{NAMESPACE}}}FindByOwnerResponse")
    _add(told, "ownerNumber", number)
    _add(told, "asOf", now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"))
    for each in register.owned_by(number):
        if usage in (None, each.usage):
            _add_property(told, each)
    return told


def _add_property(parent: Element, found: Property) -> None:
    node = _add(parent, "property")
    _add(node, "unitNumber", found.unit_number)
    _add(node, "certificateNumber", found.certificate_number)
    _add(node, "location", found.location)
    _add(node, "usage", found.usage)
    _add(node, "area", f"{found.area_cm2 // 10_000}.{found.area_cm2 % 10_000 // 100:02d}").set("unit", "m2")
    _add(node, "registeredOn", found.registered_on)
    land_until = _add(node, "landUntil", found.land_until or "")
    if found.land_until is None:
        land_until.set(f"{{{_XSI}}}nil", "true")
    _add(node, "seized", "true" if found.seized else "false")
    for owner in found.owners:
        inner = _add(node, "owner")
        _add(inner, "number", owner.number)
        _add(inner, "name", owner.name)
        _add(inner, "share", owner.share)
    for mortgage in found.mortgages:
        inner = _add(node, "mortgage")
        _add(inner, "creditor", mortgage.creditor)
        _add(inner, "amount", f"{mortgage.amount_fen // 100}.{mortgage.amount_fen % 100:02d}")
        _add(inner, "registeredOn", mortgage.registered_on)


def _add(parent: Element, name: str, text: str | None = None) -> Element:
    node = SubElement(parent, f"{{{NAMESPACE}}}{name}")
    node.text = text
    return node


def _fault(fault: LandFaultError) -> Element:
    node = Element(f"{{{ENVELOPE}}}Fault")
    SubElement(node, "faultcode").text = f"soap:{fault.code}"
    SubElement(node, "faultstring").text = fault.text
    if fault.detail:
        SubElement(SubElement(node, "detail"), f"{{{NAMESPACE}}}{fault.detail}")
    return node


def _envelope(content: Element) -> bytes:
    envelope = Element(f"{{{ENVELOPE}}}Envelope")
    SubElement(envelope, f"{{{ENVELOPE}}}Body").append(content)
    told: bytes = ElementTree.tostring(envelope, encoding="utf-8", xml_declaration=True)
    return told


async def _read(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _MAX_BODY:
            raise LandFaultError("Client", "请求过大")
    return body


async def _send(send: Any, status: int, body: bytes, media_type: bytes = b"text/xml; charset=utf-8") -> None:
    head = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Run the bureau until SIGTERM, SIGINT or the parent's death."""
    run_backend(
        "land bureau", "land.sqlite", LandRegister, lambda register: create_app(register, lambda: datetime.now(UTC))
    )


if __name__ == "__main__":
    main()
