"""A service's contract, compiled: which operation a request is, and whether it and its answer keep to it.

Rules:
1. What a document does not say is not checked; what it says of a body that is not JSON, or that is larger than LARGEST or not at
   hand, is only its type. A request with a body where none is described breaks the contract, and so does an answer.
2. An answer of an error (4xx) that the document does not describe is passed on, because hardly any document describes them all.
   Any other status must be described, `304` apart, which says that nothing changed.
3. Headers of answers are not checked.
4. A message is tried quickly first. Only of one that fails it is looked for what is wrong, and at most MAX_TOLD faults are told.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote

import jsonschema_rs
import msgspec

from exchange.contracts.effort import UNBOUNDED
from exchange.contracts.faults import MAX_TOLD, AnswerBreachError, ContractBreachError, Fault, Part, listed, pointer_of
from exchange.contracts.parameters import UnreadableParameterError, cookies_of, headers_of, query_of, readings
from exchange.contracts.plan import MAX_DEPTH, ContentPlan, OperationPlan, ParameterPlan, Plan, SchemaPlan, schemas_of
from exchange.contracts.planning import is_json, plan_of
from exchange.contracts.schemas import BACKTRACKS, DFA_SIZE, MAX_PATTERN, ContractDocumentError
from exchange.messages.envelope import Headers

LARGEST: Final = 1 << 20
"""Bytes of a body that is checked against a schema."""
QUICK: Final = 4 << 20
"""Steps (`OperationContract.effort`) that hold up nobody: some 40 ms at the very most, and hardly ever one."""
_EVERY_FAULT: Final = 64 << 10
"""Bytes of a body in which more than the first fault is looked for."""
_EXPRESSION: Final = re.compile(r"\{[^{}/]+\}")
_NO_BODY: Final = frozenset((204, 205, 304))
_UNDECODABLE: Final = object()

_decode = msgspec.json.Decoder().decode
_read_plan = msgspec.json.Decoder(Plan).decode


def read_plan(data: bytes) -> Plan:
    """A plan that was written as JSON; raises ContractDocumentError if it is none."""
    try:
        return _read_plan(data)
    except msgspec.MsgspecError as error:
        raise ContractDocumentError("it is no plan of checks") from error


class Contract:
    """A document, compiled. It never changes."""

    def __init__(self, plan: Plan) -> None:
        """
        Raises:
            ContractDocumentError: A schema cannot be compiled.
        """
        self.unchecked = plan.unchecked
        """Pointers to what of the document cannot be checked."""
        schemas = _Schemas(plan)
        self._operations: dict[tuple[str, int], list[OperationContract]] = {}
        for each in plan.operations:
            operation = OperationContract(each, schemas)
            key = (each.method, len(operation.template))
            self._operations.setdefault(key, []).append(operation)
        self.nodes = plan.nodes
        """About how much room it takes, in schemas."""
        for found in self._operations.values():
            found.sort(key=lambda each: each.template.specificity)

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Contract:
        """The contract that a document is (`plan_of`); raises ContractDocumentError."""
        return cls(plan_of(tree))

    def find(self, method: str, segments: Sequence[str]) -> OperationContract | None:
        """The operation that a request is, None if the document has none; one of HEAD is that of GET unless it has its own.

        Args:
            segments: Decoded, of the path below the service.
        """
        segments = () if tuple(segments) == ("",) else segments
        for each in self._operations.get((method, len(segments)), ()):
            if each.template.matches(segments):
                return each
        return self.find("GET", segments) if method == "HEAD" else None


class OperationContract:
    """What one operation demands."""

    def __init__(self, plan: OperationPlan, schemas: _Schemas) -> None:
        self.method, self.path = plan.method, plan.path
        self.template = _Template(plan.path)
        self._parameters = [(each, schemas.of(each.schema)) for each in plan.parameters]
        self._reads_query = any(each.place == "query" for each in plan.parameters)
        self._reads_cookies = any(each.place == "cookie" for each in plan.parameters)
        self._header_names = frozenset(each.name for each in plan.parameters if each.place == "header")
        self._body = None if plan.body is None else _Body(plan.body.content, schemas)
        self._body_required = plan.body is not None and plan.body.required
        self._answers = {status: _Body(content, schemas) for status, content in plan.answers.items()}
        self._effort = max((each.schema.effort[-1] for each in plan.parameters), default=0)

    def effort(self, query: bytes, headers: Headers, body: bytes | None) -> int:
        """Most steps, of about ten nanoseconds, that it takes to check a request (`exchange.contracts.effort`)."""
        steps = self._effort * (len(query) + 256) if self._effort > 1 else 0
        if body and self._body is not None:
            compressed = self._body.has_schema and any(name == b"content-encoding" for name, _ in headers)
            # How large a compressed body is, only unpacking it will tell.
            steps += UNBOUNDED if compressed else self._body.effort(_content_type(headers), body)
        return steps

    def check_request(self, segments: Sequence[str], query: bytes, headers: Headers, body: bytes | None) -> None:
        """Return if a request keeps to the contract.

        Args:
            segments: As given to `Contract.find`.
            headers: As they are handed on, names in lower case.
            body: None if there is one that is not at hand.

        Raises:
            ContractBreachError: It does not.
        """
        faults = [*islice(self._request_faults(segments, query, headers, body), MAX_TOLD)]
        if faults:
            raise ContractBreachError(faults)

    def check_answer(self, status: int, headers: Headers, body: bytes | None, *, head: bool = False) -> None:
        """Return if an answer keeps to the contract.

        Args:
            headers: Names in lower case.
            body: None if there is one that is not at hand.
            head: Whether it answers HEAD, so that it has no body whatever its headers say.

        Raises:
            AnswerBreachError: It does not.
        """
        faults = [*islice(self._answer_faults(status, headers, body, head=head), MAX_TOLD)]
        if faults:
            raise AnswerBreachError(faults)

    def answers_json(self) -> bool:
        """Whether a success of it may be JSON that is checked."""
        return any(body.has_schema for status, body in self._answers.items() if status[0] in "2d")

    def describes(self, status: int) -> bool:
        """Whether the document names a status, by itself or in a range; `default` does not count."""
        return str(status) in self._answers or f"{status // 100}XX" in self._answers

    def _request_faults(
        self, segments: Sequence[str], query: bytes, headers: Headers, body: bytes | None
    ) -> Iterator[Fault]:
        if self._parameters:
            yield from self._parameter_faults(segments, query, headers)
        if self._body is not None:
            if body == b"":
                if self._body_required:
                    yield Fault("body", "", "missing")
                return
            if body and self._body.has_schema:
                body = _plain(headers, body)
                if body is _UNDECODABLE:
                    yield Fault("body", "", "encoding")
                    return
            yield from self._body.faults(_content_type(headers), body)
        elif body != b"":
            yield Fault("body", "", "undescribed")

    def _parameter_faults(self, segments: Sequence[str], query: bytes, headers: Headers) -> Iterator[Fault]:
        try:
            in_query = query_of(query) if self._reads_query and query else ()
        except UnreadableParameterError as error:
            yield Fault("query", "", error.rule)
            return
        in_path = self.template.values(segments)
        in_headers = headers_of(headers, self._header_names) if self._header_names else {}
        in_cookies = cookies_of(headers) if self._reads_cookies else ()
        for parameter, schema in self._parameters:
            match parameter.place:
                case "query":
                    raw = in_query
                case "path":
                    raw = [(parameter.name, in_path[parameter.name])] if parameter.name in in_path else ()
                case "header":
                    raw = [(parameter.name, in_headers[parameter.name])] if parameter.name in in_headers else ()
                case "cookie":
                    raw = in_cookies
            try:
                yield from _faults_of_parameter(parameter, schema, list(readings(parameter, raw)))
            except UnreadableParameterError as error:
                yield Fault(parameter.place, pointer_of(parameter.name), error.rule)

    def _answer_faults(self, status: int, headers: Headers, body: bytes | None, *, head: bool) -> Iterator[Fault]:
        described = self._answers.get(str(status)) or self._answers.get(f"{status // 100}XX")
        if described is None and status == 304:
            return
        if described is None:
            described = self._answers.get("default")
        if described is None:
            if not 400 <= status <= 499:
                yield Fault("body", "", "status")
            return
        if head or status in _NO_BODY:
            return
        if body is not None and body and described.has_schema:
            body = _plain(headers, body)
            if body is _UNDECODABLE:
                yield Fault("body", "", "encoding")
                return
        yield from described.answer_faults(_content_type(headers), body)


def _faults_of_parameter(parameter: ParameterPlan, schema: _Schema, found: list[Any]) -> Iterator[Fault]:
    if not found:
        if parameter.required:
            yield Fault(parameter.place, pointer_of(parameter.name), "missing")
        return
    if parameter.may_be_empty and found[-1] == "":
        return
    if any(schema.allows(value) for value in found):
        return
    for fault in schema.faults(found[0], parameter.place, every=True):
        yield Fault(fault.part, pointer_of(parameter.name) + fault.pointer, fault.rule, fault.limit)


class _Body:
    """The media types of a body, each with what is to be checked of it."""

    def __init__(self, content: Sequence[ContentPlan], schemas: _Schemas) -> None:
        self._content = [
            (each.media_type, None if each.schema is None else schemas.of(each.schema), each.schema) for each in content
        ]
        self.has_schema = any(each.schema is not None for each in content)

    def effort(self, media_type: str | None, body: bytes) -> int:
        found = self._find(media_type or "")
        if found is None or found[2] is None or len(body) > LARGEST:
            return 0
        efforts = found[2].effort
        if len(body) * efforts[-1] <= QUICK:  # as nearly always: how deep it is need not be known
            return len(body) * efforts[-1]
        return len(body) * efforts[min(_depth(body), len(efforts) - 1)]

    def answer_faults(self, media_type: str | None, body: bytes | None) -> Iterator[Fault]:
        if not self._content:
            if body != b"":
                yield Fault("body", "", "undescribed")
        elif body == b"":
            yield Fault("body", "", "missing")
        else:
            yield from self.faults(media_type, body)

    def faults(self, media_type: str | None, body: bytes | None) -> Iterator[Fault]:
        found = None if media_type is None else self._find(media_type)
        if found is None:
            yield Fault("body", "", "content-type", listed([name for name, _, _ in self._content]))
            return
        schema = found[1]
        if schema is None or not is_json(media_type or "") or body is None or len(body) > LARGEST:
            return
        try:
            if _depth(body) > MAX_DEPTH:
                yield Fault("body", "", "limit")
                return
            value = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            yield Fault("body", "", "json")
            return
        if not schema.allows(value):
            yield from schema.faults(value, "body", every=len(body) <= _EVERY_FAULT)

    def _find(self, media_type: str) -> tuple[str, _Schema | None, SchemaPlan | None] | None:
        kind = media_type.partition("/")[0] + "/*"
        for each in self._content:
            if each[0] in (media_type, kind, "*/*"):
                return each
        return None


class _Schemas:
    """The schemas of one document that something is checked against, compiled together, so that what they share is there once."""

    def __init__(self, plan: Plan) -> None:
        """Raises ContractDocumentError."""
        roots = {schema.index for operation in plan.operations for schema in schemas_of(operation)}
        # One validator for all: an object with each of them as a member that has its number.
        whole = {
            "properties": {str(index): {"$ref": f"#/$defs/{index}"} for index in roots},
            "$defs": {str(index): each for index, each in enumerate(plan.definitions)},
        }
        options = jsonschema_rs.FancyRegexOptions(
            backtrack_limit=BACKTRACKS, size_limit=MAX_PATTERN, dfa_size_limit=DFA_SIZE
        )
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                whole, validate_formats=True, pattern_options=options, offline=True
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise ContractDocumentError("a schema of it is no JSON Schema") from error

    def of(self, schema: SchemaPlan) -> _Schema:
        return _Schema(self._validator, str(schema.index))


class _Schema:
    """One schema, to be tried."""

    __slots__ = ("_key", "_validator")

    def __init__(self, validator: jsonschema_rs.Draft202012Validator, key: str) -> None:
        self._validator = validator
        self._key = key

    def allows(self, value: Any) -> bool:
        return self._validator.is_valid({self._key: value})

    def faults(self, value: Any, part: Part, *, every: bool) -> Iterator[Fault]:
        """What is wrong with a value that is: everything, or the first thing found."""
        instance = {self._key: value}
        if every:
            yield from (_fault(error, part) for error in islice(self._validator.iter_errors(instance), MAX_TOLD))
            return
        try:
            self._validator.validate(instance)
        except jsonschema_rs.ValidationError as error:
            yield _fault(error, part)


class _Template:
    """A path of a document, to be compared with decoded segments."""

    def __init__(self, path: str) -> None:
        parts = path.split("/")[1:] if path != "/" else []
        self._segments = [_Segment(part) for part in parts]
        placeholders = path.count("{")
        self.specificity = (placeholders, -len(_EXPRESSION.sub("", path)))

    def __len__(self) -> int:
        return len(self._segments)

    def matches(self, segments: Sequence[str]) -> bool:
        return all(own.matches(segment) for own, segment in zip(self._segments, segments, strict=True))

    def values(self, segments: Sequence[str]) -> dict[str, str]:
        """Name -> value of the placeholders of a path that matches."""
        found: dict[str, str] = {}
        for own, segment in zip(self._segments, () if tuple(segments) == ("",) else segments, strict=True):
            if own.names:
                found.update(zip(own.names, own.split(segment) or (), strict=True))
        return found


class _Segment:
    """One segment: literals with placeholders between them, none of which is empty."""

    __slots__ = ("_literals", "names")

    def __init__(self, text: str) -> None:
        self.names = [name[1:-1] for name in _EXPRESSION.findall(text)]
        self._literals = [unquote(literal) for literal in _EXPRESSION.split(text)]

    def matches(self, segment: str) -> bool:
        return segment == self._literals[0] if not self.names else self.split(segment) is not None

    def split(self, segment: str) -> list[str] | None:
        """The values of the placeholders, each as short as it can be but the last; None if it does not match."""
        first, *middle, last = self._literals
        if not (segment.startswith(first) and segment.endswith(last) and len(segment) > len(first) + len(last)):
            return None
        rest = segment[len(first) : len(segment) - len(last)] if last else segment[len(first) :]
        values = []
        for literal in middle:
            cut = rest.find(literal, 1) if literal else 1
            if cut < 1 or cut >= len(rest):
                return None
            values.append(rest[:cut])
            rest = rest[cut + len(literal) :]
        return [*values, rest] if rest else None


def _fault(error: jsonschema_rs.ValidationError, part: Part) -> Fault:
    error = _most_telling(error)
    kind = error.kind
    place: list[str | int] = list(error.instance_path[1:])  # the first is the schema's number
    limit = ""
    match kind.name:
        case "required":
            limit = listed([kind.property])  # type: ignore[attr-defined]
        case "type":
            limit = listed(kind.types)  # type: ignore[attr-defined]
        case "additionalProperties" | "unevaluatedProperties":
            place += kind.unexpected[:1]  # type: ignore[attr-defined]
        case "format":
            limit = listed([kind.format])  # type: ignore[attr-defined]
        case "maximum" | "minimum" | "exclusiveMaximum" | "exclusiveMinimum":
            limit = listed([kind.limit])  # type: ignore[attr-defined]
        case "maxItems" | "minItems" | "maxLength" | "minLength" | "maxProperties" | "minProperties":
            limit = listed([kind.limit])  # type: ignore[attr-defined]
        case "multipleOf":
            limit = listed([kind.multiple_of])  # type: ignore[attr-defined]
    return Fault(part, pointer_of(*place), kind.name, limit)


def _most_telling(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError:
    """Of the reasons why none of several forms fits, the one that came furthest into the value."""
    for _ in range(MAX_DEPTH):
        if error.kind.name not in ("anyOf", "oneOf") or not getattr(error.kind, "context", None):
            break
        branches = [branch[0] for branch in error.kind.context if branch]  # type: ignore[attr-defined]
        deepest = max(branches, key=lambda each: len(each.instance_path), default=error)
        if len(deepest.instance_path) <= len(error.instance_path):
            break
        error = deepest
    return error


def _content_type(headers: Headers) -> str | None:
    """The media type of a body, lower case and without parameters; None if there is none, or one that is not UTF-8."""
    for name, value in headers:
        if name == b"content-type":
            essence, _, parameters = value.decode("latin-1").lower().partition(";")
            charset = parameters.partition("charset=")[2].partition(";")[0].strip('" \t')
            return None if is_json(essence.strip()) and charset not in ("", "utf-8", "utf8") else essence.strip()
    return None


def _plain(headers: Headers, body: bytes) -> Any:
    """A body without its content encoding; None if it is larger than is checked; _UNDECODABLE if it cannot be decoded."""
    encodings = [value.strip().lower() for name, value in headers if name == b"content-encoding"]
    if all(each in (b"", b"identity") for each in encodings):
        return body
    if encodings not in ([b"gzip"], [b"x-gzip"]):
        return _UNDECODABLE
    try:
        decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        plain = decoder.decompress(body, LARGEST + 1)
    except (zlib.error, gzip.BadGzipFile):
        return _UNDECODABLE
    if len(plain) > LARGEST:
        return None
    return plain if decoder.eof and not decoder.unused_data else _UNDECODABLE


def _depth(body: bytes) -> int:
    """How deep a JSON body is nested, up to one more than MAX_DEPTH; found without looking into it when it is short of brackets."""
    brackets = body.count(b"{") + body.count(b"[")
    if brackets <= 2:
        return brackets
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # All but quotes and brackets goes, then what stands in quotes; as bodies can be large, at C speed.
    nested = b"".join(body.translate(_ONE_KIND, _NO_STRUCTURE).replace(b'""', b"").split(b'"')[::2])
    for depth in range(MAX_DEPTH + 1):  # each round takes the innermost away
        if not nested:
            return depth
        nested = nested.replace(b"{}", b"")
    return MAX_DEPTH + 1


_NO_STRUCTURE: Final = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND: Final = bytes.maketrans(b"[]", b"{}")
