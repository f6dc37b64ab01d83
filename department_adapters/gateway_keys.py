"""Which gateways' seals count, as the contract's `gateways` says now: a PEM file, or a folder of them.

Rules:
1. A file that changes is read within a second or two. One that cannot be read, or holds nothing, changes nothing, and is told.
2. A gateway that is listed under a new certificate is renewing: its old one counts for ten minutes more, since the gateway
   begins to use the new one when adapters know it. A gateway that is no longer listed at all counts no more.
3. A certificate counts until its end.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509

from exchange import IdentityError, PublicKey, fingerprint_of, sealing_key

OVERLAP: Final = 600.0
LOOK_SECONDS: Final = 1.0

events = structlog.get_logger("datong.adapter")


@dataclass(frozen=True, slots=True)
class _Gateway:
    """One accepted certificate."""

    key: PublicKey
    holder: str
    until: float
    """Unix seconds."""


class GatewayKeys(Mapping[str, PublicKey]):
    """Fingerprint -> public key of the gateways whose seals count.

    Args:
        place: PEM file, or a folder whose `*.pem` and `*.crt` files count.
        clock: Unix seconds.

    Raises:
        IdentityError: There is nothing in it that can be used.
    """

    def __init__(self, place: Path, clock: Callable[[], float] = time.time) -> None:
        self._place = place
        self._clock = clock
        self._seen = self._stamps()
        self._listed = self._read()
        self._leaving: dict[str, _Gateway] = {}

    def __getitem__(self, fingerprint: str) -> PublicKey:
        found = self._listed.get(fingerprint) or self._leaving.get(fingerprint)
        if found is None or self._clock() > found.until:
            raise KeyError(fingerprint)
        return found.key

    def __iter__(self) -> Iterator[str]:
        return iter({**self._leaving, **self._listed})

    def __len__(self) -> int:
        return len({**self._leaving, **self._listed})

    async def follow(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Look at the files again and again, until cancelled."""
        while True:
            await asyncio.sleep(look_seconds)
            try:
                seen = await asyncio.to_thread(self._stamps)
                if seen == self._seen:
                    continue
                self._seen = seen  # before it is read: what is written meanwhile is seen at the next look
                self._take(await asyncio.to_thread(self._read))
            except IdentityError as error:
                events.error("adapter.gateways_unreadable", error=str(error))

    def _take(self, listed: dict[str, _Gateway]) -> None:
        now = self._clock()
        holders = {each.holder for each in listed.values()}
        before = {**self._leaving, **{name: _leaves(each, now) for name, each in self._listed.items()}}
        self._leaving = {
            name: each
            for name, each in before.items()
            if name not in listed and each.holder in holders and each.until > now
        }
        self._listed = listed
        events.info("adapter.gateways", listed=sorted(listed), leaving=sorted(self._leaving))

    def _read(self) -> dict[str, _Gateway]:
        found = {}
        for file in self._files():
            try:
                certificates = x509.load_pem_x509_certificates(file.read_bytes())
            except (OSError, ValueError) as error:
                raise IdentityError(f"{file}: {error}") from error
            for certificate in certificates:
                if _is_ca(certificate, file):
                    continue  # it came with the gateway's own, to lead to the root
                try:
                    key = sealing_key(certificate)
                except IdentityError as error:
                    raise IdentityError(f"{file}: {error}") from error
                end = certificate.not_valid_after_utc.timestamp()
                found[fingerprint_of(certificate)] = _Gateway(key, _holder(certificate), end)
        if not found:
            raise IdentityError(f"{self._place}: no gateway's certificate")
        return found

    def _files(self) -> list[Path]:
        if not self._place.is_dir():
            return [self._place]
        try:
            return sorted(each for each in self._place.iterdir() if each.suffix in (".pem", ".crt"))
        except OSError as error:
            raise IdentityError(f"{self._place}: {error}") from error

    def _stamps(self) -> tuple[object, ...]:
        return tuple(_stamp(file) for file in self._files())


def _leaves(gateway: _Gateway, now: float) -> _Gateway:
    return _Gateway(gateway.key, gateway.holder, min(gateway.until, now + OVERLAP))


def _holder(certificate: x509.Certificate) -> str:
    """The URI that names the gateway; without one, its subject."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)[0]
    except (x509.ExtensionNotFound, IndexError):
        return certificate.subject.rfc4514_string()


def _is_ca(certificate: x509.Certificate, file: Path) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    except (ValueError, x509.DuplicateExtension) as error:
        raise IdentityError(f"{file}: {error}") from error


def _stamp(file: Path) -> object:
    try:
        status = os.stat(file)
    except OSError as error:
        return (file, error.errno)
    return (file, status.st_ino, status.st_mtime_ns, status.st_size)
