"""What an export says of a record, column by column. Pure.

Rules:
1. A cell holds a text, a whole number or nothing. Instants are texts, as the record has them.
2. A subject stands there by its hash, as on record. Nothing is in an export that is not in the record.
3. Records of other kinds than exchanges fill the columns that are theirs; a damaged record, only where it stands in the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from exchange import Language, StoredEntry, is_change, is_event

Cell = str | int | None
_Read = Callable[[StoredEntry, Mapping[str, Any]], Any]

_decode = msgspec.json.decode
_NONE: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    en: str
    zh: str
    read: _Read
    width: int = 16
    """In characters, for a spreadsheet."""

    def heading(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en


def _of_record(name: str) -> _Read:
    return lambda entry, record: record.get(name)


def _of_query(name: str) -> _Read:
    return lambda entry, record: record.get("query", _NONE).get(name)


def _of_answer(name: str) -> _Read:
    return lambda entry, record: record.get("answer", _NONE).get(name)


def _kind(entry: StoredEntry, record: Mapping[str, Any]) -> str:
    if not record:
        return "damaged"
    if is_change(entry.leaf):
        return "change"
    return str(record["kind"]) if is_event(entry.leaf) else "exchange"


def _at(entry: StoredEntry, record: Mapping[str, Any]) -> Any:
    return record.get("ended_at") or record.get("recorded_at") or record.get("at")


def _milliseconds(entry: StoredEntry, record: Mapping[str, Any]) -> Any:
    microseconds = record.get("duration_us")
    return None if microseconds is None else round(microseconds / 1000)


def _owner(entry: StoredEntry, record: Mapping[str, Any]) -> str:
    return entry.service.rpartition("/")[0] if "query" in record else ""


def _certificate(entry: StoredEntry, record: Mapping[str, Any]) -> Any:
    return record.get("query", record).get("certificate")


def _user(entry: StoredEntry, record: Mapping[str, Any]) -> Any:
    return record.get("query", record).get("user")


def _details(entry: StoredEntry, record: Mapping[str, Any]) -> str:
    found = {name: record[name] for name in ("details", "before", "after") if record.get(name)}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")) if found else ""


COLUMNS: Final = (
    Column("entry", "日志序号", lambda entry, record: entry.seq, 10),
    Column("id", "交换编号", lambda entry, record: entry.exchange_id, 38),
    Column("kind", "种类", _kind, 10),
    Column("at", "时间", _at, 26),
    Column("outcome", "结果", lambda entry, record: entry.outcome, 10),
    Column("rule", "规则", lambda entry, record: entry.rule),
    Column("error code", "错误代码", _of_record("code")),
    Column("error source", "错误来源", _of_record("source"), 10),
    Column("status", "状态码", _of_record("status"), 8),
    Column("duration ms", "用时（毫秒）", _milliseconds, 12),
    Column("caller", "调用方", lambda entry, record: entry.client, 40),
    Column("owner", "提供方", _owner, 40),
    Column("service", "服务", lambda entry, record: entry.service, 48),
    Column("method", "方法", _of_query("method"), 8),
    Column("path template", "路径模板", _of_query("path_template"), 24),
    Column("purpose", "用途", _of_query("purpose"), 24),
    Column("case", "办件编号", _of_query("case"), 24),
    Column("official", "经办人", _user),
    Column("represented party", "被代表方", _of_query("represented"), 24),
    Column("channel", "渠道", _of_query("channel"), 10),
    Column("subject hash", "对象哈希", _of_query("subject"), 20),
    Column("person hash", "自然人哈希", _of_record("person"), 20),
    Column("grant", "授权", _of_query("grant"), 12),
    Column("message id", "消息编号", _of_query("message_id"), 24),
    Column("asked at", "请求时间", _of_query("asked_at"), 26),
    Column("answered at", "应答时间", _of_answer("answered_at"), 26),
    Column("request bytes", "请求字节", _of_query("request_size"), 12),
    Column("answer bytes", "应答字节", _of_answer("body_size"), 12),
    Column("certificate", "证书指纹", _certificate, 20),
    Column("certificate serial", "证书序列号", _of_record("certificate_serial"), 20),
    Column("certificate notes", "证书备注", _of_record("certificate_notes")),
    Column("adapter", "适配器证书", _of_answer("adapter"), 20),
    Column("request digest", "请求摘要", _of_query("request_digest"), 20),
    Column("answer digest", "应答摘要", _of_answer("body_digest"), 20),
    Column("done by", "操作人", _of_record("by"), 40),
    Column("reason", "理由", _of_record("why"), 24),
    Column("details", "详情", _details, 24),
    Column("leaf hash", "叶哈希", lambda entry, record: entry.leaf_hash.hex(), 20),
)


def cells_of(entry: StoredEntry) -> list[Cell]:
    """A record's cells, one for each of COLUMNS."""
    try:
        record = _decode(entry.leaf, type=dict[str, Any])
        return [_cell(column.read(entry, record)) for column in COLUMNS]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, AttributeError, KeyError, TypeError):
        # Damaged: that there is a record is worth a line all the same.
        return [entry.seq, entry.exchange_id, "damaged", *[None] * (len(COLUMNS) - 4), entry.leaf_hash.hex()]


def _cell(value: Any) -> Cell:
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
