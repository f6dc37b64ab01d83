"""A certificate and its key as somebody who holds them keeps them: two files, replaced without ever losing one.

Rules:
1. A key is on disk before its signing request is sent, and is used again for the next attempt: the CA answers the same key
   with the same certificate, so an answer that got lost costs nothing.
2. Two files cannot be replaced in one step. So the new pair is first written into one (`.<key>.renewed`); then the key is
   replaced, then the certificate. Whatever is interrupted, `recover` completes, before the files are next loaded.
3. One process at a time works on a pair (`flock` on `.<key>.lock`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca_auth.issuing.durable_files import PRIVATE, PUBLIC, replace_file

_END_OF_KEY = b"-----END PRIVATE KEY-----\n"


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """Where a certificate (PEM, its chain after it) and its key (PEM, without passphrase) are."""

    certificate: Path
    key: Path

    def read(self) -> x509.Certificate:
        """The certificate; raises OSError or ValueError."""
        return x509.load_pem_x509_certificates(self.certificate.read_bytes())[0]

    def next_key(self) -> ec.EllipticCurvePrivateKey:
        """The key that the next certificate will be for (P-256), on disk already, made if there is none."""
        file = self._beside("next")
        try:
            key = serialization.load_pem_private_key(file.read_bytes(), None)
            if isinstance(key, ec.EllipticCurvePrivateKey):
                return key
        except (FileNotFoundError, ValueError):
            pass  # none yet, or none that can be used: nobody has a certificate for it
        made = ec.generate_private_key(ec.SECP256R1())
        replace_file(file, _pem(made), PRIVATE)
        return made

    def install(self, key: ec.EllipticCurvePrivateKey, chain: bytes) -> None:
        """Put `key` and its certificate (PEM, chain after it) in place of what is there."""
        replace_file(self._beside("renewed"), _pem(key) + chain, PRIVATE)
        self.finish()

    def finish(self) -> bool:
        """Complete what an interrupted `install` began; whether there was anything. Call it under `locked`."""
        journal = self._beside("renewed")
        try:
            content = journal.read_bytes()
        except FileNotFoundError:
            return False
        key, end, chain = content.partition(_END_OF_KEY)
        replace_file(self.key, key + end, PRIVATE)
        replace_file(self.certificate, chain, PUBLIC)
        self._beside("next").unlink(missing_ok=True)
        journal.unlink()
        return True

    def recover(self) -> None:
        """Complete what a process that died left undone; for whoever is about to load the files."""
        if self._beside("renewed").exists():
            with self.locked():
                self.finish()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else works on this pair inside; waits for them."""
        descriptor = os.open(self._beside("lock"), os.O_RDWR | os.O_CREAT, PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _beside(self, what: str) -> Path:
        return self.key.with_name(f".{self.key.name}.{what}")


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
