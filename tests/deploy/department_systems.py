"""What departments have that the project has never seen: a database, an API with its document, a folder of files."""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, HTTPException, Security
from fastapi import Path as PathParameter
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from registry.descriptions.examination import Examination, examined

NUMBERS = ["11010519491231002X", "440524188001010014", "450102199001010917"]
"""Invented, with right check characters."""
NAMES = ["王小明", "李芳", "陈静"]
API_KEY = "geheim"

TABLES = (
    "CREATE TABLE owners (id_no VARCHAR(18) PRIMARY KEY, xm VARCHAR(40) NOT NULL, mobile VARCHAR(11), "
    "registered DATE, area DECIMAL(10,2))",
    "CREATE TABLE parcels (parcel INTEGER PRIMARY KEY, owner VARCHAR(18), remark VARCHAR(200))",
    "CREATE TABLE visits (owner VARCHAR(18), visited DATE)",
    *(
        f"INSERT INTO owners VALUES ('{number}', '{name}', '1380013800{at}', '2020-02-0{at + 1}', 12.5{at})"
        for at, (number, name) in enumerate(zip(NUMBERS, NAMES, strict=True))
    ),
    *(f"INSERT INTO parcels VALUES ({at + 1}, '{number}', '属 {number}')" for at, number in enumerate(NUMBERS)),
    *(f"INSERT INTO visits VALUES ('{NUMBERS[0]}', '2024-01-0{day}')" for day in range(1, 4)),
)


def land_registry(folder: Path) -> Path:
    """A SQLite file with TABLES, in a folder whose name is not a plain word."""
    file = folder / "地籍 2026" / "land.db"
    file.parent.mkdir()
    connection = sqlite3.connect(file)
    with connection:
        for statement in TABLES:
            connection.execute(statement)
    connection.close()
    return file


class ExaminerHere:
    """The registry's examination in this process: what it finds is the same, and a test need not begin a process for it."""

    async def examine(self, new: bytes) -> Examination:
        return examined(new)


class Meter(BaseModel):
    """A water meter, told in the style of JavaScript."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    meter_id: int
    holder_name: str
    mobile_phone: str | None = None


def meter_api() -> FastAPI:
    """An API that wants a key, and breaks when it is asked for a meter below 1."""
    app = FastAPI(title="Water meters")
    meters = {
        at: Meter(meter_id=at, holder_name=name, mobile_phone=f"1380013800{at}")
        for at, name in enumerate(NAMES, start=1)
    }

    def key(given: str = Security(APIKeyHeader(name="X-Api-Key"))) -> None:
        if given != API_KEY:
            raise HTTPException(403)

    @app.get("/meters", dependencies=[Security(key)])
    async def list_meters(limit: int = 10) -> list[Meter]:
        return list(meters.values())[:limit]

    @app.get("/meters/{meterId}", dependencies=[Security(key)])
    async def meter(number: Annotated[int, PathParameter(alias="meterId")]) -> Meter:
        if number <= 0:
            raise HTTPException(500)
        if number not in meters:
            raise HTTPException(404)
        return meters[number]

    @app.post("/meters", status_code=201, dependencies=[Security(key)])
    async def add(meter: Meter) -> Meter:
        meters[meter.meter_id] = meter
        return meter

    return app


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An ASGI application on a port of 127.0.0.1; its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # from here on who connects waits, and is not refused
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()
