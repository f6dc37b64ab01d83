"""What `datong up` says: for people in English or Chinese, or for programs as one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from deploy.demo.identities import DEPARTMENTS
from deploy.examples import Example, examples
from deploy.mesh import Report
from deploy.supervisor import Event
from deploy.witnesses import OFFICES
from exchange import Language

Say = Callable[[str], None]

_STEPS: dict[str, dict[Language, str]] = {
    "ca": {"en": "demo CA: root SHA-256 {ca}", "zh": "演示 CA：根证书 SHA-256 {ca}"},
    "registry": {
        "en": "registry: {registry}, {members} members, {services} services",
        "zh": "登记库：{registry}，{members} 个成员，{services} 项服务",
    },
    "civil": {
        "en": "civil affairs bureau's own database: {civil}",
        "zh": "民政局自有数据库：{civil}",
    },
    "health": {
        "en": "health bureau's own files: {health}",
        "zh": "卫生健康局自有文件：{health}",
    },
    "nats": {"en": "NATS {nats}: {nats_url}, only over mTLS", "zh": "NATS {nats}：{nats_url}，仅限双向 TLS"},
    "tax": {"en": "tax bureau's own API: {backend}", "zh": "税务局自有接口：{backend}"},
    "land": {"en": "natural-resources bureau's own SOAP service: {land}", "zh": "自然资源局自有 SOAP 服务：{land}"},
    "adapters": {
        "en": "adapters: tax 税务局 -> HTTP, civil 民政局 -> SQL, health 卫健局 -> files, land 自然资源局 -> SOAP "
        "(they dial out, no inbound port)",
        "zh": "适配器：税务局 -> HTTP，民政局 -> SQL，卫健局 -> 文件，自然资源局 -> SOAP（只向外连接，不开入站端口）",
    },
    "witnesses": {
        "en": "witnesses of the log: audit office {audit_witness}, civil affairs bureau {civil_witness}; a receipt is final "
        "when both cosigned",
        "zh": "日志见证方：审计局 {audit_witness}，民政局 {civil_witness}；两方联署后回执方为终局",
    },
    "gateway": {"en": "gateway: {gateway}, exchange log {log}", "zh": "网关：{gateway}，交换日志 {log}"},
}
_TEXTS: dict[str, dict[Language, str]] = {
    "new": {"en": "Datong: a new mesh in {data}", "zh": "大同：在 {data} 建立新的演示环境"},
    "reused": {
        "en": "Datong: existing state of {created} reused, {exchanges} exchanges on record ({data})",
        "zh": "大同：沿用 {created} 的已有数据，已有 {exchanges} 条交换记录（{data}）",
    },
    "callers": {
        "en": "callers: housing 住房保障局 (has grants), stranger 某单位 (has none), audit 审计局 (auditor)",
        "zh": "调用方：housing 住房保障局（有授权），stranger 某单位（无授权），audit 审计局（审计）",
    },
    "where": {
        "en": "keys: {data}/pki   CA: {data}/ca   state: {data}   logs of each part: {data}/run/*.log",
        "zh": "密钥：{data}/pki   CA：{data}/ca   数据：{data}   各部分日志：{data}/run/*.log",
    },
    "demo": {
        "en": "DEMO ONLY: private keys lie on this disk, people and companies are invented. Ctrl-C stops everything.",
        "zh": "仅供演示：私钥就在本机磁盘上，人员与企业均为虚构。按 Ctrl-C 停止全部进程。",
    },
    "try": {"en": "Try, in another terminal in this folder:", "zh": "在另一个终端的当前目录中试试："},
    "stopping": {"en": "stopping", "zh": "正在停止"},
}
_TROUBLES: dict[str, dict[Language, str]] = {
    "not_admitted": {
        "en": "adapter {adapter} is not started: the registry has revoked its certificate or suspended its subsystem",
        "zh": "未启动适配器 {adapter}：其证书已被吊销或子系统已被暂停",
    },
    "not_installed": {
        "en": "adapter {adapter} is not started: a library that it needs is missing; pip install 'datong[demo]'",
        "zh": "未启动适配器 {adapter}：缺少所需的程序库；请执行 pip install 'datong[demo]'",
    },
    "old_ca": {
        "en": "this folder was made by an older version: its certificates cannot be renewed or revoked. For that, make a new "
        "one: --data DIR",
        "zh": "该数据目录由旧版本建立，其证书不能续期或吊销。如需这些功能，请新建目录：--data 目录",
    },
    "bus_behind": {
        "en": "the bus does not follow the registry yet: {problem}",
        "zh": "消息总线尚未同步登记库的变更：{problem}",
    },
}
_EVENTS: dict[str, dict[Language, str]] = {
    "died": {"en": "{name} ended unexpectedly ({how}); log: {log}", "zh": "{name} 意外结束（{how}）；日志：{log}"},
    "restarting": {"en": "{name} is started again in {pause:g} s", "zh": "{pause:g} 秒后重新启动 {name}"},
    "failed": {"en": "{name} could not be started; log: {log}", "zh": "{name} 启动失败；日志：{log}"},
    "ready": {"en": "{name} is back (process {pid})", "zh": "{name} 已恢复（进程 {pid}）"},
    "stopped": {"en": "  {name} stopped", "zh": "  {name} 已停止"},
    "killed": {"en": "  {name} did not stop and was killed", "zh": "  {name} 未能停止，已强制结束"},
}


class TextAnnouncer:
    """Lines for people."""

    def __init__(self, say: Say, language: Language) -> None:
        self._say = say
        self._language = language
        self._up = False

    def step(self, name: str, report: Report) -> None:
        facts = _facts(report)
        if name == "state":
            self._say(_TEXTS["reused" if report.reused else "new"][self._language].format_map(facts))
        else:
            self._say("  ✔ " + _STEPS[name][self._language].format_map(facts))

    def up(self, report: Report) -> None:
        self._up = True
        facts = _facts(report)
        for name in ("callers", "where", "demo"):
            self._say(_TEXTS[name][self._language].format_map(facts))
        self._say("")
        self._say(_TEXTS["try"][self._language])
        for example in examples(report.place, os.environ):
            status = f" -> {example.status}" if example.status else ""
            self._say(f"\n# {example.what[self._language]}{status}")
            self._say(example.command)
        self._say("")

    def event(self, event: Event) -> None:
        if event.kind == "ready" and not self._up:
            return  # a step says it
        if event.kind in _EVENTS:
            how = f"signal {-event.code}" if event.code < 0 else f"exit code {event.code}"
            self._say(_EVENTS[event.kind][self._language].format_map({**asdict(event), "how": how}))

    def trouble(self, name: str, **facts: object) -> None:
        self._say("  ! " + _TROUBLES[name][self._language].format_map(facts))

    def stopping(self) -> None:
        self._say(_TEXTS["stopping"][self._language])


class JsonAnnouncer:
    """One JSON object a line; `event` says what it is. The one called `up` holds all that came up."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def step(self, name: str, report: Report) -> None:
        self._tell("step", step=name)

    def up(self, report: Report) -> None:
        facts = _facts(report)
        self._tell(
            "up",
            demo_only=True,
            data=str(report.place.folder),
            created_at=report.place.state.created_at,
            reused=report.reused,
            exchanges=report.exchanges,
            ca={"root_sha256": report.ca_fingerprint, "bundle": str(report.place.pki / "ca.pem")},
            nats={"version": report.nats_version, "url": report.nats_url},
            databases={"registry": facts["registry"], "log": facts["log"]},
            gateway=report.place.gateway_url,
            witnesses={office.key: facts[f"{office.key}_witness"] for office in OFFICES},
            backends={
                "tax": report.place.backend_url,
                "civil": facts["civil"],
                "health": facts["health"],
                "land": facts["land"],
            },
            departments=[
                {"key": each.key, "subsystem": each.subsystem, "name_zh": each.name_zh, "name_en": each.name_en}
                for each in DEPARTMENTS
            ],
            pids=report.pids,
            examples=[_plain(example) for example in examples(report.place, os.environ)],
        )

    def event(self, event: Event) -> None:
        self._tell("child", **{**asdict(event), "log": str(event.log)})

    def trouble(self, name: str, **facts: object) -> None:
        self._tell("trouble", trouble=name, **facts)

    def stopping(self) -> None:
        self._tell("stopping")

    def _tell(self, event: str, **facts: object) -> None:
        self._say(json.dumps({"event": event, **facts}, ensure_ascii=False))


def _plain(example: Example) -> dict[str, Any]:
    return {"what": example.what["en"], "command": example.command, "status": example.status}


def _facts(report: Report) -> dict[str, Any]:
    place = report.place
    return {
        "data": str(place.data),
        "created": place.state.created_at,
        "exchanges": report.exchanges,
        "ca": report.ca_fingerprint,
        "registry": _database(place.registry_database, place.folder, place.data),
        "log": _database(place.log_database, place.folder, place.data),
        "civil": _database(f"sqlite:///{place.civil_database}", place.folder, place.data),
        "health": str(place.data / place.health_files.relative_to(place.folder)),
        "members": report.members,
        "services": report.services,
        "nats": report.nats_version,
        "nats_url": report.nats_url,
        "backend": place.backend_url,
        "land": place.land_url,
        "gateway": place.gateway_url,
        **{f"{office.key}_witness": office.url(place) for office in OFFICES},
    }


def _database(url: str, folder: Path, shown: Path) -> str:
    """A database for the eye: no password, and a file as the user would write its path."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return parsed.render_as_string(hide_password=True)
    path = Path(parsed.database)
    return f"SQLite {shown / path.relative_to(folder) if path.is_relative_to(folder) else path}"
