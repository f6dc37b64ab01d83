"""Which declared operation of a service a call is, most specific first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registry.patterns import PathPattern, compile_pattern
from registry.records import Operation

_Candidates = tuple[tuple[PathPattern, Operation], ...]


@dataclass(frozen=True, slots=True)
class OperationIndex:
    """Operations of one service. Templates are found by method and number of segments, globs are tried after them."""

    templates: Mapping[tuple[str, int], _Candidates]
    globs: Mapping[str, _Candidates]

    @classmethod
    def of(cls, operations: Iterable[Operation]) -> OperationIndex:
        templates: dict[tuple[str, int], _Candidates] = {}
        globs: dict[str, _Candidates] = {}
        compiled = [(compile_pattern(operation.path), operation) for operation in operations]
        for pattern, operation in sorted(compiled, key=lambda pair: pair[0].specificity):
            if pattern.template is None or pattern.open_ended:
                globs[operation.method] = (*globs.get(operation.method, ()), (pattern, operation))
            else:
                key = (operation.method, len(pattern.template))
                templates[key] = (*templates.get(key, ()), (pattern, operation))
        return cls(templates, globs)

    def find(self, method: str, segments: tuple[str, ...], path: str) -> Operation | None:
        """The operation that `method` on `path` is, None when the service declares none."""
        for pattern, operation in self.templates.get((method, len(segments)), ()):
            if pattern.matches(segments, path):
                return operation
        for pattern, operation in self.globs.get(method, ()):
            if pattern.matches(segments, path):
                return operation
        return None

    def methods(self, segments: tuple[str, ...], path: str) -> set[str]:
        """The methods that a path takes."""
        methods = {method for method, _ in self.templates} | set(self.globs)
        return {method for method in methods if self.find(method, segments, path)}
