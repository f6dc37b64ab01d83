"""Files that people write in TOML: read whole and strictly, refused with the file, the line and the key."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from exchange.errors import UnprocessableError
from exchange.toml_lines import Location, line_of, written

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class TomlSource:
    """Where something was read from, so that what is found wrong later can name the line, too."""

    name: str
    """Of the file, as errors call it; empty when it came from no file."""
    text: str

    def refuse(self, rule: str, location: Location, problem: str, problem_zh: str) -> UnprocessableError:
        """The error for what stands at `location`; to be raised."""
        line = line_of(self.text, location)
        where, where_zh = (f"{self.name}: ", f"{self.name}：") if self.name else ("", "")
        if line:
            where, where_zh = f"{self.name}, line {line}: ", f"{self.name} 第 {line} 行："
        key, key_zh = (f"{written(location)}: ", f"{written(location)}：") if location else ("", "")
        return UnprocessableError(rule, problem=f"{where}{key}{problem}", problem_zh=f"{where_zh}{key_zh}{problem_zh}")


def read_toml(path: Path, model: type[_M], rule: str) -> tuple[_M, TomlSource]:
    """What a file holds, and where it was read from.

    Args:
        model: A strict model that forbids unknown keys.
        rule: The rule that errors name.

    Raises:
        UnprocessableError: The file cannot be read or breaks the format; the message names the line and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "?") if isinstance(error, OSError) else "it is not UTF-8"
        raise UnprocessableError(
            rule, problem=f"{path} cannot be read: {reason}.", problem_zh=f"无法读取 {path}：{reason}。"
        ) from error
    source = TomlSource(path.name, text)
    try:
        return model.model_validate(tomllib.loads(text)), source
    except tomllib.TOMLDecodeError as error:
        raise source.refuse(rule, (), f"{error}.", f"TOML 语法错误：{error}。") from error
    except ValidationError as error:
        first = error.errors()[0]
        # Where a value may be one of two kinds, the last part of the place is the kind's name, which is in no file.
        location = tuple(part for part in first["loc"] if part not in ("datetime", "date"))
        raise source.refuse(rule, location, f"{first['msg']}.", f"{first['msg']}。") from error
