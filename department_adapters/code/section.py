"""`source = "python"`: a service whose operations are functions of the department's own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator

from department_adapters.section import File, ServiceSection
from department_adapters.source import Source


class PythonService(ServiceSection):
    """An `Adapter` in a file beside adapter.toml."""

    source: Literal["python"]
    module: File = Field(description="Python file, relative to adapter.toml: people.py")
    name: str = Field("adapter", description="Of the Adapter in it.")

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not name.isidentifier():
            raise ValueError("not a name of Python")
        return name

    def make_source(self, *, max_answer: int) -> Source:
        """The adapter in the file; raises ContractError if it is not there."""
        from department_adapters.code.loading import load_adapter

        return load_adapter(self.module, self.name)

    def placed(self, home: Path) -> Self:
        return self.model_copy(update={"module": home / self.module})
