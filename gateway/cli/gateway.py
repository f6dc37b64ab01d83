"""`datong gateway`: run one gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from alembic.util import CommandError
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import SQLAlchemyError

from exchange import CorruptLogError, Language, MeshError, NoteSigner, Settings
from gateway.cli import console_io as io
from gateway.cli.settings import from_environment, from_folder, variable

FILES = (
    *("trust_anchors", "server_certificate", "server_key", "gateway_certificate", "gateway_key"),
    *("log_key", "subject_key"),
)
SUBJECT_KEY_BYTES = 32


def gateway(
    data: Annotated[
        Path | None, typer.Option(help="Data folder laid out by `datong up`; fills in every path not set by DATONG_*.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")] = None,
    lang: io.LangOption = "",
) -> None:
    """Run a gateway until SIGINT or SIGTERM. Settings come from DATONG_* variables; see docs/settings.md.

    Options win over variables, variables over --data. Requests in progress are finished before the end.

    Example: datong gateway --data ./datong-data --port 8443

    Exit status: 1 if a part of the gateway cannot be opened, 2 if a setting is missing or wrong.
    """
    speak = io.language(lang)
    settings = _settings(data, {"host": host, "port": port}, speak)
    _check_files(settings)
    # Here: what is wrong with the settings, and the help, are told at once, without all that a gateway is made of.
    from gateway.serve import serve

    try:
        serve(settings)
    except MeshError as error:
        _stop(f"{error.detail_in(speak)} {error.next_in(speak)}", 1)
    except SQLAlchemyError as error:
        # Not its text: that carries the statement.
        _stop(_of_databases(getattr(error, "orig", None) or type(error).__name__, speak), 1)
    except CommandError as error:
        _stop(_of_databases(error, speak), 1)  # its schema is of a newer version, say
    except CorruptLogError as error:
        _stop(f"{variable('log_database')}: {error}", 1)
    except (OSError, ValueError) as error:
        _stop(str(error), 1)


def _settings(data: Path | None, options: dict[str, Any], speak: Language) -> Settings:
    try:
        given = {name: value for name, value in options.items() if value is not None}
        return Settings(**(from_folder(data) if data else {}) | from_environment() | given)
    except SettingsError as error:
        _stop(str(error), 2)
    except ValidationError as error:
        missing = False
        for each in error.errors(include_url=False):
            missing = missing or each["type"] == "missing"
            says = {"en": "is not set", "zh": "未设置"}[speak] if each["type"] == "missing" else each["msg"]
            typer.echo(f"datong gateway: {variable(str(each['loc'][0]))}: {says}", err=True)
        if missing:
            todo = {
                "en": "Set it (docs/settings.md), or take everything from a folder of `datong up` with --data DIR.",
                "zh": "请设置（见 docs/settings.md），或用 --data 目录 取自 `datong up` 的数据目录。",
            }
            typer.echo(f"                {todo[speak]}", err=True)
        raise typer.Exit(2) from error


def _check_files(settings: Settings) -> None:
    """End with the variable's name if a file is missing, or a key is none."""
    content = {}
    for name in FILES:
        try:
            content[name] = getattr(settings, name).read_bytes()
        except OSError as error:
            _stop(f"{variable(name)}: {getattr(settings, name)}: {error.strerror}", 2)
    try:
        NoteSigner.from_skey(content["log_key"].decode("ascii"))
    except ValueError:
        # Not the reason: it might quote the key.
        _stop(f"{variable('log_key')}: {settings.log_key} is not a note signer key (PRIVATE+KEY+name+id+key)", 2)
    if len(content["subject_key"]) < SUBJECT_KEY_BYTES:
        _stop(f"{variable('subject_key')}: {settings.subject_key} must hold {SUBJECT_KEY_BYTES} random bytes", 2)


def _of_databases(cause: object, speak: Language) -> str:
    return {
        "en": f"DATONG_REGISTRY_DATABASE or DATONG_LOG_DATABASE cannot be used: {cause}",
        "zh": f"DATONG_REGISTRY_DATABASE 或 DATONG_LOG_DATABASE 不可用：{cause}",
    }[speak]


def _stop(problem: str, status: int) -> NoReturn:
    typer.echo(f"datong gateway: {problem}", err=True)
    raise typer.Exit(status)
