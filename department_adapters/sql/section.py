"""`source = "sql"`: a service whose operations are declared queries to the department's database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from department_adapters.cursors import SHORTEST_SECRET, kept_secret
from department_adapters.section import ContractError, File, Section, ServiceSection, resolved

if TYPE_CHECKING:
    from department_adapters.source import Source
    from department_adapters.sql.operation import SqlOperation


def _database(text: str) -> str:
    from department_adapters.sql.database import database_url

    url = resolved(text, quoted=True)
    database_url(url)
    return url


def _secret(text: str) -> str:
    secret = resolved(text, quoted=False)
    if secret and len(secret) < SHORTEST_SECRET:
        raise ValueError(f"must be at least {SHORTEST_SECRET} characters")
    return secret


def _listed(by: Any) -> Any:
    return [by] if isinstance(by, str) else by


class PageSection(Section):
    """`page = {by = "code", size = 100}` of an operation."""

    by: Annotated[list[str], BeforeValidator(_listed)] = Field(
        min_length=1, max_length=8, description="Columns of the query, together unique and never NULL."
    )
    size: int = Field(100, gt=0, le=10_000, description="Most rows of a page.")


class OperationSection(Section):
    """One `[[services.CODE.operations]]`."""

    path: str = Field(pattern=r"^/")
    query: str = Field(min_length=1)
    method: Literal["GET"] = "GET"
    result: Literal["one", "many"] | None = Field(None, description="Default: one; many with `page`.")
    optional: list[str] = []
    required: list[str] = []
    integers: list[str] = []
    booleans: list[str] = Field([], description="Columns in which 0 and 1 are told as false and true.")
    json_: list[str] = Field([], alias="json", description="Columns whose text is told as JSON.")
    page: PageSection | None = None
    max_rows: int = Field(
        500, gt=0, le=100_000, description="Of many rows without pages; the answer says if there are more."
    )
    max_bytes: int | None = Field(None, gt=0, description="Of rows in an answer; default: max_answer of [limits].")
    timeout: float | None = Field(None, gt=0, description="Seconds of a query; default: the exchange's deadline.")

    @model_validator(mode="after")
    def _agrees(self) -> OperationSection:
        self.operation()
        return self

    def operation(self) -> SqlOperation:
        """As the source takes it; raises ValueError."""
        from department_adapters.sql.operation import Page, SqlOperation

        page = self.page
        return SqlOperation(
            path=self.path,
            query=self.query,
            method=self.method,
            result=self.result or ("many" if page else "one"),
            optional=tuple(self.optional),
            required=tuple(self.required),
            integers=tuple(self.integers),
            booleans=tuple(self.booleans),
            json=tuple(self.json_),
            page=Page(by=tuple(page.by), size=page.size) if page else None,
            max_rows=self.max_rows,
            max_bytes=self.max_bytes,
            timeout=self.timeout,
        )


class SqlService(ServiceSection):
    """Questions become queries; nothing else of the database can be reached."""

    source: Literal["sql"]
    database: Annotated[str, AfterValidator(_database)]
    connections: int = Field(10, gt=0)
    cursor_key: Annotated[str, AfterValidator(_secret)] = Field(
        "",
        description="At least 32 random characters, the same for all instances, so that they take each other's cursors.",
    )
    cursor_file: File = Field(Path("cursor.key"), description="Where it is kept if it is not set; made when missing.")
    operations: list[OperationSection] = Field(min_length=1)

    def make_source(self, *, max_answer: int) -> Source:
        from department_adapters.sql.source import SqlSource

        try:
            return SqlSource(
                self.database,
                [each.operation() for each in self.operations],
                connections=self.connections,
                max_answer=max_answer,
                cursor_secret=self._cursor_secret(),
            )
        except ValueError as error:
            raise ContractError(str(error)) from error
        except OSError as error:
            raise ContractError(
                f"cursor_file {error.filename}: {error.strerror}; pages need it, or cursor_key, at least 32 random characters"
            ) from error

    def placed(self, home: Path) -> Self:
        placed: dict[str, object] = {"cursor_file": home / self.cursor_file}
        if match := re.fullmatch(r"sqlite:///(?!/)(.+)", self.database):
            placed["database"] = f"sqlite:///{quote(str(home))}/{match[1]}"
        return self.model_copy(update=placed)

    def _cursor_secret(self) -> bytes:
        if self.cursor_key or not any(each.page for each in self.operations):
            return self.cursor_key.encode()
        return kept_secret(self.cursor_file)
