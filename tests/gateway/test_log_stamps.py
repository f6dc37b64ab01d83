"""What is shown of time stamps: `/v1/log/stamps` and `datong log stamps`."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import typer
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI
from typer.testing import CliRunner

from exchange import LogReader, StampConfig, check_token
from gateway.api import log_stamps
from gateway.api.callers import caller
from gateway.api.errors import install_error_handlers
from gateway.cli.log_stamps import stamps
from gateway.stamping import Stamping
from gateway.vouching import Vouching
from tests.ci import missing
from tests.exchange.log_kit import Place, now_ms
from tests.exchange.tsa_kit import Issuer, make_tsa
from tests.gateway.tsa_server import TsaServer

ROOT = Issuer.root()
MISSING = TsaServer(ROOT, make_tsa(ROOT)).authority("missing", url="http://127.0.0.1:1/")
GOOD = TsaServer(ROOT, make_tsa(ROOT)).authority("good", url="http://127.0.0.1:1/")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A log with 5 checkpoints, of which 2 and 5 are stamped, and two files of authorities."""
    folder = tmp_path_factory.mktemp("original")
    place = Place(f"sqlite:///{folder / 'log.db'}", folder)
    tsa = make_tsa(ROOT)

    async def fill_and_stamp() -> None:
        await place.fill(5, [1, 2, 3, 4, 5])
        async with place.log() as log:
            for size in (2, 5):
                (checkpoint,) = await log.reader.checkpoints_from(size, 1)
                await log.attach("stamp", size, "good", *_stamped(tsa, checkpoint.note))

    asyncio.run(fill_and_stamp())
    (folder / "anchors.pem").write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    (folder / "other.pem").write_bytes(Issuer.root().certificate.public_bytes(Encoding.PEM))
    for name in ("anchors", "other"):
        authorities = [
            f'[[authority]]\nname = "{each}"\nurl = "http://127.0.0.1:1/"\nanchors = "{name}.pem"\n'
            for each in ("good", "missing")
        ]
        (folder / f"{name}.toml").write_text("".join(authorities))
    return place


@pytest.fixture
def place(original: Place, tmp_path: Path) -> Place:
    """A copy of it, to be changed."""
    folder = shutil.copytree(original.folder, tmp_path / "copy")
    return Place(f"sqlite:///{folder / 'log.db'}", folder, original.signer)


def _stamped(tsa: Any, note: str) -> tuple[int, bytes]:
    text = note.partition("\n\n")[0].encode() + b"\n"
    token = tsa.stamp(text)
    return check_token(token, text, [ROOT.certificate]).gen_ms, token


def run(place: Place, *arguments: object, status: int = 0) -> str:
    app = typer.Typer()
    app.command()(stamps)
    given = ["--data", place.folder, "--lang", "en", *arguments]
    result = CliRunner().invoke(app, [str(argument) for argument in given])
    assert result.exit_code == status, result.output
    return result.output


def change(place: Place, statement: str) -> None:
    with closing(sqlite3.connect(place.folder / "log.db")) as connection:
        connection.execute(statement)
        connection.commit()


# The command


def test_the_command_lists_stamps_page_by_page(place: Place) -> None:
    page = json.loads(run(place, "--json", "--limit", 1))
    assert [(each["size"], each["authority"], each["problem"]) for each in page["stamps"]] == [(5, "good", "")]
    assert page["gaps"] == []
    assert page["verified"] is False
    page = json.loads(run(place, "--json", "--cursor", page["next_cursor"]))
    assert [each["size"] for each in page["stamps"]] == [2]
    assert page["next_cursor"] is None
    assert "more: --cursor 5" in run(place, "--limit", 1)
    assert "下一页" in run(place, "--limit", 1, "--lang", "zh")


def test_with_the_authorities_at_hand_tokens_are_verified_and_one_that_never_stamps_is_a_gap(place: Place) -> None:
    change(place, f"UPDATE log_entries SET at_ms = {now_ms() - 3_600_000}")
    page = json.loads(run(place, "--json", "--timestamps", place.folder / "anchors.toml"))
    assert page["verified"] is True
    assert [(gap["authority"], gap["size"], gap["until"] is None) for gap in page["gaps"]] == [
        ("good", 0, False),
        ("missing", 0, True),
    ]
    told = run(place, "--timestamps", place.folder / "anchors.toml")
    assert "gap: entries from 0 on waited for missing from" in told
    assert "until now" in told
    assert "缺口" in run(place, "--timestamps", place.folder / "anchors.toml", "--lang", "zh")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE log_stamps SET at_ms = at_ms + 1 WHERE size = 5", "the time beside the token is not the token's"),
        ("UPDATE log_stamps SET token = x'30' WHERE size = 5", "not a time-stamp token"),
        ("UPDATE log_stamps SET size = 4 WHERE size = 5", "not over this text"),
        ("UPDATE log_stamps SET size = 6 WHERE size = 5", "there is no checkpoint of this size"),
    ],
)
def test_the_command_names_a_stamp_that_was_changed(place: Place, statement: str, said: str) -> None:
    change(place, statement)
    assert said in run(place, status=1)


def test_the_command_names_a_stamp_of_somebody_else(place: Place) -> None:
    assert "no path to an anchor" in run(place, "--timestamps", place.folder / "other.toml", status=1)


def test_the_command_says_what_it_cannot_use(place: Place, tmp_path: Path) -> None:
    assert "cannot be read" in run(place, "--timestamps", tmp_path / "none.toml", status=2)
    assert "there is no log" in run(place, "--data", tmp_path / "none", status=2)


def test_the_command_says_that_there_are_none(place: Place) -> None:
    change(place, "DELETE FROM log_stamps")
    assert "There are no time stamps." in run(place)


# The API


@asynccontextmanager
async def api(place: Place, *authorities: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The routes on a real log. Who calls is not the matter here: the management API's tests see to it."""
    application = FastAPI()
    install_error_handlers(application)
    application.include_router(log_stamps.router)
    application.dependency_overrides[caller] = lambda: SimpleNamespace()
    async with place.log() as log:
        reader: LogReader = log.reader
        stamping = Stamping(log, reader, StampConfig(authorities=authorities)) if authorities else None
        application.state.gateway = SimpleNamespace(
            log=log, vouching=Vouching(log, None, stamping), public_url="https://gateway.example"
        )
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="https://gateway.example") as client:
            yield client


async def get(client: httpx.AsyncClient, path: str, status: int = 200) -> Any:
    response = await client.get(path)
    assert response.status_code == status, response.text
    return response.json()


async def test_stamps_gaps_and_authorities_are_shown(place: Place) -> None:
    async with api(place, GOOD, MISSING) as client:
        page = await get(client, "/v1/log/stamps?limit=1")
        assert [(each["size"], each["authority"]) for each in page["stamps"]] == [(5, "good")]
        assert page["stamps"][0]["token"] == "https://gateway.example/v1/log/stamps/5"
        assert [each["name"] for each in page["authorities"]] == ["good", "missing"]
        assert page["refusing"] is False
        page = await get(client, f"/v1/log/stamps?cursor={page['next_cursor']}")
        assert [each["size"] for each in page["stamps"]] == [2]
        assert page["next_cursor"] is None
        change(place, f"UPDATE log_entries SET at_ms = {now_ms() - 3_600_000}")
        page = await get(client, "/v1/log/stamps")
        assert [(each["authority"], each["until"] is None) for each in page["gaps"]] == [
            ("good", False),
            ("missing", True),
        ]


async def test_a_token_verifies_over_the_checkpoint_shown_with_it(place: Place) -> None:
    async with api(place) as client:
        shown = await get(client, "/v1/log/stamps/5")
        text = shown["checkpoint"].partition("\n\n")[0].encode() + b"\n"
        check_token(base64.b64decode(shown["tokens"]["good"]), text, [ROOT.certificate])
        page = await get(client, "/v1/log/stamps")
        assert (page["authorities"], page["refusing"]) == ([], False)


async def test_where_there_is_no_stamp_there_is_none(place: Place) -> None:
    async with api(place) as client:
        for path in ("3", "6", "x", "-1", "9999999999999999999", "٣"):
            assert (await get(client, f"/v1/log/stamps/{path}", 404))["rule"] == "exists"


async def test_what_is_asked_wrongly_is_refused(place: Place) -> None:
    async with api(place) as client:
        for query in ("limit=0", "cursor=x", "size=1", "limit=1&limit=2"):
            await get(client, f"/v1/log/stamps?{query}", 400)
        await get(client, "/v1/log/stamps/5?x=1", 400)


async def test_the_commands_in_the_documents_verify_a_token(place: Place) -> None:
    """Without any of our code."""
    if shutil.which("openssl") is None:
        missing("openssl")
    document = (Path(__file__).parents[2] / "docs/timestamps.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"```sh\n(curl .*?)```", document, re.DOTALL)
    async with api(place) as client:
        (place.folder / "stamped.json").write_text(json.dumps(await get(client, "/v1/log/stamps/5")))
    script = (
        commands.partition("\n")[2].replace("anchors/national-time.pem", "anchors.pem").replace("national-time", "good")
    )
    for anchors, status in (("anchors.pem", 0), ("other.pem", 1)):
        command = ["sh", "-ec", script.replace("anchors.pem", anchors)]
        done = await asyncio.to_thread(subprocess.run, command, cwd=place.folder, capture_output=True, check=False)
        assert done.returncode == status, done.stderr
        assert (b"Time stamp:" in done.stdout) == (status == 0)
