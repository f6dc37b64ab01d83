"""`source = "sql"`: a service whose operations are declared queries to the department's database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import AfterValidator, Field, model_validator

from department_adapters.section import Section, ServiceSection, resolved
from department_adapters.source import Source
from department_adapters.sql.database import database_url
from department_adapters.sql.source import SqlOperation, SqlSource


def _database(text: str) -> str:
    url = resolved(text, quoted=True)
    database_url(url)
    return url


class OperationSection(Section):
    """One `[[services.CODE.operations]]`."""

    path: str = Field(pattern=r"^/")
    query: str = Field(min_length=1)
    method: Literal["GET"] = "GET"
    result: Literal["one", "many"] = "one"
    optional: list[str] = []
    required: list[str] = []
    integers: list[str] = []
    max_rows: int = Field(500, gt=0, le=100_000)

    @model_validator(mode="after")
    def _agrees(self) -> OperationSection:
        self.operation()
        return self

    def operation(self) -> SqlOperation:
        """As the source takes it; raises ValueError."""
        return SqlOperation(
            path=self.path,
            query=self.query,
            method=self.method,
            result=self.result,
            optional=tuple(self.optional),
            required=tuple(self.required),
            integers=tuple(self.integers),
            max_rows=self.max_rows,
        )


class SqlService(ServiceSection):
    """Questions become queries; nothing else of the database can be reached."""

    source: Literal["sql"]
    database: Annotated[str, AfterValidator(_database)]
    connections: int = Field(10, gt=0)
    operations: list[OperationSection] = Field(min_length=1)

    def make_source(self, *, max_answer: int) -> Source:
        return SqlSource(self.database, [each.operation() for each in self.operations], connections=self.connections)

    def placed(self, home: Path) -> Self:
        if match := re.fullmatch(r"sqlite:///(?!/)(.+)", self.database):
            return self.model_copy(update={"database": f"sqlite:///{quote(str(home))}/{match[1]}"})
        return self
