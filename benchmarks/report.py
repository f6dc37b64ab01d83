"""A run as people read it (Markdown that is also legible in a terminal) and as programs do (one JSON object)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.goals import Verdict
from benchmarks.samples import Measured, Part, Point, Sample, Summary, ratio, summarise

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that is kept of one run.

    Attributes:
        started: RFC 3339, UTC.
        complete: False if it was interrupted; what was measured until then is there.
        samples: Counted rounds and warm-ups (round -1), in the order in which they were made.
    """

    started: str
    revision: str
    complete: bool
    machine: Mapping[str, str]
    options: Mapping[str, Any]
    samples: Sequence[Sample]
    verdicts: Sequence[Verdict]

    @property
    def counted(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.round >= 0]


def as_json(run: Run) -> str:
    """Everything, with each single sample, so that other questions can be asked of it later."""
    return json.dumps(
        {
            "format": _FORMAT,
            "started": run.started,
            "revision": run.revision,
            "complete": run.complete,
            "machine": run.machine,
            "options": run.options,
            "targets": [_verdict_fields(verdict) for verdict in run.verdicts],
            "summaries": [asdict(summary) for summary in summarise(run.counted)],
            "samples": [asdict(sample) for sample in run.samples],
        },
        indent=1,
        ensure_ascii=False,
    )


def as_markdown(run: Run) -> str:
    """The tables: medians over rounds; the range of rounds is in parentheses or in a column of its own."""
    summaries = summarise(run.counted)
    sections = [
        f"# Benchmark of {run.started}",
        "" if run.complete else "**Interrupted: the tables hold what was measured until then.**",
        f"Revision {run.revision}. Options: {', '.join(f'{k} {_plain(v)}' for k, v in run.options.items())}.",
        _section("Machine", table(("what", "value"), run.machine.items(), right=())),
        _section("Closed loop: each connection sends again when answered", _closed(summaries)),
        _section("Ratios of requests/s, round by round", _ratios(run.counted)),
        _section("Open loop: fixed rate, latency from the scheduled start", _open(summaries)),
        _section("New connections with client certificates", _handshakes(summaries)),
        _section("Above the limit", _overload(summaries)),
        _section("Decisions, by grants in the registry", decisions_table(summaries)),
        _section("The log: durable appends, and the signed checkpoints over them", log_table(summaries)),
        _section("The log as it grows: durable appends, by entries that are there", growth_table(summaries)),
        _section("Targets", targets_table(run.verdicts)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def targets_table(verdicts: Sequence[Verdict]) -> str:
    """Each goal with its bound, what was measured, and the outcome."""
    rows = [
        (
            verdict.goal.name,
            verdict.goal.text,
            f"{'>=' if verdict.goal.sense == 'at least' else '<='} {number(verdict.goal.bound)}",
            _with_range(verdict.measured),
            f"{verdict.outcome} ({verdict.measured.faults})"
            if verdict.measured and verdict.outcome == "faults"
            else verdict.outcome,
        )
        for verdict in verdicts
    ]
    return table(("target", "what", "wanted", "measured (range of rounds)", "outcome"), rows, right=(2, 3))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] | None = None) -> str:
    """A Markdown table with aligned columns; empty if there are no rows.

    Args:
        right: Columns with numbers, aligned to the right; None: all but the first.
    """
    body = [list(row) for row in rows]
    if not body:
        return ""
    numeric = set(range(1, len(headings)) if right is None else right)
    widths = [max(len(row[i]) for row in [list(headings), *body]) for i in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            c.rjust(w) if i in numeric else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (w - 1)}:" if i in numeric else "-" * w for i, w in enumerate(widths)]
    return "\n".join([line(headings), line(rule), *map(line, body)])


def number(value: float) -> str:
    """Three significant digits, or whole when that is more: 0.0912, 2.7, 62, 9300."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _closed(summaries: Sequence[Summary]) -> str:
    headings = ("connections", "server", "requests/s", "range", "p50 ms", "p99 ms", "CPU us/request", "faults")
    rows = [
        (
            str(s.load),
            s.target,
            *(number(s.figures["rate"]), _range(*s.spread["rate"])),
            *(number(s.figures[name]) for name in ("p50_ms", "p99_ms", "cpu_us")),
            _faults(s.faults),
        )
        for s in _of("closed", summaries)
    ]
    return table(headings, rows, right=(0, 2, 3, 4, 5, 6))


def _ratios(samples: Sequence[Sample]) -> str:
    """Each mesh against every peer."""
    closed = [sample for sample in samples if sample.part == "closed"]
    names = list(dict.fromkeys(sample.target for sample in closed))
    meshes = [name for name in names if name.startswith("mesh")]
    others = [name for name in names if name not in meshes]
    if not others:
        return ""
    rows = []
    for load in dict.fromkeys(sample.load for sample in closed):
        for mesh in meshes:
            of = Point(part="closed", target=mesh, load=load)
            found = (ratio(closed, "rate", of, Point(part="closed", target=peer, load=load)) for peer in others)
            rows.append((str(load), mesh, *map(_with_range, found)))
    return table(
        ("connections", "server", *(f"/ {peer}" for peer in others)), rows, right=(0, *range(2, 2 + len(others)))
    )


def _open(summaries: Sequence[Summary]) -> str:
    headings = ("rate/s", "server", "p50 ms", "p90 ms", "p99 ms", "range of p99", "answered", "faults")
    rows = [
        (
            str(s.load),
            s.target,
            *(number(s.figures[name]) for name in ("p50_ms", "p90_ms", "p99_ms")),
            _range(*s.spread["p99_ms"]),
            f"{s.figures['answered']:.1%}",
            _faults(s.faults),
        )
        for s in _of("open", summaries)
    ]
    return table(headings, rows, right=(0, 2, 3, 4, 5, 6))


def _handshakes(summaries: Sequence[Summary]) -> str:
    headings = ("server", "full/s", "range", "CPU us/connection", "full ms", "resumed ms", "resumed", "faults")
    rows = [
        (
            s.target,
            *(number(s.figures["full_rate"]), _range(*s.spread["full_rate"])),
            *(number(s.figures[name]) for name in ("full_cpu_us", "full_ms", "resumed_ms")),
            f"{s.figures['resumed_share']:.0%}",
            _faults(s.faults),
        )
        for s in _of("handshakes", summaries)
    ]
    return table(headings, rows, right=range(1, 7))


def _overload(summaries: Sequence[Summary]) -> str:
    headings = ("connections", "server", "accepted/s", "p50 ms", "p99 ms", "refused", "p99 ms of refusals", "faults")
    rows = [
        (
            str(s.load),
            s.target,
            *(_figure(s, name) for name in ("accepted_rate", "accepted_p50_ms", "accepted_p99_ms")),
            f"{s.figures['refused_share']:.1%}",
            _figure(s, "refused_p99_ms"),
            _faults(s.faults),
        )
        for s in _of("overload", summaries)
    ]
    return table(headings, rows, right=(0, 2, 3, 4, 5, 6))


def decisions_table(summaries: Sequence[Summary]) -> str:
    """What a decision and a new grant cost, by how many grants there are and how they are spread."""
    headings = (
        "grants",
        "spread",
        "permitted us",
        "range",
        "purpose implied us",
        "refused us",
        "one more ms",
        "first us",
    )
    rows = [
        (
            str(s.load),
            s.target,
            *(number(s.figures["permitted_us"]), _range(*s.spread["permitted_us"])),
            *(number(s.figures[name]) for name in ("implied_us", "refused_us", "take_in_ms", "first_us")),
        )
        for s in _of("decisions", summaries)
    ]
    return table(headings, rows, right=(0, *range(2, 8)))


def log_table(summaries: Sequence[Summary]) -> str:
    """How many records the log takes, and how soon a signed checkpoint covers them."""
    headings = (
        *("callers", "log", "appends/s", "range", "p50 ms", "p99 ms"),
        *("signed over p50 ms", "p99 ms", "worst ms", "mesh beside it: requests/s", "p99 ms", "faults"),
    )
    rows = [
        (
            str(s.load),
            s.target,
            *(number(s.figures["rate"]), _range(*s.spread["rate"])),
            *(number(s.figures[f"{name}_ms"]) for name in ("p50", "p99", "covered_p50", "covered_p99", "covered_max")),
            *(_figure(s, name) for name in ("mesh_rate", "mesh_p99_ms")),
            _faults(s.faults),
        )
        for s in _of("log", summaries)
    ]
    return table(headings, rows, right=(0, *range(2, 11)))


def growth_table(summaries: Sequence[Summary]) -> str:
    """How many records logs of several sizes take."""
    headings = ("entries", "database", "appends/s", "range", "group of 64 p50 ms", "p99 ms")
    rows = [
        (
            str(s.load),
            s.target,
            *(number(s.figures["rate"]), _range(*s.spread["rate"])),
            *(number(s.figures[f"{name}_ms"]) for name in ("p50", "p99")),
        )
        for s in _of("growth", summaries)
    ]
    return table(headings, rows, right=(0, *range(2, 6)))


def _verdict_fields(verdict: Verdict) -> dict[str, Any]:
    return {
        "target": verdict.goal.name,
        "what": verdict.goal.text,
        "sense": verdict.goal.sense,
        "bound": verdict.goal.bound,
        "measured": verdict.measured.median if verdict.measured else None,
        "rounds": verdict.measured.values if verdict.measured else (),
        "faults": verdict.measured.faults if verdict.measured else 0,
        "outcome": verdict.outcome,
    }


def _of(part: Part, summaries: Sequence[Summary]) -> list[Summary]:
    """In ascending load; within a load in the order of the run's first round."""
    return sorted((s for s in summaries if s.part == part), key=lambda s: s.load)


def _section(title: str, content: str) -> str:
    return f"## {title}\n\n{content}" if content else ""


def _figure(summary: Summary, name: str) -> str:
    return number(summary.figures[name]) if name in summary.figures else "-"


def _with_range(measured: Measured | None) -> str:
    if measured is None:
        return "-"
    return f"{number(measured.median)} ({_range(min(measured.values), max(measured.values))})"


def _range(low: float, high: float) -> str:
    return f"{number(low)} - {number(high)}"


def _faults(faults: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in faults.items()) or "none"


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
