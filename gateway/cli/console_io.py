"""What every command shares: options, languages, tables, JSON, and errors that become one clear line and an exit code.

Exit codes: 0 done, 1 refused or failed (the line says why and what to do), 2 wrong usage.
With `--json`, standard output carries one JSON document and nothing else; an error is one on standard error.
"""

from __future__ import annotations

import asyncio
import dataclasses
import getpass
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from exchange import Language, MeshError

if TYPE_CHECKING:
    # Loaded where they are used: they take a third of a second, and many commands do without.
    from rich.console import Console

    from registry import Change, Registry

_T = TypeVar("_T")

DATA = Path("datong-data")
DATABASE_VARIABLE = "DATONG_REGISTRY_DATABASE"

DataOption = Annotated[Path, typer.Option("--data", help="Data folder of the mesh; the registry is registry.db in it.")]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        envvar=DATABASE_VARIABLE,
        help="Registry database, instead of --data: sqlite:///PATH or postgresql://USER@HOST/NAME.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LangOption = Annotated[str, typer.Option("--lang", help="en or zh; default: from LC_ALL and LANG.")]
ByOption = Annotated[str, typer.Option("--by", help="Who decides; default: your login name.")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, kept on record. A document number is a good one.")]


def language(option: str = "") -> Language:
    """The language to speak: the option if given, else the environment's."""
    if option:
        if option.lower()[:2] not in ("en", "zh"):
            raise typer.BadParameter("write --lang en or --lang zh")
        return "zh" if option.lower().startswith("zh") else "en"
    setting = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if setting.lower().startswith("zh") else "en"


def who(option: str) -> str:
    """Who acts: the option if given, else the login name."""
    if option:
        return option
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return f"uid {os.getuid()}"


def plain(value: Any) -> Any:
    """Records, instants and bytes as JSON can carry them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    return value


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False, indent=2))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output; piped, it is as wide as its content, so that nothing is cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    _console().print(table)


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Names and values, one a line; empty values are left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields:
        if value not in ("", None, ()):
            table.add_row(name, Text(str(value)))
    _console().print(table)


def _console() -> Console:
    from rich.console import Console

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 400
    return Console(file=sys.stdout, width=width, highlight=False, soft_wrap=not sys.stdout.isatty())


def fail(problem: str, *, todo: str = "", as_json: bool = False, **facts: object) -> NoReturn:
    """Say on standard error what is wrong and what to do, and end with exit code 1."""
    if as_json:
        typer.echo(json.dumps({"error": {**facts, "detail": problem, "next": todo}}, ensure_ascii=False), err=True)
    else:
        typer.echo(f"error: {problem}", err=True)
        if todo:
            typer.echo(f"       {todo}", err=True)
    raise typer.Exit(1)


@contextmanager
def clear_errors(lang: Language, as_json: bool) -> Iterator[None]:
    """Turn what a user can meet into `fail`; a fault of the program stays a traceback."""
    try:
        yield
    except MeshError as error:
        fail(
            error.detail_in(lang),
            todo=error.next_in(lang),
            as_json=as_json,
            code=error.code,
            rule=error.rule,
            status=error.status,
            **({"pointer": error.pointer} if error.pointer else {}),
        )
    except _database_errors() as error:
        # Not str() of SQLAlchemy's: it carries the statement and its parameters.
        cause = getattr(error, "orig", None) or (error if isinstance(error, OSError) else type(error).__name__)
        fail(
            {"en": f"The registry's database cannot be used: {cause}", "zh": f"登记数据库不可用：{cause}"}[lang],
            todo={
                "en": f"Check --data, --database or {DATABASE_VARIABLE}, and that the database server runs.",
                "zh": f"请检查 --data、--database 或 {DATABASE_VARIABLE}，并确认数据库服务已启动。",
            }[lang],
            as_json=as_json,
            code="database-unavailable",
        )


def _database_errors() -> tuple[type[Exception], ...]:
    """OSError, and SQLAlchemy's own if anything has loaded it: what is not there cannot be raised."""
    loaded = sys.modules.get("sqlalchemy.exc")
    return (OSError,) if loaded is None else (OSError, loaded.SQLAlchemyError)


@dataclasses.dataclass(frozen=True, slots=True)
class Terminal:
    """One command's place: which registry it works on, and how it speaks."""

    data: Path
    database: str
    as_json: bool
    lang: Language

    @classmethod
    def of(cls, data: Path, database: str, as_json: bool, lang: str) -> Terminal:
        """From the options as given; raises typer.BadParameter for an unknown language."""
        return cls(data, database, as_json, language(lang))

    def run(self, work: Callable[[Registry], Awaitable[_T]], *, create: bool = False) -> _T:
        """Open the registry, do `work` with it, close it; errors end the command with a clear line.

        Args:
            create: Whether a registry that is not there yet is begun.
        """

        from registry import Registry

        async def opened() -> _T:
            registry = await Registry.open(self._url(create))
            try:
                return await work(registry)
            finally:
                await registry.close()

        with clear_errors(self.lang, self.as_json):
            return asyncio.run(opened())

    def _url(self, create: bool) -> str:
        from exchange import database_url, sqlite_path

        url = self.database or f"sqlite:///{self.data / 'registry.db'}"
        try:
            path = sqlite_path(database_url(url))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--database") from error
        if path is not None and not create and not path.exists():
            raise FileNotFoundError(f"there is no registry at {path}; `datong up` or `datong member add` begins one")
        return url

    def say(self, en: str, zh: str) -> str:
        """One of two texts, by language."""
        return zh if self.lang == "zh" else en

    def changed(self, change: Change | None, target: str) -> None:
        """Print what a changing command did."""
        if self.as_json:
            print_json({"changed": change is not None, "version": change.version if change else None, "target": target})
        elif change is None:
            typer.echo(self.say(f"Nothing changed: {target} is so already.", f"无变更：{target} 已是该状态。"))
        else:
            version = self.say(f"registry version {change.version}", f"登记版本 {change.version}")
            typer.echo(f"{self.say('Done', '完成')}: {change.action} {target} ({version})")

    def history(self, changes: Sequence[Change]) -> None:
        """Print who changed something, and why."""
        typer.echo("")
        headers = self.say("version at by action why", "版本 时间 操作人 动作 理由").split()
        rows = [(each.version, plain(each.at), each.by, each.action, each.why) for each in changes]
        print_table(headers, rows)
