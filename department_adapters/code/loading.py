"""An adapter from a Python file of the department's."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import traceback
from pathlib import Path

from department_adapters.sdk import Adapter
from department_adapters.section import ContractError

_numbers = itertools.count(1)


def load_adapter(module: Path, name: str) -> Adapter:
    """Run the file and take the `Adapter` called `name` from it; each call runs it anew, so that a changed file counts.

    Raises:
        ContractError: The file cannot be read or run, or holds no such adapter.
    """
    # A name of its own: two files may be called alike, and one of ours must not be taken for theirs.
    unique = f"datong_adapter_{next(_numbers)}_{module.stem}"
    spec = importlib.util.spec_from_file_location(unique, module)
    if spec is None or spec.loader is None:
        raise ContractError(f"{module}: not a Python file, name.py")
    # What stands beside it can be imported; behind everything else, so that no file of theirs replaces a library.
    folder = str(module.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[unique] = loaded  # dataclasses and type hints look for it there
    try:
        spec.loader.exec_module(loaded)
    except OSError as error:
        del sys.modules[unique]
        raise ContractError(f"{module}: {error.strerror or error}") from error
    except Exception as error:
        del sys.modules[unique]
        lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == str(module)]
        place = f", line {lines[-1]}" if lines else ""
        raise ContractError(f"{module}{place}: {type(error).__name__}: {error}") from error
    adapter = getattr(loaded, name, None)
    if not isinstance(adapter, Adapter):
        raise ContractError(f"{module}: {name!r} is no Adapter there")
    return adapter
