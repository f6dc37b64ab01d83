"""What lies in the folder of a new adapter, as text in both languages. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from department_adapters.scaffold.adapter_file import adapter_text, one_line
from department_adapters.scaffold.draft import CONTRACT_FILE, AdapterDraft, OperationDraft
from exchange import Language

_TEST = '''\
"""本适配器的自测：不需要总线和证书，只读。运行：pytest
The adapter's own test: it asks the department's system through the adapter's source, without a mesh. It only reads. Run: pytest
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from department_adapters import SampleCall, sample_calls

ADAPTER = Path(__file__).with_name("adapter.toml")


@pytest.fixture(scope="module")
def calls() -> list[SampleCall]:
    """One call of each operation that changes nothing, with values that something is found by."""
    return asyncio.run(sample_calls(ADAPTER))


def test_every_operation_is_tried(calls: list[SampleCall]) -> None:
    missing = [call.operation for call in calls if not call.target]
    assert calls and not missing, f"give examples in contract.yaml 请在 contract.yaml 中给出示例: {missing}"


def test_the_answers_are_as_the_contract_says(calls: list[SampleCall]) -> None:
    for call in calls:
        assert call.status is not None, f"{call.operation}: {call.trouble}"
        assert 200 <= call.status < 300, f"{call.operation}: {call.target} -> {call.status}"
        assert not call.faults, f"{call.operation}: {call.target}: {call.faults}"


def test_the_answers_hold_only_the_items_that_are_listed(calls: list[SampleCall]) -> None:
    for call in calls:
        assert not call.unlisted, f"{call.operation}: add to items in adapter.toml 请补充 items: {call.unlisted}"
'''

_REGISTER = """\
#!/bin/sh
# 向平台登记本适配器提供的服务；由登记管理员执行。
# Registers what this adapter offers. For whoever keeps the registry:
#   sh register.sh 'approval 2026-7'                        # the reason, kept on record 登记理由
#   sh register.sh 'approval 2026-7' --data datong-data     # options of the commands follow 其后可跟命令选项
set -eu
why=${{1:?the reason 登记理由}}
shift
here=$(dirname "$0")
datong service add {service} \\
  --title {title} \\
{operations}
  --why "$why" "$@"
datong service describe {service} "$here/{contract}" --why "$why" "$@"
"""

_README = """\
# {title}

An adapter drafted from {origin}. It answers for the service `{service}`: it connects outward to the bus, asks the
department's own system, and seals what it releases. It opens no port, and it only reads unless its contract says otherwise.

## From here to the first call

1. Look through `adapter.toml`: the source, and under `items` what is sensitive. What was guessed is said beside it.
{secrets}2. Try it; nothing of the mesh is needed for this:
   ```
   datong adapter check . --no-bus
   pytest
   ```
3. Have it registered: `sh register.sh 'the approval'` by whoever keeps the registry, and a one-time code for
   `{subsystem}`: `datong ca code --adapter --for {subsystem} --why 'the approval'`.
4. Enrol with the code, check everything, run:
   ```
   datong adapter enrol . --gateway URL --root-fingerprint SHA256 --code CODE
   datong adapter check .
   datong adapter run .
   ```
5. Whoever owns the data grants it:
   ```
   {grant}
   ```

| file | what it is |
|---|---|
| `adapter.toml` | everything the adapter is told |
| `{contract}` | what callers may ask and get, OpenAPI |
| `register.sh` | the commands that register the service |
| `resource.json` | its entry in the catalogue, for `datong catalogue add`; fill in what is empty |
| `test_adapter.py` | the adapter's own test |

## Operations

{operations}

## Items

{items}
"""

_README_ZH = """\
# {title}

由{origin}生成的适配器，提供服务 `{service}`：主动向外连接总线，查询本部门系统，对放行的数据签名。不开放端口；除契约另有声明外只读。

## 从生成到首次调用

1. 核对 `adapter.toml`：数据来源，以及 `items` 中的敏感级别；推断的依据写在行尾。
{secrets}2. 试运行，不需要平台：
   ```
   datong adapter check . --no-bus
   pytest
   ```
3. 由登记管理员登记：`sh register.sh '批复文号'`，并为 `{subsystem}` 发放一次性注册码：
   `datong ca code --adapter --for {subsystem} --why '批复文号'`。
4. 用注册码申请证书，全面检查，运行：
   ```
   datong adapter enrol . --gateway 网关地址 --root-fingerprint 根证书指纹 --code 注册码
   datong adapter check .
   datong adapter run .
   ```
5. 由数据所有者授权：
   ```
   {grant}
   ```

| 文件 | 内容 |
|---|---|
| `adapter.toml` | 适配器的全部配置 |
| `{contract}` | 接口契约，OpenAPI |
| `register.sh` | 登记服务的命令 |
| `resource.json` | 目录条目，供 `datong catalogue add` 使用；空白项请自行填写 |
| `test_adapter.py` | 适配器自测 |

## 操作

{operations}

## 数据项

{items}
"""


def adapter_files(draft: AdapterDraft) -> dict[str, bytes]:
    """Name -> content of every file."""
    texts = {
        "adapter.toml": adapter_text(draft),
        "README.md": _readme(draft, _README, "en"),
        "README.zh.md": _readme(draft, _README_ZH, "zh"),
        "register.sh": _register(draft),
        "resource.json": json.dumps(_resource(draft), ensure_ascii=False, indent=2) + "\n",
        "test_adapter.py": _TEST,
        ".gitignore": "pki/\nledger/\n*.key\n",
    }
    return {CONTRACT_FILE: draft.source.contract, **{name: text.encode() for name, text in texts.items()}}


def grant_command(draft: AdapterDraft) -> str:
    """A command that grants the service with the masks that are proposed."""
    masked = {each.path: each.proposal.mask for each in draft.items if each.proposal.mask}
    words = ["datong", "grant", "add", "CLIENT", f"{draft.subsystem}/{draft.service}", "--purpose", "PURPOSE"]
    for path, mask in masked.items():
        words += ["--mask", f"{path}={mask}"]
    return shlex.join([*words, "--why", "APPROVAL"])


def _register(draft: AdapterDraft) -> str:
    lines = []
    for each in draft.operations:
        safe = "safe" if each.safe else "unsafe"
        lines.append(f"  --operation {shlex.quote(f'{each.method} {each.path} {safe}')} \\")
    return _REGISTER.format(
        service=shlex.quote(f"{draft.subsystem}/{draft.service}"),
        title=shlex.quote(draft.title),
        operations="\n".join(lines),
        contract=CONTRACT_FILE,
    )


def _readme(draft: AdapterDraft, template: str, language: Language) -> str:
    source = draft.source
    told = {name: what.of(language) for name, what in source.secrets.items()}
    says = (
        "机密以环境变量提供，不写入文件"
        if language == "zh"
        else "Secrets come by the environment, and stand in no file"
    )
    secrets = f"   {says}:\n   ```\n{''.join(_exports(told))}   ```\n" if told else ""
    return template.format(
        title=one_line(draft.title),
        origin=one_line(source.origin.of(language)),
        service=f"{draft.subsystem}/{draft.service}",
        subsystem=draft.subsystem,
        secrets=secrets,
        grant=grant_command(draft),
        contract=CONTRACT_FILE,
        operations="\n".join(_operation_lines(draft)),
        items="\n".join(_item_lines(draft, language)),
    )


def _exports(secrets: Mapping[str, str]) -> Iterator[str]:
    for name, what in secrets.items():
        yield f"   export {name}=…   # {what}\n"


def _operation_lines(draft: AdapterDraft) -> Iterator[str]:
    for each in draft.operations:
        yield one_line(f"- `{each.method} {each.path}`{f': {each.summary}' if each.summary else ''}")


def _item_lines(draft: AdapterDraft, language: Language) -> Iterator[str]:
    if not draft.items:
        yield "契约未说明应答的数据项。" if language == "zh" else "The contract does not say what its answers hold."
        return
    yield (
        "| 数据项 | 名称 | 敏感级别 | 建议脱敏 | 依据 |"
        if language == "zh"
        else "| item | name | sensitivity | mask | because |"
    )
    yield "|---|---|---|---|---|"
    for each in draft.items:
        proposal = each.proposal
        why = proposal.why_zh if language == "zh" else proposal.why
        cells = (f"`{each.path}`", each.title, proposal.sensitivity, proposal.mask, why)
        yield one_line(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")


def _resource(draft: AdapterDraft) -> dict[str, Any]:
    """An entry of the catalogue. What only the department can decide is left empty, and refused until it is filled in."""
    step = {"code": "", "name": ""}
    return {
        "code": "",
        "classification": {"category": {"code": "3", "name": "部门信息资源"}, "subcategory": step, "entry": step},
        "provider": draft.subsystem,
        "name": draft.title,
        "abstract": "",
        "format": "database",
        "items": [
            {
                "path": each.path,
                "name": each.title or each.path,
                "data_type": each.data_type,
                "sensitivity": each.proposal.sensitivity,
                "mask": each.proposal.mask,
            }
            for each in draft.items
        ],
        "sharing_class": "conditional",
        "conditions": "",
        "mode": "query-interface",
        "update_cycle": "",
        "accesses": _accesses(draft.operations, f"{draft.subsystem}/{draft.service}"),
    }


def _accesses(operations: Sequence[OperationDraft], service: str) -> list[dict[str, str]]:
    return [{"service": service, "method": each.method, "path": each.path} for each in operations]
