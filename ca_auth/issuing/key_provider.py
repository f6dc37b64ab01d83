"""Where a CA's signing key lies: a file, or a token that signs without ever letting the key out (PKCS #11)."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca_auth.issuing.ca_errors import CaOperationError
from ca_auth.issuing.durable_files import PRIVATE, replace_file

Curve = Literal["P-256", "P-384"]
CURVES: Final[dict[Curve, type[ec.EllipticCurve]]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1}
SHORTEST_PASSPHRASE: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """A key on a PKCS #11 token."""

    module: Path
    """The token's library, e.g. of an HSM or of SoftHSM."""
    token: str
    """The token's label."""
    label: str
    """The key's label on it."""
    pin_file: Path
    """A file that holds the user PIN, readable by its owner only."""


def new_key(curve: Curve) -> ec.EllipticCurvePrivateKey:
    """A key nobody has seen, in memory."""
    return ec.generate_private_key(CURVES[curve]())


def write_key(file: Path, key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> None:
    """Write a key as PKCS #8 PEM for its owner only, encrypted if there is a passphrase (scrypt or PBKDF2, and AES)."""
    secrecy: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        secrecy = serialization.BestAvailableEncryption(passphrase)
    replace_file(
        file, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secrecy), PRIVATE
    )


def read_key(file: Path, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Read a CA's key.

    Raises:
        CaOperationError: It is missing, readable by others, encrypted and the passphrase is not its own, or no CA key.
    """
    try:
        content = file.read_bytes()
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        raise _wrong(f"{file} cannot be read: {error.strerror}.", f"无法读取 {file}：{error.strerror}。") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _wrong(
            f"{file} may be read by others (mode {mode:o}): chmod 600 it, and consider whether somebody has.",
            f"{file} 可被他人读取（权限 {mode:o}）：请执行 chmod 600，并判断是否已泄露。",
        )
    try:
        key = serialization.load_pem_private_key(content, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # TypeError: encrypted without a passphrase, or the reverse.
        raise _wrong(
            f"{file} cannot be opened: the passphrase is missing or wrong, or the file is damaged.",
            f"无法打开 {file}：口令缺失或错误，或文件已损坏。",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, tuple(CURVES.values())):
        raise _wrong(f"{file} is not a key on P-256 or P-384.", f"{file} 不是 P-256 或 P-384 密钥。")
    return key


def _wrong(english: str, chinese: str) -> CaOperationError:
    return CaOperationError("ca-key", problem=english, problem_zh=chinese)
