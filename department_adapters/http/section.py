"""`source = "http"`: a service that the department's own HTTP API answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field

from department_adapters.http.source import HttpSource
from department_adapters.section import File, ServiceSection
from department_adapters.source import Source


def _base_url(text: str) -> str:
    HttpSource(text)
    return text


class HttpService(ServiceSection):
    """Requests are passed on to `base_url`."""

    source: Literal["http"]
    base_url: Annotated[str, AfterValidator(_base_url)]
    connections: int = Field(100, gt=0)
    trust_anchors: File | None = Field(None, description="PEM bundle for an https system; default: the machine's.")

    def make_source(self, *, max_answer: int) -> Source:
        return HttpSource(
            self.base_url, connections=self.connections, max_answer=max_answer, trust_anchors=self.trust_anchors
        )

    def placed(self, home: Path) -> Self:
        anchors = self.trust_anchors
        return self if anchors is None else self.model_copy(update={"trust_anchors": home / anchors})
