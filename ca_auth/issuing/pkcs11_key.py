"""A CA key on a PKCS #11 token, in the shape `cryptography` signs with.

Rules:
1. The private key is made on the token, sensitive and not extractable, and never leaves it; here are its public half and
   a session.
2. The library `python-pkcs11` is an optional extra, imported when a token is first used.
3. A session that broke (token reset, network HSM restarted) is opened anew once per signature. Then it is an error.
4. Sessions are used by one thread at a time.
"""

from __future__ import annotations

import hashlib
import stat
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from ca_auth.issuing.ca_errors import CaOperationError, SigningKeyError
from ca_auth.issuing.key_provider import CURVES, Curve, TokenKey

_OBJECT_IDENTIFIERS = {"P-256": "06082a8648ce3d030107", "P-384": "06052b81040022"}
"""CKA_EC_PARAMS: the named curves in DER (RFC 5480 section 2.1.1.1)."""

_T = TypeVar("_T")


class Pkcs11PrivateKey(ec.EllipticCurvePrivateKey):
    """Signs with a key of a token. Made by `open_token_key` and `make_token_key`."""

    def __init__(self, where: TokenKey, public_key: ec.EllipticCurvePublicKey, session: _Session) -> None:
        self._where = where
        self._public_key = public_key
        self._session = session

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA over `data`, DER; raises SigningKeyError if the token does not sign."""
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed) or not isinstance(algorithm, hashes.SHA256 | hashes.SHA384):
            raise ValueError("a CA signs with SHA-256 or SHA-384")
        digest = hashlib.new(algorithm.name, data).digest()
        raw = self._session.run(lambda pkcs11, session: self._sign(pkcs11, session, digest))
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))

    def _sign(self, pkcs11: ModuleType, session: Any, digest: bytes) -> bytes:
        key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=self._where.label)
        return bytes(key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        self._stays()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        self._stays()

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,  # noqa: A002  # the name is that of the class above
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> bytes:
        self._stays()

    def _stays(self) -> NoReturn:
        raise TypeError("the key stays on its token and only signs")

    def __copy__(self) -> Pkcs11PrivateKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Pkcs11PrivateKey:
        return self


def open_token_key(where: TokenKey, public_key: ec.EllipticCurvePublicKey | None = None) -> Pkcs11PrivateKey:
    """Return the key `where` names, after a trial signature.

    Args:
        public_key: Its public half, if known; else it is read from the token.

    Raises:
        CaOperationError: No library, token, PIN or key as named, or the key is not that of `public_key`.
        SigningKeyError: The token does not sign.
    """
    session = _Session(where)
    if public_key is None:
        public_key = session.run(lambda pkcs11, opened: _public_key(pkcs11, opened, where))
    key = Pkcs11PrivateKey(where, public_key, session)
    trial = b"datong: is this the key of the CA?"
    try:
        public_key.verify(key.sign(trial, ec.ECDSA(hashes.SHA256())), trial, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise _wrong(
            f"The key {where.label} of the token {where.token} is not the key of this CA.",
            f"令牌 {where.token} 中的密钥 {where.label} 不是本 CA 的密钥。",
        ) from error
    return key


def make_token_key(where: TokenKey, curve: Curve) -> Pkcs11PrivateKey:
    """Make a key on the token, for good.

    Raises:
        CaOperationError: There is one of that label already, or what `open_token_key` raises.
    """

    def make(pkcs11: ModuleType, session: Any) -> None:
        attribute = pkcs11.Attribute
        if list(session.get_objects({attribute.LABEL: where.label, attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})):
            raise _wrong(
                f"The token {where.token} holds a key {where.label} already; choose another label, or use that key.",
                f"令牌 {where.token} 中已有密钥 {where.label}；请更换标签，或直接使用该密钥。",
            )
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC, {attribute.EC_PARAMS: bytes.fromhex(_OBJECT_IDENTIFIERS[curve])}, local=True
        )
        parameters.generate_keypair(
            store=True,
            label=where.label,
            private_template={attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
        )

    _Session(where, writing=True).run(make, once=True)
    return open_token_key(where)


class _Session:
    """One logged-in session of a token, opened when first needed."""

    def __init__(self, where: TokenKey, *, writing: bool = False) -> None:
        self._where = where
        self._writing = writing
        self._pkcs11, self._errors = _library()
        self._opened: Any = None
        self._lock = threading.Lock()

    def run(self, work: Callable[[ModuleType, Any], _T], *, once: bool = False) -> _T:
        """Return what `work` returns; a session that broke is replaced, unless `once` says that it must not."""
        with self._lock:
            if self._opened is not None and not once:
                try:
                    return work(self._pkcs11, self._opened)
                except self._errors.PKCS11Error:
                    self._opened = None
            try:
                self._opened = self._open()
                return work(self._pkcs11, self._opened)
            except self._errors.NoSuchKey as error:
                raise _wrong(
                    f"The token {self._where.token} holds no key {self._where.label}.",
                    f"令牌 {self._where.token} 中没有密钥 {self._where.label}。",
                ) from error
            except self._errors.PKCS11Error as error:
                self._opened = None
                raise SigningKeyError from error

    def _open(self) -> Any:
        where, errors = self._where, self._errors
        pin = _pin(where)
        try:
            token = self._pkcs11.lib(str(where.module)).get_token(token_label=where.token)
        except (errors.NoSuchToken, errors.MultipleTokensReturned) as error:
            raise _wrong(
                f"{where.module} knows no token {where.token}, or several.",
                f"{where.module} 中没有令牌 {where.token}，或有多个同名令牌。",
            ) from error
        except errors.PKCS11Error as error:
            raise _wrong(
                f"{where.module} is not a PKCS #11 library that works here: {error}",
                f"{where.module} 不是可用的 PKCS #11 库：{error}",
            ) from error
        try:
            return token.open(user_pin=pin, rw=self._writing)
        except errors.UserAlreadyLoggedIn:
            return token.open(rw=self._writing)  # a login holds for the whole process
        except (errors.PinIncorrect, errors.PinInvalid, errors.PinLenRange, errors.PinLocked) as error:
            raise _wrong(
                f"The token {where.token} refuses the PIN in {where.pin_file}.",
                f"令牌 {where.token} 拒绝 {where.pin_file} 中的 PIN。",
            ) from error


def _public_key(pkcs11: ModuleType, session: Any, where: TokenKey) -> ec.EllipticCurvePublicKey:
    found = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=where.label)
    curves = {bytes.fromhex(_OBJECT_IDENTIFIERS[name]): curve for name, curve in CURVES.items()}
    curve = curves.get(bytes(found[pkcs11.Attribute.EC_PARAMS]))
    if curve is None:
        raise _wrong(
            f"The key {where.label} is not on P-256 or P-384.", f"密钥 {where.label} 不是 P-256 或 P-384 密钥。"
        )
    point = bytes(found[pkcs11.Attribute.EC_POINT])
    # An OCTET STRING in DER by the standard; some tokens give its content alone.
    size = 1 + 2 * (curve().key_size // 8)
    return ec.EllipticCurvePublicKey.from_encoded_point(curve(), point[-size:])


def _pin(where: TokenKey) -> str:
    try:
        mode = stat.S_IMODE(where.pin_file.stat().st_mode)
        pin = where.pin_file.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(
            f"The PIN file {where.pin_file} cannot be read.", f"无法读取 PIN 文件 {where.pin_file}。"
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _wrong(
            f"{where.pin_file} may be read by others (mode {mode:o}): chmod 600 it.",
            f"{where.pin_file} 可被他人读取（权限 {mode:o}）：请执行 chmod 600。",
        )
    return pin


def _library() -> tuple[Any, Any]:
    try:
        import pkcs11
        from pkcs11 import exceptions
    except ImportError as error:
        raise _wrong(
            "Keys on tokens need the library python-pkcs11: pip install 'datong[pkcs11]'.",
            "使用令牌中的密钥需要 python-pkcs11 库：pip install 'datong[pkcs11]'。",
        ) from error
    return pkcs11, exceptions


def _wrong(english: str, chinese: str) -> CaOperationError:
    return CaOperationError("ca-key", problem=english, problem_zh=chinese)
