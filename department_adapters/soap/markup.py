"""XML as it comes from a department's system: read without what makes XML dangerous, with names resolved.

Rules:
1. A document with a DTD is refused. So there are no entities, nothing expands, and nothing is fetched from anywhere.
2. Nesting has a limit.
3. Names are `{namespace}local`. Attributes that hold names (`type="tns:Parcel"`) are resolved while their prefixes are known.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

XSI = "http://www.w3.org/2001/XMLSchema-instance"
NIL = f"{{{XSI}}}nil"
XSI_TYPE = f"{{{XSI}}}type"
MAX_DEPTH = 200
_XML = "http://www.w3.org/XML/1998/namespace"
_DECLARED = re.compile(rb"""<\?xml\s[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What says GB 2312 or GBK often holds characters of its successor, which reads both.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}


class XmlError(ValueError):
    """The document is not XML, or more than is accepted here; the message says what, and may hold text of the document."""


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree; the parser calls its methods."""

    def __init__(self, names_in: frozenset[str]) -> None:
        super().__init__()
        self._names_in = names_in
        self._namespaces: dict[str, list[str]] = {"xml": [_XML]}
        self._depth = 0

    def doctype(self, *_: object) -> None:
        raise XmlError("the document has a DTD")

    def start_ns(self, prefix: str, uri: str) -> None:
        self._namespaces.setdefault(prefix or "", []).append(uri)

    def end_ns(self, prefix: str) -> None:
        self._namespaces[prefix or ""].pop()

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise XmlError(f"elements are nested deeper than {MAX_DEPTH}")
        for name in self._names_in & attrs.keys():
            attrs[name] = " ".join(self._resolved(each) for each in attrs[name].split())
        return super().start(tag, attrs)

    def end(self, tag: str) -> Element:
        self._depth -= 1
        return super().end(tag)

    def _resolved(self, name: str) -> str:
        prefix, _, local = name.rpartition(":")
        found = self._namespaces.get(prefix)
        if not found:
            return name  # an attribute that is called so and holds something else
        return f"{{{found[-1]}}}{local}" if found[-1] else local


def parse(document: bytes, names_in: Iterable[str] = (XSI_TYPE,), charset: str = "") -> Element:
    """The root of a document.

    Args:
        names_in: Attributes whose values are names, or lists of names; they are resolved.
        charset: Encoding that came with the document, for one that does not tell it.

    Raises:
        XmlError: Not well-formed, with a DTD, or nested too deep.
    """
    parser = ElementTree.XMLParser(target=_Builder(frozenset(names_in)))
    try:
        parser.feed(_decoded(document, charset))
        root: Element = parser.close()
    except XmlError:
        raise
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise XmlError(f"not XML: {error}") from error
    return root


def _decoded(document: bytes, charset: str) -> bytes | str:
    """As the parser can take it: it knows no encoding of several bytes a character but those of Unicode."""
    told = _DECLARED.match(document)
    name = told[1].decode() if told else charset
    if not name or document.startswith(_MARKS):
        return document
    codec = codecs.lookup(name).name
    return document if codec.startswith(("utf", "ascii")) else document.decode(_WIDER.get(codec, codec))


def local_name(name: str) -> str:
    """`{namespace}local` without its namespace."""
    return name.rpartition("}")[2]


def namespace(name: str) -> str:
    """The namespace of `{namespace}local`; empty if it has none."""
    return name[1:].partition("}")[0] if name.startswith("{") else ""
