"""A service that the department's own HTTP API answers, drafted from its OpenAPI document. Pure.

Rules:
1. The document is the contract as it is. The registry examines it, so what is drafted here was examined.
2. Where the API stands is taken from `servers`, or told. An address that is not public is listed one by one, and said.
3. What the document wants callers to prove becomes a reference to the environment: the adapter knows the secret, callers do not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from department_adapters.checking.documents import Tree, followed, operations_of
from department_adapters.scaffold.adapter_file import inline_table, listed, quoted
from department_adapters.scaffold.addresses import allowed_addresses
from department_adapters.scaffold.draft import ScaffoldError, SourceDraft, Told, variable
from exchange import read_contract_document


def openapi_base_url(document: bytes, place: str = "") -> str:
    """Where a document says that the API stands; raises ScaffoldError if it does not.

    Args:
        document: One that the registry has examined.
        place: The document's own URL, which a relative server begins from; empty for a file.
    """
    servers = read_contract_document(document).get("servers")
    first = servers[0] if isinstance(servers, list) and servers and isinstance(servers[0], dict) else {}
    url = str(first.get("url", ""))
    variables = first.get("variables")
    for name, described in variables.items() if isinstance(variables, dict) else ():
        if isinstance(described, dict):
            url = url.replace(f"{{{name}}}", str(described.get("default", "")))
    url = urljoin(place, url or "/") if place else url
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname or "{" in url:
        raise ScaffoldError(
            "The document does not say at which address the API stands: give --base-url https://host/path.",
            "文档没有说明接口地址：请用 --base-url https://主机/路径 指定。",
        )
    return url.rstrip("/")


def draft_from_openapi(name: str, document: bytes, base_url: str, addresses: Sequence[str], origin: str) -> SourceDraft:
    """The source.

    Args:
        name: The adapter's name, for the variables of secrets.
        document: One that the registry has examined.
        addresses: At which the host of `base_url` is now; empty if nobody knows.
        origin: The file or URL of the document, for people.

    Raises:
        ScaffoldError: No adapter may connect there.
    """
    tree = read_contract_document(document)
    methods = {each.method for each in operations_of(tree)}
    methods |= {"HEAD"} if "GET" in methods else set()
    lines = [
        "# 本部门自有的 HTTP 接口；只使用列出的方法，不跟随重定向，不使用代理。",
        "# The department's own HTTP API. Other methods are refused, redirects not followed, proxies not used.",
        'source = "http"',
        f"base_url = {quoted(base_url)}",
        f"methods = {listed(sorted(methods))}",
    ]
    allowed, notes = allowed_addresses(base_url, addresses)
    lines += allowed
    secrets: dict[str, Told] = {}
    lines += _credentials(name, tree, secrets)
    lines.append('contract = "contract.yaml"')
    return SourceDraft(
        settings="\n".join(lines),
        contract=document,
        secrets=secrets,
        notes=notes,
        origin=Told(f"the OpenAPI document {origin}", f"OpenAPI 文档 {origin} "),
    )


def _credentials(name: str, tree: Tree, secrets: dict[str, Told]) -> list[str]:
    """Lines for what the document's first security requirement asks for, and the secrets that they name."""
    components = tree.get("components")
    schemes: Any = components.get("securitySchemes") if isinstance(components, dict) else None
    if not isinstance(schemes, dict):
        return []
    headers: dict[str, str] = {}
    lines: list[str] = []
    for scheme_name in _required(tree):
        scheme = followed(tree, schemes.get(scheme_name))
        kind, http = scheme.get("type"), str(scheme.get("scheme", "")).lower()
        if (kind == "http" and http == "bearer") or kind in ("oauth2", "openIdConnect"):
            name_of = variable(name, "TOKEN")
            secrets[name_of] = Told("the token that the API wants", "访问接口的令牌")
            lines = [f'bearer = "${{{name_of}}}"']
        elif kind == "http" and http == "basic":
            name_of = variable(name, "BASIC")
            secrets[name_of] = Told("user:password in Base64, for the API", "访问接口的“用户名:口令”的 Base64 编码")
            headers["Authorization"] = f"Basic ${{{name_of}}}"
        elif kind == "apiKey" and scheme.get("in") == "header" and isinstance(scheme.get("name"), str):
            name_of = variable(name, re.sub(r"[^A-Z0-9]+", "_", scheme["name"].upper()).strip("_") or "KEY")
            secrets[name_of] = Told(f"the value of the header {scheme['name']}", f"请求头 {scheme['name']} 的值")
            headers[scheme["name"]] = f"${{{name_of}}}"
    if headers:
        lines.append(f"headers = {inline_table(headers)}")
    if not lines:
        return []
    return ["# 访问接口所需的凭据。 What the API wants to be shown; callers' own is replaced.", *lines]


def _required(tree: Tree) -> list[str]:
    """Names of the schemes that the document, or else its first operation that wants any, requires."""
    for value in (tree, *(each.value for each in operations_of(tree))):
        requirement = value.get("security")
        if isinstance(requirement, list) and requirement and isinstance(requirement[0], dict) and requirement[0]:
            return [str(each) for each in requirement[0]]
    return []
