"""Who stamps checkpoints and how often: the TOML file that the setting `timestamps` names (docs/timestamps.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field

from exchange.timestamps.der import DerError, write_identifier
from exchange.toml_files import TomlSource, read_toml
from exchange.toml_lines import Location

RULE = "timestamps"
DEFAULT_INTERVAL = 60.0
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StampAuthority:
    """One authority."""

    name: str
    """What its stamps are kept under; another name is another authority."""
    url: str
    anchors: tuple[x509.Certificate, ...]
    """CA certificates that its own must lead to."""
    policy: str
    """Object identifier that is asked for and must come back; empty: any."""
    digest: Literal["sha256", "sha384", "sha512"]
    timeout: float
    """Seconds for a request and its answer."""
    tls_anchors: Path | None
    """PEM bundle that an https address is checked with; None: the system's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StampConfig:
    """All authorities, and what follows when none of them answers. Times are seconds."""

    authorities: tuple[StampAuthority, ...]
    interval: float = DEFAULT_INTERVAL
    required: bool = False
    """Whether exchanges are refused when entries have waited for a stamp longer than `patience`."""
    patience: float = 14400.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Authority(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    url: Annotated[str, Field(max_length=2000)]
    anchors: Annotated[str, Field(min_length=1)]
    policy: str = ""
    digest: Literal["sha256", "sha384", "sha512"] = "sha256"
    timeout: Annotated[float, Field(gt=0, le=300)] = 10.0
    tls_anchors: str = ""


class _File(_Strict):
    interval: Annotated[float, Field(gt=0, le=3600)] = DEFAULT_INTERVAL
    required: bool = False
    patience: Annotated[float, Field(gt=0, le=7 * 86400)] = 14400.0
    authority: Annotated[list[_Authority], Field(min_length=1, max_length=16)]


def read_timestamps(path: Path) -> StampConfig:
    """What the file says. Files that it names are found beside it.

    Raises:
        UnprocessableError: It breaks the format, or a file that it names cannot be used; rule `timestamps`.
    """
    content, source = read_toml(path, _File, RULE)
    names = [each.name for each in content.authority]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise source.refuse(
                RULE, ("authority", place, "name"), f"{name!r} stands there twice.", f"{name!r} 重复出现。"
            )
    if content.required and content.patience < content.interval:
        raise source.refuse(RULE, ("patience",), "it is shorter than the interval.", "不得短于 interval。")
    return StampConfig(
        authorities=tuple(
            [_authority(each, place, path.parent, source) for place, each in enumerate(content.authority)]
        ),
        interval=content.interval,
        required=content.required,
        patience=content.patience,
    )


def _authority(each: _Authority, place: int, folder: Path, source: TomlSource) -> StampAuthority:
    where = ("authority", place)
    try:
        address = urlsplit(each.url)
        usable = address.scheme in ("http", "https") and bool(address.hostname) and (address.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not each.url.isascii() or not each.url.isprintable() or " " in each.url:
        raise source.refuse(
            RULE, (*where, "url"), "write http://HOST/PATH or https://HOST/PATH.", "请写 http(s)://主机/路径。"
        )
    if each.policy:
        try:
            write_identifier(each.policy)
        except DerError as error:
            raise source.refuse(
                RULE, (*where, "policy"), "write an object identifier, like 1.2.3.4.", "请写对象标识符，如 1.2.3.4。"
            ) from error
    tls_anchors = folder / each.tls_anchors if each.tls_anchors else None
    if tls_anchors is not None:
        _certificates(tls_anchors, (*where, "tls_anchors"), source)
    return StampAuthority(
        name=each.name,
        url=each.url,
        anchors=tuple(_certificates(folder / each.anchors, (*where, "anchors"), source)),
        policy=each.policy,
        digest=each.digest,
        timeout=each.timeout,
        tls_anchors=tls_anchors,
    )


def _certificates(path: Path, where: Location, source: TomlSource) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        reason = error.strerror or "?"
        raise source.refuse(RULE, where, f"{path} cannot be read: {reason}.", f"无法读取 {path}：{reason}。") from error
    except ValueError as error:
        raise source.refuse(
            RULE, where, f"{path} holds no PEM certificate that can be read.", f"{path} 中没有可读取的 PEM 证书。"
        ) from error
