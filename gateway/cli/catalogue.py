"""`datong catalogue`: which data resources exist, and on what terms they are shared."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import typer

from exchange import NotFoundError
from gateway.cli import catalogue_prints as prints
from gateway.cli import console_io as io
from gateway.cli.acting import AsOption, actor_of

if TYPE_CHECKING:
    from registry import Actor, Candidate, Catalogue, CatalogueEntry, Change, Department, Registry

app = typer.Typer(
    help="The catalogue: which data resources exist, and on what terms they are shared.", no_args_is_help=True
)

CodeArgument = Annotated[str, typer.Argument(help="Resource code, e.g. 306001/000001")]
PatternOption = Annotated[
    str,
    typer.Option(
        "--code-pattern",
        envvar="DATONG_CATALOGUE_CODE_PATTERN",
        help="Regular expression of further resource codes, as the gateway has it.",
    ),
]
FormatOption = Annotated[str, typer.Option("--format", help="json, xlsx, or dcat (DCAT-AP 3 in JSON-LD).")]

_T = TypeVar("_T")


def _run(
    terminal: io.Terminal,
    work: Callable[[Catalogue, Actor], Awaitable[_T]],
    *,
    acting_as: str = "",
    by: str = "",
    pattern: str = "",
) -> _T:
    """Do `work` with the catalogue, as the operator or as a subsystem."""
    from registry import Catalogue, code_schemes

    try:
        schemes = code_schemes(pattern)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--code-pattern") from error

    async def opened(registry: Registry) -> _T:
        return await work(Catalogue(registry, schemes), await actor_of(registry, acting_as, by))

    return terminal.run(opened)


@app.command()
def search(
    words: Annotated[list[str] | None, typer.Argument(help="Words, Chinese or English; all must be found.")] = None,
    department: Annotated[str, typer.Option("--department", help="Identifier, or words of a name.")] = "",
    theme: Annotated[str, typer.Option("--theme", help="Part of a theme or keyword.")] = "",
    item: Annotated[str, typer.Option("--item", help="Part of an item's name.")] = "",
    sharing_class: Annotated[str, typer.Option("--class", help="unconditional, conditional or not-shared.")] = "",
    division: Annotated[str, typer.Option("--division", help="GB/T 2260; 450100 finds all of 4501xx.")] = "",
    level: Annotated[str, typer.Option("--level", help="national, province, city, county or township.")] = "",
    mode: Annotated[str, typer.Option("--mode", help="How it is shared, e.g. query-interface.")] = "",
    state: Annotated[str, typer.Option("--state", help="published, draft or withdrawn.")] = "published",
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many at most.")] = 50,
    acting_as: AsOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Find resources by name, item, theme, department or code.

    Example: datong catalogue search 纳税 --class conditional
    """
    from registry import LEVELS, RESOURCE_STATES, SHARING_CLASSES, SHARING_MODES, ResourceSearch

    terminal = io.Terminal.of(data, database, as_json, lang)
    for option, value, choices in (
        ("--class", sharing_class, SHARING_CLASSES),
        ("--level", level, LEVELS),
        ("--mode", mode, SHARING_MODES),
        ("--state", state, RESOURCE_STATES),
    ):
        if value and value not in choices:
            raise typer.BadParameter(f"choose from {', '.join(filter(None, choices))}", param_hint=option)
    if division and not (len(division) == 6 and division.isdecimal()):
        raise typer.BadParameter("a division code has six digits", param_hint="--division")
    chosen: dict[str, Any] = {"sharing_class": sharing_class, "level": level, "mode": mode, "state": state}
    wanted = ResourceSearch(
        words=" ".join(words or ()),
        department=department,
        theme=theme,
        item=item,
        division=division,
        limit=limit,
        **chosen,
    )
    found = _run(terminal, lambda catalogue, actor: catalogue.search(actor, wanted), acting_as=acting_as)
    prints.found(terminal, found)


@app.command()
def show(
    code: CodeArgument,
    version: Annotated[int, typer.Option("--version", help="An earlier version, by its number.")] = 0,
    acting_as: AsOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Show a resource, its items, and its versions with what each changed, by whom and why.

    Example: datong catalogue show 306001/000001
    """
    terminal = io.Terminal.of(data, database, as_json, lang)

    async def read(catalogue: Catalogue, actor: Actor) -> tuple[CatalogueEntry, Department, Any]:
        entry, department = await catalogue.entry(actor, code)
        return entry, department, await catalogue.versions(actor, code)

    entry, department, versions = _run(terminal, read, acting_as=acting_as)
    if version:
        chosen = next((each for each in versions if each.number == version), None)
        if chosen is None:
            with io.clear_errors(terminal.lang, as_json):
                raise NotFoundError(what=f"version {version} of {code}", what_zh=f"{code} 的第 {version} 版")
        prints.version(terminal, chosen, department)
        return
    prints.entry(terminal, entry, department, versions)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="One resource, JSON.", exists=True, dir_okay=False)],
    why: io.WhyOption,
    replace: Annotated[bool, typer.Option("--replace", help="Write the next version of one that is there.")] = False,
    pattern: PatternOption = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Write down one resource as a draft; `publish` puts it into force.

    Example: datong catalogue add 纳税人.json --why 目录更新〔2026〕3号
    """
    from gateway.api.bodies import parse_model
    from registry import ResourceDocument

    terminal = io.Terminal.of(data, database, as_json, lang)
    with io.clear_errors(terminal.lang, as_json):
        document = parse_model(file.read_bytes(), ResourceDocument)
    change = _run(
        terminal,
        lambda catalogue, actor: catalogue.save(actor, document, why=why, replace=replace),
        acting_as=acting_as,
        by=by,
        pattern=pattern,
    )
    terminal.changed(change, document.code)


@app.command()
def publish(
    code: CodeArgument,
    why: io.WhyOption,
    pattern: PatternOption = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Put a draft into force as the next version.

    Example: datong catalogue publish 306001/000001 --why 目录更新〔2026〕3号
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    _act(terminal, code, lambda catalogue, actor: catalogue.publish(actor, code, why=why), acting_as, by, pattern)


@app.command()
def withdraw(
    code: CodeArgument,
    why: io.WhyOption,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Take a resource out of force; grants on it permit nothing any more.

    Example: datong catalogue withdraw 306001/000001 --why 职责调整〔2026〕9号
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    _act(terminal, code, lambda catalogue, actor: catalogue.withdraw(actor, code, why=why), acting_as, by, "")


def _act(
    terminal: io.Terminal,
    code: str,
    act: Callable[[Catalogue, Actor], Awaitable[Change | None]],
    acting_as: str,
    by: str,
    pattern: str,
) -> None:
    terminal.changed(_run(terminal, act, acting_as=acting_as, by=by, pattern=pattern), code)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="A catalogue: .json or .xlsx.", exists=True, dir_okay=False)],
    why: Annotated[str, typer.Option("--why", help="The reason, kept on record; not needed for a dry run.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report, and write nothing.")] = False,
    put: Annotated[bool, typer.Option("--publish", help="Put into force what is imported.")] = False,
    pattern: PatternOption = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Write down many resources, all or none; every fault is listed with its cell. Exit code 1 if there is one.

    Example: datong catalogue import 目录.xlsx --dry-run
    """
    if not (why or dry_run):
        raise typer.BadParameter("say why, or try it with --dry-run", param_hint="--why")
    terminal = io.Terminal.of(data, database, as_json, lang)
    with io.clear_errors(terminal.lang, as_json):
        candidates = _candidates(file)
    report = _run(
        terminal,
        lambda catalogue, actor: catalogue.take_in(
            actor, candidates, why=why or "dry run", publish=put, dry_run=dry_run
        ),
        acting_as=acting_as,
        by=by,
        pattern=pattern,
    )
    prints.report(terminal, report)
    if report.faults:
        raise typer.Exit(1)


@app.command()
def export(
    form: FormatOption = "json",
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: standard output.")] = None,
    code: Annotated[str, typer.Option("--code", help="This resource only.")] = "",
    department: Annotated[str, typer.Option("--department", help="Only those of this member or subsystem.")] = "",
    url: Annotated[
        str, typer.Option("--url", help="How callers reach the gateway: what the IRIs of DCAT begin with.")
    ] = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    lang: io.LangOption = "",
) -> None:
    """Write the catalogue, or one resource, as it is in force.

    Example: datong catalogue export --format xlsx --out 目录.xlsx
    """
    if form not in ("json", "xlsx", "dcat"):
        raise typer.BadParameter("choose from json, xlsx, dcat", param_hint="--format")
    if form == "dcat" and not url.startswith(("https://", "http://")):
        raise typer.BadParameter("DCAT needs the gateway's address: --url https://…", param_hint="--url")
    if form == "xlsx" and out is None:
        raise typer.BadParameter("a workbook is written to a file: --out FILE", param_hint="--out")
    terminal = io.Terminal.of(data, database, False, lang)
    chosen = cast("Literal['json', 'xlsx', 'dcat']", form)
    written = _run(terminal, lambda catalogue, actor: _written(catalogue, actor, chosen, code, department, url))
    if out is None:
        typer.echo(written.decode())
    else:
        out.write_bytes(written)
        typer.echo(terminal.say(f"Written: {out}", f"已写入：{out}"))


@app.command()
def template(
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("catalogue-template.xlsx"),
    lang: io.LangOption = "",
) -> None:
    """Write an empty workbook to fill in: headings of the 2017 guide, lists to choose from, notes on every column.

    Example: datong catalogue template --out 目录模板.xlsx
    """
    from registry import empty_workbook

    out.write_bytes(empty_workbook())
    typer.echo({"en": f"Written: {out}", "zh": f"已写入：{out}"}[io.language(lang)])


async def _written(
    catalogue: Catalogue,
    actor: Actor,
    form: Literal["json", "xlsx", "dcat"],
    code: str,
    department: str,
    url: str,
) -> bytes:
    from registry import catalogue_file, dcat_catalogue, dcat_resource, document_of, workbook_of

    found: list[tuple[CatalogueEntry, Department]] = []
    if code:
        found.append(await catalogue.entry(actor, code))
    else:
        async with aclosing(catalogue.published(department)) as entries:
            found += [each async for each in entries]
    if form == "xlsx":
        return workbook_of((entry.content, each) for entry, each in found)
    if form == "json":
        document: Any = catalogue_file(document_of(entry.content, each) for entry, each in found)
    elif code:
        document = dcat_resource(*found[0], url.rstrip("/"))
    else:
        document = dcat_catalogue(found, await catalogue.publisher(), url.rstrip("/"))
    return json.dumps(document, ensure_ascii=False, indent=2).encode()


def _candidates(file: Path) -> tuple[Candidate, ...]:
    """What a file holds, by what it is and not by what it is called."""
    from gateway.api.strict_json import parse_json
    from registry import candidates_in_workbook, candidates_of

    content = file.read_bytes()
    if content.lstrip()[:1] in (b"{", b"["):
        return candidates_of(parse_json(content))
    return candidates_in_workbook(content)
