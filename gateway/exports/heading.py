"""What an export says of itself: what was looked for, under which checkpoint, when and by whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exchange import Language, Rfc3339

FORMAT: Final = "datong-export/1"
_MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "format": ("format", "格式"),
    "made_at": ("made at", "导出时间"),
    "made_by": ("made by", "导出人"),
    "size": ("entries of the log", "日志条数"),
    "checkpoint": ("checkpoint", "检查点"),
    "filter": ("filter", "筛选条件"),
    "count": ("records", "记录数"),
}
_time_text: Final = Rfc3339()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """Stands before the records of an export."""

    filter: Mapping[str, Any]
    """`RecordFilter.to_plain`, as it may be told."""
    checkpoint: str
    """A signed note. All records stand under it."""
    size: int
    """Of its tree."""
    made_at: str
    """RFC 3339."""
    made_by: str
    language: Language = "en"

    @property
    def plain(self) -> dict[str, Any]:
        """For programs."""
        told = {"format": FORMAT, "made_at": self.made_at, "made_by": self.made_by, "filter": dict(self.filter)}
        return {**told, "size": self.size, "checkpoint": self.checkpoint}

    def lines(self) -> list[tuple[str, str]]:
        """For people: names and values, each of one line."""
        values: list[tuple[str, str]] = [
            (self.mark("format"), FORMAT),
            (self.mark("made_at"), self.made_at),
            (self.mark("made_by"), self.made_by),
        ]
        values += [(f"{self.mark('filter')} {name}", _text(name, value)) for name, value in self.filter.items()]
        values.append((self.mark("size"), str(self.size)))
        values += [(self.mark("checkpoint"), line) for line in self.checkpoint.split("\n")[:-1]]
        return values

    def mark(self, name: str) -> str:
        """What something is called, in the language of the export."""
        return _MARKS[name][self.language == "zh"]


def _text(name: str, value: Any) -> str:
    if name in ("since_ms", "until_ms"):
        return _time_text(value)
    return " ".join(value) if isinstance(value, list) else str(value)
