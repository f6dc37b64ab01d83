"""The text of a drafted `adapter.toml`, commented in both languages. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from department_adapters.scaffold.draft import AdapterDraft, ItemDraft

# Paths are those that `datong adapter enrol` fills.
_HEAD = """\
# {origin_zh}生成的适配器配置，可自行修改。路径相对于本目录；口令等机密只写环境变量名 ${{NAME}}。
# An adapter drafted from {origin}; it is yours to change. Paths are relative to this folder; of secrets it names the
# variable of the environment, ${{NAME}}, never the value.

[adapter]
name = {name}
subsystem = {subsystem}
description = {title}

# 与总线的连接由本机向外发起，不开放端口。证书等文件由 `datong adapter enrol` 放入 pki/。
# The connection to the bus is made from here; no port is opened. `datong adapter enrol` puts the files into pki/.
[bus]
url = {bus}
certificate = "pki/adapter.crt"
key = "pki/adapter.key"
trust_anchors = "pki/ca.pem"
gateways = "pki/gateways.pem"
{renewal}
# 并发与大小上限（字节）。 What the department's system is spared: requests at once and waiting, sizes in bytes.
[limits]
concurrency = 16
queue = 64
max_request = 1048576
max_answer = 16777216

# {service_zh}
[services.{code}]
{settings}
"""

_ITEMS = """
# 应答中的数据项：敏感级别与建议的脱敏方式，按名称和取值推断，请核对。
# 实际放行哪些项、如何脱敏，由授权决定（datong grant add --item … --mask …）。
# The items of its answers: how sensitive, and the mask proposed for grants; guessed from names and values, so look through them.
# What is released, and masked how, each grant says: datong grant add --item … --mask …
[services.{code}.items]
"""


def adapter_text(draft: AdapterDraft) -> str:
    """The file."""
    source = draft.source
    renewal = f"renewal_url = {quoted(draft.gateway)}\n" if draft.gateway else ""
    text = _HEAD.format(
        origin=one_line(source.origin.en),
        origin_zh=one_line(source.origin.zh),
        name=quoted(draft.name),
        subsystem=quoted(draft.subsystem),
        title=quoted(draft.title),
        bus=quoted(draft.bus),
        renewal=renewal,
        service_zh=f"服务 {draft.service}。 The service.",
        code=draft.service,
        settings=source.settings.strip(),
    )
    if source.tables:
        text += f"\n{source.tables.strip()}\n"
    if draft.items:
        text += _ITEMS.format(code=draft.service) + "".join(_item_lines(draft.items))
    return text


def _item_lines(items: Sequence[ItemDraft]) -> Iterator[str]:
    for each in items:
        proposal = each.proposal
        values = {"name": each.title, "sensitivity": proposal.sensitivity, "mask": proposal.mask}
        written = ", ".join(f"{key} = {quoted(value)}" for key, value in values.items() if value)
        why = f"  # {proposal.why_zh} {proposal.why}" if proposal.why else ""
        yield f"{quoted(each.path)} = {{ {written} }}{why}\n"


def one_line(text: str) -> str:
    """A text of others as it may stand in a comment: on one line, whatever it holds."""
    return "".join(each if each.isprintable() else " " for each in text)


def quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")


def listed(texts: Sequence[str]) -> str:
    """A TOML array of strings."""
    return f"[{', '.join(map(quoted, texts))}]"


def inline_table(values: Mapping[str, str]) -> str:
    """A TOML inline table of strings."""
    return f"{{ {', '.join(f'{quoted(key)} = {quoted(value)}' for key, value in values.items())} }}"


def written_query(query: str) -> str:
    """A statement as TOML: on lines of its own, as it is, where it can stand so."""
    plain = all(each.isprintable() for each in query.split("\n")) and "'''" not in query
    return f"'''\n{query}\n'''" if plain else quoted(query)
