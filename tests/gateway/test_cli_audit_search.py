"""`datong audit list`, `statistics`, `export` and `opening`: what they print, and what they return to a script."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from exchange import RecordFilter, SubjectKeys
from gateway.cli import audit, audit_filters
from registry import Registry, Subsystem
from tests.exchange.log_kit import Attempt, Place
from tests.gateway.audit_desk import OPERATOR, SUBJECT_KEY, exchange
from tests.registry.example import AUDIT, EXAMPLE_SEED, HOUSING, TAX

NUMBER = "11010519491231002X"
EXCHANGE = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a log of 30 exchanges, of which two are about one person."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "subject.key").write_bytes(SUBJECT_KEY)
    hashes = asyncio.run(_hashes(folder))

    def made(number: int) -> Attempt:
        query = {
            "client": HOUSING if number % 2 else TAX,
            "service": f"{TAX}/enterprises",
            "case": f"=案{number}",
            "subject": hashes[0] if number == 4 else hashes[1] if number == 5 else "",
        }
        refused = {"outcome": "refused", "rule": "purpose", "status": 403} if number % 5 == 0 else {}
        return exchange(number, query=query, duration_us=number * 1000, certificate_serial="0a1b", **refused)

    place = Place(f"sqlite:///{folder / 'log.db'}", folder)
    asyncio.run(place.fill(30, [20, 30], made=made))
    return folder


async def _hashes(folder: Path) -> list[str]:
    keys = await SubjectKeys.open(f"sqlite:///{folder / 'subjects.db'}", SUBJECT_KEY)
    await keys.hash_of(NUMBER)
    found = await keys.hashes_of(NUMBER)
    await keys.close()
    return found


def run(*arguments: object, stdin: str = "", status: int = 0) -> Any:
    result = CliRunner().invoke(audit.app, [str(each) for each in arguments], input=stdin)
    assert result.exit_code == status, result.output
    return result


def run_json(*arguments: object, stdin: str = "") -> Any:
    return json.loads(run(*arguments, "--json", stdin=stdin).stdout)


def seqs(data: Path, *conditions: object, stdin: str = "") -> list[int]:
    found = run_json("list", "--data", data, "--limit", 100, *conditions, stdin=stdin)
    return [each["seq"] for each in reversed(found["exchanges"])]


def test_every_condition_of_a_filter_has_its_option() -> None:
    options = set(audit_filters._options())
    members = {name: name for name in RecordFilter.__dataclass_fields__}
    for option, (member, _, _) in audit_filters._BOUNDS.items():
        members[member] = option
    members |= {"subjects": "subject", "persons": "person", "since_ms": "since", "until_ms": "until"}
    assert options == set(members.values())


def test_list_finds_by_every_kind_of_condition(data: Path) -> None:
    assert seqs(data, "--outcome", "refused") == [0, 5, 10, 15, 20, 25]
    assert seqs(data, "--min-duration-ms", 27) == [27, 28, 29]
    assert seqs(data, "--min-duration-ms", 3, "--max-duration-ms", 4) == [3, 4]
    assert seqs(data, "--case", "=案7") == [7]
    assert seqs(data, "--client", HOUSING, "--max-status", 399, "--max-duration-ms", 6) == [1, 3]
    assert len(seqs(data, "--certificate-serial", "A:1B")) == 30
    assert seqs(data, "--kind", "access") == []
    shown = run("list", "--data", data, "--limit", 2, "--lang", "zh").output
    assert "下一页：--cursor 28" in shown
    run("list", "--data", data, "--subject", NUMBER, status=2)
    run("list", "--data", data, "--cursor", "x", status=2)
    run("list", "--data", data / "nowhere", status=2)


def test_a_subjects_number_is_read_from_standard_input_and_printed_nowhere(data: Path) -> None:
    assert seqs(data, "--subject", "-", stdin=f" {NUMBER.lower()}\n") == [4, 5]
    assert seqs(data, "--subject", "-", stdin="110105194912310038\n") == []
    result = run("export", data / "person.jsonl", "--data", data, "--subject", "-", stdin=f"{NUMBER}\n")
    first = json.loads((data / "person.jsonl").read_text().splitlines()[0])
    assert len(first["filter"]["subjects"]) == 1, "not by what the number alone leads to"
    assert NUMBER not in result.output + (data / "person.jsonl").read_text()
    own = first["filter"]["subjects"][0]
    assert seqs(data, "--subject", own.upper()) == [4]


def test_statistics_count(data: Path) -> None:
    found = run_json("statistics", "--data", data, "--step", "month")
    assert (found["total"], found["by_outcome"]) == (30, {"answered": 24, "refused": 6})
    assert found["duration"]["max_us"] == 29_000
    assert [(pair["client"], pair["owner"], pair["count"]) for pair in found["matrix"]] == [
        (client, TAX, 15) for client in sorted((HOUSING, TAX))
    ]
    shown = run("statistics", "--data", data, "--client", HOUSING).output
    assert "answered 12  refused 3" in shown
    assert "已答复" in run("statistics", "--data", data, "--lang", "zh").output
    run("statistics", "--data", data, "--step", "year", status=2)


def test_export_writes_a_file_that_is_whole(data: Path, tmp_path: Path) -> None:
    for form in ("csv", "xlsx", "jsonl"):
        file = tmp_path / f"all.{form}"
        told = run_json("export", file, "--data", data)
        assert told == {"file": str(file), "records": 30, "size": 30, "indexed": 0}
        assert stat.S_ISREG(file.stat().st_mode)
    rows = list(csv.reader(io.StringIO((tmp_path / "all.csv").read_text(encoding="utf-8-sig"))))
    assert rows[-1] == ["# records: 30"]
    assert "'=案7" in rows[-24]
    refused = tmp_path / "refused.csv"
    run("export", refused, "--data", data, "--outcome", "refused", "--by", "张三", "--lang", "zh")
    text = refused.read_text(encoding="utf-8-sig")
    assert "# 导出人: 张三" in text
    assert "# 筛选条件 outcome: refused" in text
    assert text.endswith("# 记录数: 6\n")
    before = refused.read_bytes()
    assert "已存在" in run("export", refused, "--data", data, "--lang", "zh", status=2).output
    assert refused.read_bytes() == before
    run("export", tmp_path / "all.pdf", "--data", data, status=2)
    run("export", tmp_path / "none" / "all.csv", "--data", data, status=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv", "all.jsonl", "all.xlsx", "refused.csv"]


def test_two_persons_open_a_record(tmp_path: Path) -> None:
    asyncio.run(_registry(tmp_path))
    why = ("--data", tmp_path, "--why", "投诉〔2026〕9号")
    operator, auditor = ("--as", OPERATOR, "--by", "张三"), ("--as", AUDIT, "--by", "李四")
    run("opening", "ask", EXCHANGE, *why, status=1)  # for which subsystem?
    run("opening", "ask", "x", *why, *operator, status=2)
    run("opening", "ask", EXCHANGE, *why, "--as", HOUSING, "--by", "张三", status=1)
    shown = run("opening", "ask", f"urn:uuid:{EXCHANGE}", *why, *operator).output
    assert "datong audit opening approve o" in shown
    (asked,) = run_json("opening", "list", "--data", tmp_path, "--state", "asked")["openings"]
    assert (asked["exchange"], asked["asked_by"], asked["official"], asked["open"]) == (
        EXCHANGE,
        OPERATOR,
        "张三",
        False,
    )
    same = run("opening", "approve", asked["id"], *why, "--as", AUDIT, "--by", "张三", status=1)
    assert "another person" in same.output
    approved = run_json("opening", "approve", asked["id"], *why, *auditor)
    assert (approved["state"], approved["open"]) == ("approved", True)
    again = run("opening", "refuse", asked["id"], *why, *auditor, "--lang", "zh", status=1)
    assert "已作出决定" in again.output
    assert "已批准" in run("opening", "list", "--data", tmp_path, "--lang", "zh").output
    run("opening", "list", "--data", tmp_path, "--state", "open", status=2)


async def _registry(folder: Path) -> None:
    registry = await Registry.open(f"sqlite:///{folder / 'registry.db'}")
    await registry.seed(EXAMPLE_SEED)
    operator = Subsystem(id=OPERATOR, name="operator", roles=("operator",))
    await registry.add_subsystem(operator, by="test", why="test")
    await registry.close()
