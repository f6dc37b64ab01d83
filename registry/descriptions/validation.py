"""Whether a document keeps to the OpenAPI specification, by the word of the library openapi-spec-validator.

The library resolves references by itself wherever it meets something that looks like one, also inside data; here it is given
no way to fetch anything. Its walk through recursive schemas is bounded by us, and what it finds is given its place. It takes
seconds for large documents, so it runs in a process of its own (`registry.descriptions.examination`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from exchange import UnprocessableError
from registry.descriptions.document import Document, Place, refusal
from registry.descriptions.references import References

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

_FOREIGN = ("jsonschema", "jsonschema_path", "openapi_schema_validator", "openapi_spec_validator", "referencing")


def validate(document: Document, references: References) -> None:
    """Return if `document` is valid OpenAPI 3.0 or 3.1.

    Raises:
        UnprocessableError: `description-openapi`, with the library's own words and a pointer to what it means.
    """
    try:
        found = _first_finding(document)
    except RecursionError as error:
        raise _refused((), "the schemas follow each other too deep") from error
    except Exception as error:
        # The library trusts more than it checks. What makes it stumble is no document that others could read; whether
        # it stumbled over the document or over us shows in who raised.
        if not (isinstance(error, _FetchingError) or _raised_by(error).startswith(_FOREIGN)):
            raise
        raise _refused((), f"it cannot be read as OpenAPI ({type(error).__name__})") from error
    if found is not None:
        said = _most_telling(found)
        place = references.locate((*_path(found), *list(said.absolute_path)[len(found.absolute_path) :]))
        raise _refused(place, _words(said))


def _first_finding(document: Document) -> ValidationError | None:
    """What breaks the form of the document; only if nothing does, what breaks the other rules."""
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from jsonschema_path.paths import SchemaPath
    from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator
    from openapi_spec_validator.schemas import schema_v30, schema_v31

    library, form = (OpenAPIV30SpecValidator, schema_v30) if document.is_3_0 else (OpenAPIV31SpecValidator, schema_v31)
    rules = dict(library.keyword_validators)
    rules |= {name: _placing(rules[name], 2) for name in ("operation", "path")}
    rules |= {name: _placing(rules[name], 0) for name in ("parameters", "parameter")}
    rules["default"] = _placing(rules["default"], 0, "default")
    rules["schema"] = _placing(_bounded(rules["schema"]), 0)
    ours = type("Validator", (library,), {"keyword_validators": rules})
    validator = ours(SchemaPath.from_dict(document.tree, handlers=_NoHandlers()))
    # Not the validator that the library would choose by what else is installed: its words would differ from place to place.
    of_form = validator_for(dict(form))(dict(form))
    return best_match(of_form.iter_errors(document.tree)) or next(_others(validator, document), None)


def _others(validator: Any, document: Document) -> Iterator[ValidationError]:
    """What breaks rules that are no matter of form."""
    schemas = (document.tree.get("components") or {}).get("schemas") or {}
    each_apart = validator.keyword_validators_registry["schema"]
    each_apart.apart = {id(schema) for schema in schemas.values()}
    for name, schema in schemas.items():
        each_apart.apart.discard(id(schema))
        yield from each_apart(validator.schema_path / "components" / "schemas" / name)
        each_apart.apart.add(id(schema))
    yield from validator.root_validator(validator.schema_path)


def _placing(library: Any, argument: int, *inside: str) -> type[Any]:
    """A validator of the library's that notes in its errors the place of what it was given as that argument."""
    # `path` takes (url, path item), `operation` (url, method, operation, parameters), the others what they validate.

    class Placing(library):  # type: ignore[misc]
        def __call__(self, *arguments: Any, **more: Any) -> Iterator[ValidationError]:
            given = arguments[min(argument, 1 if len(arguments) == 2 else argument)]
            for error in super().__call__(*arguments, **more):
                if not hasattr(error, _PLACE):
                    setattr(error, _PLACE, (*given.parts, *inside, *error.absolute_path))
                yield error

    return Placing


_PLACE = "_datong_place"


def _path(error: ValidationError) -> Place:
    return tuple(getattr(error, _PLACE, error.absolute_path))


def _bounded(library: Any) -> type[Any]:
    """The library's validator of schemas, with a walk that stays within one schema.

    The library goes through references from schema to schema, with all that led there in hand: a thousand schemas that refer
    to each other would take memory for the square of their number.
    """

    class Bounded(library):  # type: ignore[misc]
        def __init__(self, registry: Any) -> None:
            super().__init__(registry)
            self.visited_schema_ids = _Seen()
            self.meta_checked_schema_ids = _Seen()
            self.apart: set[int] = set()
            """Schemas that are looked at by themselves, and not where something refers to them."""

        def __call__(self, schema: Any, *_: Any, meta_checked: bool = False, **__: Any) -> Iterator[ValidationError]:
            own = id(schema.read_value())
            if own in self.apart:
                return
            # That something is required which no property describes is no fault, whatever the library thinks of it.
            yield from super().__call__(schema, require_properties=False, meta_checked=meta_checked)

        def _collect_properties(self, schema: Any) -> set[str]:
            return set()  # would only serve that opinion, and never ends where schemas come back to themselves

    return Bounded


class _Seen(set[int]):
    """A set that can be appended to, for a list in which everything is looked up."""

    def append(self, member: int) -> None:
        self.add(member)


class _FetchingError(Exception):
    """The library wanted to fetch something."""


class _NoHandlers(Mapping[str, Callable[[str], NoReturn]]):
    """Handles every kind of address, by refusing."""

    def __getitem__(self, scheme: str) -> Callable[[str], NoReturn]:
        def refuse(uri: str) -> NoReturn:
            raise _FetchingError

        return refuse

    def __contains__(self, scheme: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _raised_by(error: BaseException) -> str:
    """The module whose code raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__", "")) if trace is not None else ""


def _most_telling(error: ValidationError) -> ValidationError:
    """Of the reasons why none of several forms fits, the one that came furthest."""
    while error.context:
        # That something is no reference either is never what its author meant.
        meant = [
            each for each in error.context if not (each.validator == "required" and "$ref" in each.validator_value)
        ]
        error = max(meant or error.context, key=lambda each: len(each.absolute_path))
    return error


def _words(error: ValidationError) -> str:
    """What the library says, without repeating half the document."""
    text = str(error.message).strip().rstrip(".")
    return text if len(text) <= 200 else f"{text[:100]} … {text[-90:]}"


def _refused(place: Place, words: str) -> UnprocessableError:
    return refusal("description-openapi", place, f"Not valid OpenAPI: {words}.", f"不符合 OpenAPI 规范：{words}。")
