"""The folder of an issuing CA: what lies where in it, and how it comes to be.

ca.toml           its settings, for the operator to change
ca.db             its memory (`ca_auth.issuing.ca_store`)
issuing.crt       certificate of the issuing CA, then those between it and the root, if any
issuing.key       its key, mode 600; missing if the key is on a token
issuing.pub       its public key
issuing.crl       the CRL in force, DER
root.crt          the root
upstream.crl.pem  CRLs of the CAs above, the root's above all
offline/root.key  the root's key, encrypted, where the root was made here: to be taken off the machine
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from ca_auth.issuing.ca_errors import CaOperationError
from ca_auth.issuing.ca_settings import CaSettings
from ca_auth.issuing.key_provider import read_key
from ca_auth.issuing.pkcs11_key import open_token_key


@dataclass(frozen=True, slots=True)
class CaFolder:
    """Paths in the folder, and its parts read."""

    path: Path

    @property
    def settings_file(self) -> Path:
        return self.path / "ca.toml"

    @property
    def store(self) -> Path:
        return self.path / "ca.db"

    @property
    def issuing_certificate(self) -> Path:
        return self.path / "issuing.crt"

    @property
    def issuing_key(self) -> Path:
        return self.path / "issuing.key"

    @property
    def public_key_file(self) -> Path:
        return self.path / "issuing.pub"

    @property
    def crl(self) -> Path:
        return self.path / "issuing.crl"

    @property
    def root_certificate(self) -> Path:
        return self.path / "root.crt"

    @property
    def upstream_crls(self) -> Path:
        return self.path / "upstream.crl.pem"

    @property
    def root_key(self) -> Path:
        return self.path / "offline" / "root.key"

    def settings(self) -> CaSettings:
        """Read `ca.toml`; raises CaOperationError that names what is wrong in it."""
        try:
            content = tomllib.loads(self.settings_file.read_text("utf-8"))
            content["permit_members"] = tuple(content.get("permit_members", ()))
            return CaSettings.model_validate(content)
        except OSError as error:
            raise refused(
                "ca-folder",
                f"{self.path} is not the folder of a CA; datong ca init makes one.",
                f"{self.path} 不是 CA 目录；请用 datong ca init 创建。",
            ) from error
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            where = ".".join(map(str, found["loc"]))
            raise refused(
                "ca-folder",
                f"{self.settings_file}: {where}: {found['msg']}.",
                f"{self.settings_file}：{where} 不正确（{found['msg']}）。",
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError) as error:
            raise refused(
                "ca-folder", f"{self.settings_file} is not TOML: {error}.", f"{self.settings_file} 不是 TOML：{error}。"
            ) from error

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The issuing CA's public key, which is there before its certificate is."""
        key = serialization.load_pem_public_key(_read(self.public_key_file))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise refused(
                "ca-folder", f"{self.public_key_file} is no CA key.", f"{self.public_key_file} 不是 CA 公钥。"
            )
        return key

    def signing_key(self, settings: CaSettings) -> ec.EllipticCurvePrivateKey:
        """The issuing CA's private key, from its file or token; raises CaOperationError if it is not the CA's."""
        public = self.public_key()
        if settings.pkcs11 is not None:
            return open_token_key(settings.pkcs11.key(), public)
        key = read_key(self.issuing_key)
        if key.public_key() != public:
            raise refused(
                "ca-key",
                f"{self.issuing_key} is not the key of {self.public_key_file}.",
                f"{self.issuing_key} 与 {self.public_key_file} 不是一对密钥。",
            )
        return key

    def chain(self) -> tuple[x509.Certificate, ...]:
        """The issuing CA, those above it, the root last; raises CaOperationError if there is none yet."""
        if not self.issuing_certificate.exists():
            raise refused(
                "ca-not-installed",
                f"The issuing CA in {self.path} has no certificate yet: have its request signed (datong ca request), "
                "then datong ca install.",
                f"{self.path} 中的签发 CA 还没有证书：请将其请求（datong ca request）提交上级签发，再执行 datong ca install。",
            )
        return (*read_certificates(self.issuing_certificate), *read_certificates(self.root_certificate))


def read_certificates(file: Path) -> list[x509.Certificate]:
    """The certificates in a PEM or DER file, at least one; raises CaOperationError."""
    return parse_certificates(_read(file), str(file))


def parse_certificates(content: bytes, name: str) -> list[x509.Certificate]:
    """The certificates in `content`, at least one; `name` is what the error calls it."""
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError as error:
        raise refused("ca-chain", f"{name} holds no certificate.", f"{name} 中没有证书。") from error


def refused(rule: str, english: str, chinese: str) -> CaOperationError:
    """An error for the operator."""
    return CaOperationError(rule, problem=english, problem_zh=chinese)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise refused(
            "ca-folder", f"{file} cannot be read: {error.strerror}.", f"无法读取 {file}：{error.strerror}。"
        ) from error
