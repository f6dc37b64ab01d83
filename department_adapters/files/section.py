"""`source = "files"`: a service that answers from a folder of files."""

from __future__ import annotations

import codecs
import glob
import importlib.util
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from department_adapters.cursors import SHORTEST_SECRET, kept_secret
from department_adapters.files.columns import Column, ColumnType
from department_adapters.files.reading import Form, extra_of
from department_adapters.section import ContractError, File, ServiceSection, resolved
from department_adapters.source import Source

_CURSOR = "cursor"
_FOUND_BY = ("text", "integer", "boolean", "date", "datetime")


def _encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise ValueError(f"there is no encoding {name!r}") from error
    return name


def _secret(text: str) -> str:
    secret = resolved(text, quoted=False)
    if secret and len(secret) < SHORTEST_SECRET:
        raise ValueError(f"at least {SHORTEST_SECRET} characters, and random ones: callers hold what is sealed with it")
    return secret


class FilesService(ServiceSection):
    """One table: the files that match, read as one."""

    source: Literal["files"]
    files: str = Field(min_length=1, description="Glob of the files, relative to adapter.toml: drop/*.csv")
    table: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="First segment of the paths.")
    key: str | list[str] = Field(min_length=1, description="The column that names a row, or several that do together.")
    columns: list[str] | dict[str, str] = Field(
        min_length=1,
        description="Columns that leave the department: their headings, or name in answers = heading in the files.",
    )
    types: dict[str, ColumnType] = Field({}, description="Columns that are not text.")
    listing: bool = Field(False, description="Whether rows may be listed at /{table}, page by page.")
    optional: list[str] = Field([], description="Columns by which a list may be filtered.")
    required: list[str] = Field([], description="Columns by which a list must be filtered.")
    page: int = Field(100, gt=0, le=10_000, description="Most rows of an answer.")
    on_duplicate: Literal["refuse", "last"] = Field(
        "refuse", description="Rows with the same key: refuse the files, or let the last one count."
    )
    encoding: Annotated[str, AfterValidator(_encoding)] | None = Field(
        None, description="Of CSV. Default: as its mark says, else UTF-8, else GB 18030."
    )
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="Of CSV. Default: seen from the headings."
    )
    sheet: Annotated[str, Field(min_length=1)] | Annotated[int, Field(gt=0)] = Field(
        1, description="Of spreadsheets: name, or number from 1."
    )
    header: int = Field(1, gt=0, description="Row of the headings.")
    max_bytes: int = Field(
        256 << 20, gt=0, description="Most bytes of the files together, unpacked, and most memory of the rows."
    )
    look_every: float = Field(2.0, gt=0, description="Seconds between looks at the files.")

    cursor_key: Annotated[str, AfterValidator(_secret)] = Field(
        "",
        description="At least 32 random characters, the same for all instances, so that they take each other's cursors.",
    )
    cursor_file: File = Field(Path("cursor.key"), description="Where it is kept if it is not set; made when missing.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        names = self._names()
        if len(set(names)) < len(names):
            raise ValueError("columns names one twice")
        if any(not name.isprintable() or not name.strip() for name in names):
            raise ValueError("a column has no name")
        keys = self._key()
        for where, listed in (
            ("key", keys),
            ("types", tuple(self.types)),
            ("optional", tuple(self.optional)),
            ("required", tuple(self.required)),
        ):
            if unknown := [name for name in listed if name not in names]:
                raise ValueError(f"{where} names {unknown[0]!r}, which is not one of columns")
            if len(set(listed)) < len(listed):
                raise ValueError(f"{where} names a column twice")
        if both := set(self.optional) & set(self.required):
            raise ValueError(f"{min(both)!r} is optional and required")
        if (self.optional or self.required) and not self.listing:
            raise ValueError("optional and required are for lists: listing = true")
        found_by = (*keys, *self.optional, *self.required)
        for name in found_by:
            if self.types.get(name, "text") not in _FOUND_BY:
                raise ValueError(f"{name!r} is a number with a fraction, by which nothing is found exactly")
        if _CURSOR in (*self.optional, *self.required):
            raise ValueError(f"no filter may be called {_CURSOR!r}: give the column another name in answers")
        return self

    def paths(self) -> tuple[str, ...]:
        """Templates of what GET is offered for, from the general to the particular."""
        row = "/".join((f"/{self.table}", *(f"{{{name}}}" for name in self._key())))
        return (f"/{self.table}", row) if self.listing else (row,)

    def _names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def _key(self) -> tuple[str, ...]:
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    def make_source(self, *, max_answer: int) -> Source:
        """The source.

        Raises:
            ContractError: A library that reads the files is not installed, or the secret of cursors cannot be kept.
        """
        from department_adapters.files.loading import TableForm
        from department_adapters.files.source import FilesSource

        extra = extra_of(Path(self.files).suffix.lower())
        if extra is not None and importlib.util.find_spec(extra[0].partition(".")[0]) is None:
            raise ContractError(f"{self.files}: to read such files, pip install 'datong[{extra[1]}]'")
        headings = (
            self.columns if isinstance(self.columns, dict) else dict(zip(self.columns, self.columns, strict=True))
        )
        table = TableForm(
            files=self.files,
            columns=tuple(
                Column(name=name, heading=heading, type=self.types.get(name, "text"))
                for name, heading in headings.items()
            ),
            key=self._key(),
            searched=(*self.required, *self.optional),
            last=self.on_duplicate == "last",
            form=Form(
                encoding=self.encoding or "", delimiter=self.delimiter or "", sheet=self.sheet, header=self.header
            ),
            max_bytes=self.max_bytes,
        )
        return FilesSource(
            self.table,
            table,
            listing=self.listing,
            required=self.required,
            page=self.page,
            look_every=self.look_every,
            max_answer=max_answer,
            cursor_secret=self._cursor_secret(),
        )

    def placed(self, home: Path) -> Self:
        # What stands before the glob is a folder of the user's, whatever characters are in its name.
        files = self.files if Path(self.files).is_absolute() else f"{glob.escape(str(home))}/{self.files}"
        return self.model_copy(update={"files": files, "cursor_file": home / self.cursor_file})

    def _cursor_secret(self) -> bytes:
        if self.cursor_key or not self.listing:
            return self.cursor_key.encode()
        try:
            return kept_secret(self.cursor_file)
        except ValueError as error:
            raise ContractError(str(error)) from error
        except OSError as error:
            raise ContractError(
                f"cursor_file {error.filename}: {error.strerror}; lists need it, or cursor_key, 32 random characters or more"
            ) from error
