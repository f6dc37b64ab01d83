"""What a table of files costs: `python -m benchmarks.files_source`.

A CSV of synthetic rows in random order is written and served by the files source in this process. Figures: seconds to load it,
most memory resident; microseconds of CPU of an answer by key, of a page by one filter and by two; and how long the event loop
was held up while the file was loaded anew beside it (`stall`), measured by a task that wakes every 5 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import hardware, revision
from benchmarks.progress import say
from benchmarks.samples import percentile
from department_adapters import AdapterTest
from department_adapters.files.section import FilesService
from department_adapters.files.source import FilesSource

HEADINGS = ("number", "name", "born", "division", "insured", "since", "level", "amount", "phone", "note")
_TICK = 0.005


def write(path: Path, rows: int) -> None:
    """Write the file; the order of the rows is always the same."""
    order = list(range(rows))
    random.Random(1).shuffle(order)
    draft = path.with_suffix(".new")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADINGS)
        for row in order:
            division, level = 450100 + row % 9, "ABCD"[row % 4]
            writer.writerow(
                (
                    *(f"99700119{row:010d}", f"例甲子{row % 997}", "1980-05-01", division, "true", "2020-01-01"),
                    *(level, f"{row}.50", "10000000000", "说明"),
                )
            )
    draft.replace(path)


async def measure(folder: Path, rows: int, questions: int) -> dict[str, Any]:
    """The figures for a file of so many rows."""
    path = folder / "people.csv"
    write(path, rows)
    section = {
        "source": "files",
        "files": "people.csv",
        "table": "people",
        "key": "number",
        "columns": list(HEADINGS),
        "types": {"born": "date", "since": "date", "insured": "boolean", "amount": "number"},
        "listing": True,
        "optional": ["division", "level"],
        "max_bytes": 4 << 30,
        "look_every": 3600.0,
    }
    source = FilesService.model_validate(section).placed(folder).make_source(max_answer=64 << 20)
    assert isinstance(source, FilesSource)
    figures: dict[str, Any] = {"rows": rows, "file_mb": round(path.stat().st_size / 1e6, 1)}
    started, used = time.perf_counter(), time.process_time()
    async with AdapterTest(source, timeout=600) as call:
        figures["load_s"] = round(time.perf_counter() - started, 2)
        figures["load_cpu_s"] = round(time.process_time() - used, 2)
        figures["resident_mb_after_first"] = _resident_mb()
        numbers = [f"99700119{random.Random(2).randrange(rows):010d}" for _ in range(questions)]
        figures["by_key_cpu_us"] = await _each([lambda n=n: call.get(f"/people/{n}") for n in numbers])
        figures["page_cpu_us"] = await _each([lambda: call.get("/people?division=450103")] * (questions // 10))
        figures["page_two_filters_cpu_us"] = await _each(
            [lambda: call.get("/people?division=450103&level=A")] * (questions // 100)
        )
        write(path, rows)
        await source.look()
        stalls: list[float] = []
        ticking = asyncio.create_task(_tick(stalls))
        await source.look()
        ticking.cancel()
        figures["stall_while_loading_ms"] = {
            "p50": round(percentile(sorted(stalls), 0.5) * 1000, 2),
            "p99": round(percentile(sorted(stalls), 0.99) * 1000, 2),
            "max": round(max(stalls) * 1000, 2),
        }
        figures["resident_mb"] = _resident_mb()
    return figures


async def _tick(stalls: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_TICK)
        stalls.append(time.perf_counter() - began - _TICK)


async def _each(questions: list[Callable[[], Awaitable[Any]]]) -> float:
    used = time.process_time()
    for question in questions:
        assert (await question()).status == 200
    return round((time.process_time() - used) / len(questions) * 1e6, 1)


def _resident_mb() -> int:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale // 10**6


def main() -> None:
    """Measure and write the numbers down."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the numbers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        say(f"files source: {arguments.rows} rows")
        figures = asyncio.run(measure(Path(folder), arguments.rows, arguments.questions))
        machine = hardware(Path(folder))
    now = datetime.now(UTC)
    place_of_source = Path(__file__).parents[1]
    result = {"format": "datong-files-source/1", "machine": machine, "revision": revision(place_of_source), **figures}
    place = arguments.out / f"files-source-{arguments.rows}-{now:%Y-%m-%dT%H%M%SZ}.json"
    place.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
