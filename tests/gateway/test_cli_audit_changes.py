"""`datong audit` and changes of the registry: they are searched, shown, proven, and compared with the registry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer
from typer.testing import CliRunner

from exchange import create_engine, writing
from gateway.change_recorder import change_entry_id
from gateway.cli import audit
from gateway.cli.verify import verify
from registry import ChangeBook, Registry
from tests.databases import DatabaseTemplate
from tests.exchange.log_kit import Place, attempt, now_ms
from tests.gateway.test_change_recorder import GRANT, HOUSING, TAX, add_member, recording, seed

verify_app = typer.Typer()
verify_app.command()(verify)

PATIENCE = 30.0
SEEDED = 6


@dataclass
class Desk:
    """A registry with a log that recorded it, and commands run on both."""

    registry: Registry
    url: str
    place: Place

    @property
    def folder(self) -> Path:
        return self.place.folder

    async def record(self) -> None:
        """Run a gateway's recorder until everything is on the log."""
        async with recording(self.registry, self.place) as (recorder, log):
            assert await recorder.recorded(await self.registry.version(), timeout=PATIENCE)
            await log.checkpoint()

    async def run(self, *arguments: object, status: int = 0, app: typer.Typer = audit.app) -> str:
        texts = [str(argument) for argument in arguments]
        if app is audit.app:
            texts += ["--data", str(self.folder)]
        databases = {"DATONG_LOG_DATABASE": self.place.database, "DATONG_REGISTRY_DATABASE": self.url}
        result = await asyncio.to_thread(CliRunner().invoke, app, texts, env={"LC_ALL": "C.UTF-8", **databases})
        assert result.exit_code == status, (result.output, result.exception)
        return result.output

    async def run_json(self, *arguments: object, status: int = 0) -> Any:
        return json.loads(await self.run(*arguments, "--json", status=status))

    async def execute(self, statement: str, **values: object) -> None:
        """Change the registry's database behind everybody's back."""
        engine = create_engine(self.url)
        async with writing(engine) as connection:
            await connection.execute(sa.text(statement), values)
        await engine.dispose()


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> DatabaseTemplate:
    async def make(url: str) -> None:
        registry = await Registry.open(url)
        await seed(registry)
        await add_member(registry, 1)
        await registry.close()

    return DatabaseTemplate(tmp_path_factory.mktemp("seeded"), make)


@pytest.fixture
def database_template(seeded: DatabaseTemplate) -> DatabaseTemplate:
    return seeded


@pytest.fixture
async def desk(database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    registry = await Registry.open(database_url)
    place = Place(database_url.replace("数据 库.db", "log.db"), tmp_path)
    keys = {"format": "datong-keys/1", "logs": [place.signer.verifier.vkey], "trust_anchors": []}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    desk = Desk(registry, database_url, place)
    await desk.record()
    yield desk
    await registry.close()


async def test_changes_are_listed_newest_first_with_their_entries(desk: Desk) -> None:
    first = await desk.run_json("changes", "--limit", 4)
    rest = await desk.run_json("changes", "--cursor", first["next_cursor"], "--limit", 100)
    everything = first["changes"] + rest["changes"]
    assert [one["version"] for one in everything] == list(range(SEEDED + 1, 0, -1))
    assert [one["seq"] for one in everything] == list(range(SEEDED, -1, -1))
    assert rest["next_cursor"] is None
    assert (first["changes"][0]["by"], first["changes"][0]["why"]) == ("张三", "批复〔2026〕7号")
    text = await desk.run("changes", "--limit", 1)
    assert first["changes"][0]["entry"] in text
    assert "more: --cursor" in text
    assert "尚未留痕" not in await desk.run("changes", "--lang", "zh")


@pytest.mark.parametrize(
    ("options", "versions"),
    [
        (("--target", "CN/GOV/M1"), [SEEDED + 1]),
        (("--action", "member.add", "--by", "张"), [SEEDED + 1]),
        (("--by", "李"), []),
        (("--until", "2020-01-01"), []),
        (("--since", "2020-01-01", "--limit", "1"), [SEEDED + 1]),
    ],
)
async def test_a_search_finds_what_it_names(desk: Desk, options: tuple[str, ...], versions: list[int]) -> None:
    assert [one["version"] for one in (await desk.run_json("changes", *options))["changes"]] == versions


async def test_a_change_that_waits_is_told_so(desk: Desk) -> None:
    change = await add_member(desk.registry, 2)
    (newest,) = (await desk.run_json("changes", "--limit", 1))["changes"]
    assert (newest["version"], newest["seq"]) == (change.version, None)
    assert "not yet" in await desk.run("changes", "--limit", 1)
    assert (await desk.run_json("check"))["changes"] == {"recorded": SEEDED + 1, "waiting": 1}
    assert "1 wait to be recorded" in await desk.run("check")


async def test_a_change_is_shown_and_its_receipt_verifies(desk: Desk) -> None:
    change = await desk.registry.revoke(GRANT, by="张三", why="项目结束")
    assert change is not None
    await desk.record()
    entry = change_entry_id(await ChangeBook(desk.registry).identity(), change)
    receipt = desk.folder / "receipt.json"
    shown = await desk.run("show", entry, "--receipt", receipt)
    assert "active → revoked" in shown
    assert "项目结束" in shown
    assert (await desk.run_json("show", entry))["record"]["kind"] == "change"
    verified = await desk.run(receipt, "--keys", desk.folder / "keys.json", app=verify_app)
    assert verified.count("✓") == 7
    assert f"grant.revoke {GRANT}" in verified
    chinese = await desk.run(receipt, "--keys", desk.folder / "keys.json", "--lang", "zh", app=verify_app)
    assert "张三，在服务器本机操作" in chinese
    receipt.write_bytes(receipt.read_bytes().replace("项目结束".encode(), "项目延期".encode()))
    forged = await desk.run(receipt, "--keys", desk.folder / "keys.json", app=verify_app, status=1)
    assert "✗ in the log" in forged


async def test_the_list_of_the_log_shows_changes_to_those_who_ask(desk: Desk) -> None:
    assert (await desk.run_json("list"))["exchanges"] == []
    listed = (await desk.run_json("list", "--kind", "change", "--limit", 100))["exchanges"]
    assert [one["record"]["version"] for one in listed] == list(range(SEEDED + 1, 0, -1))
    text = await desk.run("list", "--kind", "any", "--rule", "member.add", "--service", "CN/GOV/M1")
    assert "change (member.add)" in text
    assert "张三" in text


async def test_a_registry_that_tells_what_the_log_recorded_is_in_order(desk: Desk) -> None:
    assert (await desk.run_json("check"))["changes"] == {"recorded": SEEDED + 1, "waiting": 0}
    assert "7 changes of the registry are as they were recorded" in await desk.run("check")
    assert "7 项变更与日志一致" in await desk.run("check", "--lang", "zh")


@pytest.mark.parametrize(
    ("damage", "version", "says"),
    [
        ("UPDATE registry_changes SET why = 'x' WHERE version = 4", 4, "why differs"),
        ("UPDATE registry_changes SET by = '李四' WHERE version = 7", 7, "by differs"),
        ("UPDATE registry_changes SET at = '2026-01-01 00:00:00' WHERE version = 4", 4, "at differs"),
        ("UPDATE registry_changes SET after = '{}' WHERE version = 4", 4, "after differs"),
        ("UPDATE registry_changes SET certificate = 'ab' WHERE version = 4", 4, "certificate differs"),
        ("DELETE FROM registry_changes WHERE version = 4", 4, "removed"),
        ("DELETE FROM registry_changes WHERE version > 4", 5, "removed"),
        ("UPDATE registry_changes SET version = 11 WHERE version = 7", 7, "removed"),
        ("UPDATE registry_identity SET identity = '0'", 1, "another registry"),
    ],
)
async def test_an_altered_history_is_named_by_its_first_difference(
    desk: Desk, damage: str, version: int, says: str
) -> None:
    await desk.execute(damage.replace(" by = ", ' "by" = '))
    found = await desk.run_json("check", status=1)
    assert (found["ok"], found["where"]) == (False, f"change {version}")
    assert says in found["problem"]
    assert found["exchange_id"], "the entry of the log tells what it was"
    text = await desk.run("check", status=1)
    assert "the registry was CHANGED" in text
    assert "登记簿被绕过日志改动" in await desk.run("check", "--lang", "zh", status=1)


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        ("UPDATE grants SET valid_to = '2099-12-31 00:00:00'", f"grant {GRANT}"),
        ("UPDATE grants SET quota_per_day = 1000000", f"grant {GRANT}"),
        ("UPDATE grants SET version = 3", f"grant {GRANT}"),
        ("DELETE FROM grants", f"grant {GRANT}"),
        ("UPDATE members SET name = '另一个' WHERE id = 'CN/GOV/T'", "member CN/GOV/T"),
        ("UPDATE subsystems SET roles = '[\"operator\"]' WHERE id LIKE '%housing'", f"subsystem {HOUSING}"),
        ("UPDATE subsystems SET state = 'suspended' WHERE id LIKE '%housing'", f"subsystem {HOUSING}"),
        ("UPDATE services SET notice = 'x'", f"service {TAX}/enterprises"),
        ("UPDATE operations SET path = '/**'", "operation GET /"),
        ("UPDATE operations SET safe = false", "operation GET /enterprises"),
        (
            "INSERT INTO operations (service, method, path, safe, state, version)"
            " SELECT id, 'DELETE', '/**', true, 'active', version FROM services",
            f"operation DELETE /** of {TAX}/enterprises",
        ),
        (
            "INSERT INTO subsystems (id, member, name, name_en, roles, state, version)"
            " SELECT 'CN/GOV/T/spy', member, name, name_en, roles, state, version FROM subsystems WHERE id LIKE '%tax'",
            "subsystem CN/GOV/T/spy",
        ),
    ],
)
async def test_what_was_altered_without_a_change_is_named(desk: Desk, damage: str, where: str) -> None:
    """It is what calls are decided by, whatever the changes say."""
    await desk.execute(damage)
    found = await desk.run_json("check", status=1)
    assert found["where"].startswith(where)
    assert "no change of it is on record" in found["problem"]


async def test_a_change_between_others_that_was_never_recorded_is_named(desk: Desk) -> None:
    """Somebody wrote a change into the registry, and moved the others up to make room for it."""
    await desk.execute("UPDATE registry_changes SET version = version + 1000 WHERE version >= 6")
    columns = 'at, "by", certificate, why, action, target, after'
    await desk.execute(
        f"INSERT INTO registry_changes (version, {columns}) SELECT 6, {columns} FROM registry_changes WHERE version = 5"
    )
    found = await desk.run_json("check", status=1)
    assert found["where"] == "change 6"


async def test_a_change_that_the_log_went_on_without_is_named(desk: Desk) -> None:
    """It cannot be waiting: the log took exchanges for minutes after it."""
    change = await add_member(desk.registry, 3)
    async with desk.place.log() as log:
        await attempt().append_to(log)
        await log.checkpoint()
    assert (await desk.run_json("check"))["changes"]["waiting"] == 1
    async with desk.place.log() as log:
        await attempt(at_ms=now_ms() + 600_000).append_to(log)
        await log.checkpoint()
    found = await desk.run_json("check", status=1)
    assert found["where"] == f"change {change.version}"
    assert "never recorded" in found["problem"]


async def test_of_several_differences_the_first_is_named(desk: Desk) -> None:
    await desk.execute("DELETE FROM registry_changes WHERE version = 5")
    await desk.execute("UPDATE registry_changes SET why = 'x' WHERE version = 3")
    assert (await desk.run_json("check", status=1))["where"] == "change 3"


async def test_the_folder_s_registry_is_compared_without_being_asked_for(tmp_path: Path) -> None:
    registry = await Registry.open(f"sqlite:///{tmp_path / 'registry.db'}")
    await seed(registry)
    desk = Desk(registry, "", Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path))
    keys = {"format": "datong-keys/1", "logs": [desk.place.signer.verifier.vkey], "trust_anchors": []}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    await desk.record()
    await registry.close()

    async def check(*options: str) -> Any:
        arguments = ["check", "--json", "--data", str(tmp_path), *options]
        result = await asyncio.to_thread(CliRunner().invoke, audit.app, arguments)
        return result.exit_code, json.loads(result.stdout) if result.stdout else None

    assert (await check())[1]["changes"] == {"recorded": SEEDED, "waiting": 0}
    # Another log than the folder's: its registry is not known.
    code, told = await check("--database", desk.place.database, "--keys", str(tmp_path / "keys.json"))
    assert (code, told["changes"]) == (0, None)
    (tmp_path / "registry.db").rename(tmp_path / "elsewhere.db")
    assert (await check())[1]["changes"] is None
    assert (await check("--registry", f"sqlite:///{tmp_path / 'registry.db'}")) == (2, None)
    assert not (tmp_path / "registry.db").exists()
    result = await asyncio.to_thread(CliRunner().invoke, audit.app, ["changes", "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "--kind change" in result.stderr
