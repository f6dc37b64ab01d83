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
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from exchange import MASKS, item_keys

if TYPE_CHECKING:
    from department_adapters.guard import Guarded
    from department_adapters.source import Source

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

File = Annotated[Path, Field(strict=False)]


def _mask(name: str) -> str:
    if name and name not in MASKS:
        raise ValueError(f"there is no mask {name[:40]!r}; there are {', '.join(MASKS)}")
    return name


def _item(path: str) -> str:
    item_keys(path)
    return path


class ContractError(ValueError):
    """The adapter's configuration cannot be used; the message names the file, the key and what is wrong with it."""


class Section(BaseModel):
    """One table of the file: strict, and keys nobody knows are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BreakerSection(Section):
    """`[services.CODE.breaker]`: when the service's system is left alone for a while."""

    failures: int = Field(
        10, gt=0, le=1000, description="So many within the window open it, if no more questions succeed in between."
    )
    window: float = Field(10.0, gt=0, description="Seconds.")
    pause: float = Field(5.0, gt=0, description="Seconds until one question is let through to try.")


class ItemSection(Section):
    """One line of `[services.CODE.items]`: what the department says of an item of its answers, as in the catalogue.

    What a grant releases and masks is the grant's; this is what is proposed for it, and what `datong adapter check` looks at.
    """

    name: str = ""
    sensitivity: Literal["public", "internal", "personal", "sensitive-personal"] = "internal"
    mask: Annotated[str, AfterValidator(_mask)] = ""


class ServiceSection(Section):
    """`[services.CODE]`, without the keys of its kind of source. Each kind adds `source: Literal["..."]`."""

    signed_requests: bool = Field(
        False,
        description="Whether questions count only if the caller's own key signed them, whatever the gateway says.",
    )

    contract: File | None = Field(
        None, description="OpenAPI document of the service; requests and answers keep to it, or go no further."
    )
    concurrency: int | None = Field(
        None, gt=0, description="Requests at the service's system at once; default: that of [limits]."
    )
    queue: int | None = Field(None, ge=0, description="Requests that may wait; default: that of [limits].")
    max_request: int | None = Field(None, gt=0, description="Largest request body in bytes; default: that of [limits].")
    max_answer: int | None = Field(None, gt=0, description="Largest answer body in bytes; default: that of [limits].")
    items: dict[Annotated[str, AfterValidator(_item)], ItemSection] = Field(
        {}, description="Item path -> what is said of it."
    )
    retries: int = Field(
        1, ge=0, le=5, description="How often a request that changes nothing is repeated when its system failed."
    )
    breaker: BreakerSection = BreakerSection()

    def guarded(self, source: Source, name: str, *, concurrency: int, queue: int) -> Guarded:
        """The source behind the turns, the breaker and the repeats that are declared.

        Args:
            name: The service's code.
            concurrency, queue: Where the section sets none.
        """
        from department_adapters.guard import Breaker, Guarded, Turns

        breaker = self.breaker
        return Guarded(
            source,
            name=name,
            turns=Turns(
                concurrency if self.concurrency is None else self.concurrency,
                queue if self.queue is None else self.queue,
            ),
            breaker=Breaker(failures=breaker.failures, window=breaker.window, pause=breaker.pause),
            retries=self.retries,
            max_request=self.max_request,
            max_answer=self.max_answer,
        )

    def keeping_contract(self, source: Source) -> Source:
        """The source behind the contract that is declared, if one is; raises ContractError if that cannot be used."""
        if self.contract is None:
            return source
        from department_adapters.contract_check import ContractKept, read_kept_contract

        return ContractKept(source, read_kept_contract(self.contract))

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
