"""A section of `adapter.toml` that declares a service: what all kinds of sources have in common.

Rules:
1. A section is light: what its source needs is imported when the source is made, so that no adapter loads another's libraries.
2. No secret stands in the file: a value may name environment variables, `${CIVIL_PASSWORD}`.
"""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from department_adapters.source import Source

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

File = Annotated[Path, Field(strict=False)]


class Section(BaseModel):
    """One table of the file: strict, and keys nobody knows are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ServiceSection(Section):
    """`[services.CODE]`, without the keys of its kind of source. Each kind adds `source: Literal["..."]`."""

    signed_requests: bool = Field(
        False,
        description="Whether questions count only if the caller's own key signed them, whatever the gateway says.",
    )

    @abstractmethod
    def make_source(self, *, max_answer: int) -> Source:
        """The source that is declared.

        Args:
            max_answer: Largest answer body in bytes.
        """

    def placed(self, home: Path) -> Self:
        """The same with its paths made absolute; `home` is the folder of the file."""
        return self


def resolved(text: str, *, quoted: bool) -> str:
    """A value with its references to the environment replaced.

    Args:
        quoted: Percent-encode what is put in, unless it is the whole: for URLs, so that any password fits.

    Raises:
        ValueError: A variable is not set, or a reference is malformed. The message tells no value.
    """
    value = _REFERENCE.sub(lambda match: _variable(match[1], quoted=quoted and match[0] != text), text)
    if "${" in _REFERENCE.sub("", text):
        raise ValueError("a reference to the environment is ${NAME}")
    return value


def _variable(name: str, *, quoted: bool) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ValueError(f"the environment variable {name} is not set")
    return quote(value, safe="") if quoted else value
