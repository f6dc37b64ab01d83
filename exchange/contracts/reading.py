"""Bytes to the plain values of an OpenAPI document, JSON or YAML, for whoever holds a document that no registry examined.

YAML is read for the JSON that it writes: keys are text, dates and `yes` are text, and there are no anchors, so that no document
is larger than it looks.
"""

from __future__ import annotations

import json
from typing import Any, Final

from exchange.contracts.schemas import ContractDocumentError

MAX_BYTES: Final = 10 << 20
_DEEPEST: Final = 100
_NULLS = ("", "~", "null", "Null", "NULL")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")


def read_contract_document(data: bytes) -> dict[str, Any]:
    """The values of a document; raises ContractDocumentError if it is neither JSON nor YAML, or no object."""
    if len(data) > MAX_BYTES:
        raise ContractDocumentError(f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
        tree = json.loads(text) if text.lstrip().startswith("{") else _read_yaml(text)
    except UnicodeDecodeError as error:
        raise ContractDocumentError(f"byte {error.start + 1} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ContractDocumentError(f"not JSON: {error.msg} in line {error.lineno}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ContractDocumentError):
            raise
        raise ContractDocumentError("it is nested too deep, or holds a number that is too long") from error
    if not isinstance(tree, dict):
        raise ContractDocumentError("it is not an OpenAPI document")
    return tree


def _read_yaml(text: str) -> Any:
    import yaml  # only documents need it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise ContractDocumentError(
                    f"line {event.start_mark.line + 1} has an alias; write what it names instead"
                )
        root = yaml.compose(text, Loader=loader)
        return _value(yaml, root) if root is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ContractDocumentError(
            f"not YAML{where}: {getattr(error, 'problem', None) or type(error).__name__}"
        ) from error


def _value(yaml: Any, node: Any) -> Any:
    if isinstance(node, yaml.MappingNode):
        found = {}
        for key, each in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in found:
                raise ContractDocumentError(f"line {key.start_mark.line + 1}: a key is no text, or comes twice")
            found[key.value] = _value(yaml, each)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(yaml, each) for each in node.value]
    return node.value if node.style else _scalar(node.value)  # the parser in C says '' where the other says None


def _scalar(text: str) -> Any:
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[0] in "+-.0123456789":
        for kind in (int, float):
            try:
                number = kind(text)
            except ValueError:
                continue
            # Python reads more than YAML writes: 1_000, infinity.
            return number if text.strip("+-").replace("_", "x")[0] in ".0123456789" and "_" not in text else text
    return text
