"""Addresses that are not public, as a drafted section lists them: each by itself, and said."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from department_adapters.http.outbound import METADATA, Addresses
from department_adapters.scaffold.adapter_file import listed
from department_adapters.scaffold.draft import ScaffoldError, Told


def allowed_addresses(url: str, addresses: Sequence[str]) -> tuple[list[str], list[Told]]:
    """Lines of a section for a system at a URL, and what is to be said of them.

    Args:
        addresses: Of the URL's host; empty if nobody knows them.

    Raises:
        ScaffoldError: It is where clouds hand out credentials.
    """
    found = {ipaddress.ip_address(each.partition("%")[0]) for each in addresses}
    host = urlsplit(url).hostname
    if any(each in METADATA for each in found):
        raise ScaffoldError(
            f"{host} is where a cloud hands out its credentials: no adapter is drafted for that.",
            f"{host} 是云平台发放凭据的地址，不能作为数据来源。",
        )
    public = Addresses()
    private = sorted(str(each) for each in found if not public.allowed(each))
    if not private:
        return [], []
    lines = [
        "# 非公网地址须逐一列出。 Addresses that are not public are connected to only if they are listed.",
        f"allow_addresses = {listed(private)}",
    ]
    shown = ", ".join(private)
    return lines, [
        Told(
            f"{host} is at {shown}, which is not public: allow_addresses lists it. Look whether that is the system you mean.",
            f"{host} 的地址 {shown} 不是公网地址，已写入 allow_addresses，请确认是否为目标系统。",
        )
    ]
