"""Which records a command is about: one option for each condition, the same for every command of `datong audit` that searches."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from exchange import RecordFilter, SubjectKeys, database_url, sqlite_path
from gateway.cli import console_io as io
from gateway.cli.audit_io import instant
from gateway.cli.settings import from_environment, from_folder, from_running_mesh

_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_Kind = Literal["exchange", "change", "access", "retention", "any"]
_NUMBER: Final = (
    "a hash as records show it, or - to read the number from standard input, so that it stands nowhere else."
)

# Name of the option -> its type and what it means. All but the last groups are members of `RecordFilter` by the same name.
_TEXTS: Final[dict[str, str]] = {
    "client": "Subsystem that asked.",
    "owner": "Subsystem that was asked.",
    "service": "Service that was asked.",
    "purpose": "Purpose that was named.",
    "case": "Case or document number, X-Road-Issue.",
    "user": "Acting official, X-Road-UserId.",
    "represented": "X-Road-Represented-Party.",
    "outcome": "answered, refused, failed or unknown.",
    "rule": "Rule that refused.",
    "code": "Code of the error that the caller was given.",
    "source": "Where an error arose: gateway, bus, adapter or backend.",
    "certificate": "SHA-256 of the caller's certificate, hex.",
    "certificate_serial": "Its serial number, hex; zeros in front, colons and case do not count.",
    "message_id": "X-Road-Id.",
    "method": "Method of the call.",
    "path_template": "Path as it is declared.",
    "channel": "hall, web, mobile, kiosk or hotline.",
    "grant": "Grant, in any version or as g42@7.",
}
_BOUNDS: Final[dict[str, tuple[str, int, str]]] = {
    "min_status": ("status_min", 1, "HTTP status, at least."),
    "max_status": ("status_max", 1, "HTTP status, at most."),
    "min_duration_ms": ("duration_min_us", 1000, "How long it took, at least."),
    "max_duration_ms": ("duration_max_us", 1000, "How long it took, at most."),
    "min_request_bytes": ("request_size_min", 1, "Size of the request's body, at least."),
    "max_request_bytes": ("request_size_max", 1, "Size of the request's body, at most."),
    "min_answer_bytes": ("answer_size_min", 1, "Size of the answer's body, at least."),
    "max_answer_bytes": ("answer_size_max", 1, "Size of the answer's body, at most."),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command looks for, as it was said."""

    search: RecordFilter
    subject: str
    person: str

    async def resolved(self, data: Path) -> tuple[RecordFilter, RecordFilter]:
        """The filter with hashes in place of numbers; and the same as it may stand in an export (`gateway.api.exchange_filters`).

        Raises:
            FileNotFoundError: A number is to be hashed, and the keys of subjects are not there.
            UnavailableError: They cannot be read.
        """
        subjects, subjects_told = await _hashes(self.subject, data)
        persons, persons_told = await _hashes(self.person, data)
        return (
            replace(self.search, subjects=subjects, persons=persons),
            replace(self.search, subjects=subjects_told, persons=persons_told),
        )


def takes_filter(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each condition in place of its parameter `wanted`, which is a `Wanted`."""
    options = _options()
    own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "wanted"]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        said = {name: given.pop(name) for name in options}
        command(wanted=_wanted(said), **given)

    signature = inspect.Signature(
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in [*options.values(), *own]]
    )
    with_options.__signature__ = signature  # type: ignore[attr-defined]  # what typer reads
    with_options.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    del with_options.__wrapped__  # else the command's own signature would count
    return with_options


def _options() -> dict[str, inspect.Parameter]:
    def option(name: str, kind: Any, default: Any, told: str) -> inspect.Parameter:
        flag = "--" + name.replace("_", "-")
        annotation = Annotated[kind, typer.Option(flag, help=told)]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    found = [
        option(
            "kind", _Kind, "exchange", "Exchanges, changes of the registry (action as rule), looks, or acts on the log."
        ),
        *(option(name, str, "", told) for name, told in _TEXTS.items()),
        option("subject", str, "", f"Who was asked about: {_NUMBER}"),
        option("person", str, "", f"The natural person whose certificate called: {_NUMBER}"),
        *(option(name, int | None, None, told) for name, (_, _, told) in _BOUNDS.items()),
        option("since", str, "", "Date (UTC) or RFC 3339 instant, inclusive."),
        option("until", str, "", "Date (UTC) or RFC 3339 instant, exclusive."),
    ]
    return {each.name: each for each in found}


def _wanted(said: dict[str, Any]) -> Wanted:
    conditions: dict[str, Any] = {name: said[name] for name in _TEXTS}
    conditions["certificate_serial"] = conditions["certificate_serial"].replace(":", "")
    for name, (member, factor, _) in _BOUNDS.items():
        conditions[member] = None if said[name] is None else said[name] * factor
    conditions |= {"since_ms": instant(said["since"], "--since"), "until_ms": instant(said["until"], "--until")}
    for name in ("subject", "person"):
        if said[name] and said[name] != "-" and not _HASH.fullmatch(said[name]):
            raise typer.BadParameter(f"give {_NUMBER}", param_hint=f"--{name}")
    if said["subject"] == said["person"] == "-":
        raise typer.BadParameter("standard input holds one number", param_hint="--subject, --person")
    return Wanted(RecordFilter(kind=said["kind"], **conditions), said["subject"], said["person"])


async def _hashes(said: str, data: Path) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    if not said:
        return None, None
    if said != "-":
        return (found := frozenset({said.lower()})), found
    number = sys.stdin.readline().strip()
    places: dict[str, Any] = from_folder(data) | from_running_mesh(data) | from_environment()
    file = sqlite_path(database_url(str(places["subject_database"])))
    if file is not None and not file.exists():
        raise FileNotFoundError(f"the keys of subjects are not there: {file}")
    keys = await SubjectKeys.open(str(places["subject_database"]), Path(places["subject_key"]).read_bytes())
    try:
        hashes = await keys.hashes_of(number)
    finally:
        await keys.close()
    return frozenset(hashes), frozenset(hashes[:-1])


DataOption = Annotated[
    Path, typer.Option("--data", help="Data folder of the mesh, with the log (log.db) and the keys of subjects.")
]
SearchOption = Annotated[
    str,
    typer.Option(
        "--search-database",
        envvar="DATONG_SEARCH_DATABASE",
        help="Database of the search index, if it is not beside the log. Without an index every record is read.",
    ),
]
DATA = io.DATA
