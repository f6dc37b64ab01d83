"""What `datong doctor` looks at on this machine's disk: keys, certificates, room, clock. Nothing is changed."""

from __future__ import annotations

import ctypes
import shutil
import ssl
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ca_auth import Authenticator, Judge, PathPolicy, PathValidator, Trust, expiry_alarm, fingerprint_of, shown_name
from exchange import UnauthenticatedError
from gateway.cli.findings import Finding, failed, ok, warning
from registry import Certificate

LITTLE_ROOM = 1 << 30
NO_ROOM = 100 << 20
OTHERS = stat.S_IRWXG | stat.S_IRWXO
_TIME_ERROR = 5  # TIME_ERROR of adjtimex(2): the kernel does not hold the clock to be synchronised


def folder(data: Path) -> Finding:
    """The data folder belongs to its owner alone."""
    name = f"folder {data}"
    try:
        mode = stat.S_IMODE(data.stat().st_mode)
    except OSError as error:
        return failed(
            name,
            f"{error.strerror}",
            f"{error.strerror}",
            "Name the data folder of the mesh with --data, or make one with datong up.",
            "请用 --data 指定数据目录，或用 datong up 建立。",
        )
    if mode & OTHERS:
        return warning(
            name,
            f"others on this machine may enter it (mode {mode:o})",
            f"本机其他用户可以进入（权限 {mode:o}）",
            f"chmod 700 {data}",
            f"chmod 700 {data}",
        )
    return ok(name, "for its owner only", "仅所有者可访问")


def room(paths: Sequence[Path]) -> Iterator[Finding]:
    """There is room to record: a full disk refuses every exchange."""
    seen = set()
    for path in paths:
        try:
            device, free = path.stat().st_dev, shutil.disk_usage(path).free
        except OSError:
            continue  # that it is not there is another check's finding
        if device in seen:
            continue
        seen.add(device)
        name, size = f"disk of {path}", f"{free / 1e9:.1f} GB"
        todo = "Free some space: a record that cannot be written means an exchange that is refused."
        todo_zh = "请清理磁盘空间：无法留痕时所有交换都会被拒绝。"
        if free < NO_ROOM:
            yield failed(name, f"{size} free", f"剩余 {size}", todo, todo_zh)
        elif free < LITTLE_ROOM:
            yield warning(name, f"only {size} free", f"仅剩 {size}", todo, todo_zh)
        else:
            yield ok(name, f"{size} free", f"剩余 {size}")


def keys(files: Sequence[Path]) -> Iterator[Finding]:
    """Private keys can be read by their owner alone."""
    open_to_others = [path for path in files if path.is_file() and stat.S_IMODE(path.stat().st_mode) & OTHERS]
    for path in open_to_others:
        yield failed(
            f"key {path}",
            f"others may read it (mode {stat.S_IMODE(path.stat().st_mode):o})",
            f"他人可读（权限 {stat.S_IMODE(path.stat().st_mode):o}）",
            f"chmod 600 {path}; if others had access to this machine, renew it",
            f"chmod 600 {path}；如本机有他人登录，请更换该密钥",
        )
    if not open_to_others:
        count = sum(path.is_file() for path in files)
        yield ok("keys", f"{count} files, each for its owner only", f"{count} 个密钥文件，均仅所有者可读")


def clock(newest_record_ms: int | None) -> Finding:
    """The clock does not lie before what was recorded, and is synchronised."""
    now = time.time()
    shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    if newest_record_ms is not None and newest_record_ms / 1000 > now + 60:
        behind = round(newest_record_ms / 1000 - now)
        return failed(
            "clock",
            f"{shown}, {behind} s before the newest record",
            f"{shown}，比最新一条记录早 {behind} 秒",
            "Set the clock; certificates and deadlines are judged by it.",
            "请校准时钟：证书有效期与截止时间都以它为准。",
        )
    if _synchronised() is False:
        return warning(
            "clock",
            f"{shown}, and nothing keeps it right",
            f"{shown}，未启用时间同步",
            "Run chrony or systemd-timesyncd: gateways and adapters must agree within a minute.",
            "请启用 chrony 或 systemd-timesyncd：网关与适配器的时钟相差不得超过一分钟。",
        )
    return ok("clock", shown, shown)


def _synchronised() -> bool | None:
    """Whether the kernel says so; None if it says nothing."""
    if sys.platform != "linux":
        return None
    try:
        # Zeroed, it asks and sets nothing; the structure has 208 bytes on every 64-bit Linux.
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def certificates(pairs: Sequence[tuple[str, Path, Path]], trust_anchors: Path) -> Iterator[Finding]:
    """Each certificate is of an accepted CA and valid for a while, and its key belongs to it.

    Args:
        pairs: Name, certificate and key.
    """
    try:
        anchors = x509.load_pem_x509_certificates(trust_anchors.read_bytes())
        issuer = PathValidator(anchors, policy=PathPolicy(client_auth=False))
        Trust.from_bundle(trust_anchors.read_bytes())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        yield failed(
            f"CA {trust_anchors}",
            f"{why}",
            f"{why}",
            "Put the certificates of the accepted CAs there, PEM; without them nobody can call.",
            "请放入受信任 CA 的 PEM 证书；否则无人能够调用。",
        )
        return
    for anchor in anchors:
        yield _validity(f"CA {shown_name(anchor.subject)}", anchor)
    for name, certificate_file, key_file in pairs:
        yield _pair(f"certificate {name}", certificate_file, key_file, issuer)


def _pair(name: str, certificate_file: Path, key_file: Path, issuer: PathValidator) -> Finding:
    again = "Issue it again; datong up does so for a mesh of its own.", "请重新签发；datong up 会为自己的环境自动签发。"
    try:
        certificate, *sent = x509.load_pem_x509_certificates(certificate_file.read_bytes())
        public = serialization.load_pem_private_key(key_file.read_bytes(), None).public_key()
    except OSError as error:
        return failed(name, f"{error.filename}: {error.strerror}", f"{error.filename}：{error.strerror}", *again)
    except (ValueError, TypeError) as error:
        return failed(name, f"cannot be read: {error}", f"无法读取：{error}", *again)
    if public != certificate.public_key():
        return failed(name, f"{key_file} is not its key", f"{key_file} 不是它的私钥", *again)
    found = _validity(name, certificate)
    if found.state == "failed":
        return found
    try:
        issuer.validate(certificate, sent, datetime.now(UTC))
    except UnauthenticatedError as error:
        return failed(name, error.detail_in("en"), error.detail_in("zh"), *again)
    return found


def _validity(name: str, certificate: x509.Certificate) -> Finding:
    begin, end, now = certificate.not_valid_before_utc, certificate.not_valid_after_utc, datetime.now(UTC)
    days = (end - now).days
    if now > end:
        return failed(name, f"expired on {end:%Y-%m-%d}", f"已于 {end:%Y-%m-%d} 过期", "Renew it.", "请更换。")
    if now < begin:
        return failed(
            name,
            f"valid from {begin.isoformat()} on",
            f"自 {begin.isoformat()} 起有效",
            "Wait, or set this machine's clock.",
            "请等待生效，或校准本机时钟。",
        )
    alarm = expiry_alarm(begin.timestamp(), end.timestamp(), now.timestamp())
    if alarm is not None:
        left, left_zh = (f"{days} days", f"{days} 天") if alarm > 1 else ("a day or less", "不足一天")
        return warning(name, f"only {left} left", f"仅剩 {left_zh}", *_renew(end, alarm))
    return ok(name, f"{days} days left", f"剩余 {days} 天")


def _renew(end: datetime, alarm: int) -> tuple[str, str]:
    """What to do about a certificate that ends soon; the less time is left, the clearer."""
    if alarm > 7:
        return f"Renew it before {end:%Y-%m-%d}.", f"请在 {end:%Y-%m-%d} 前更换。"
    at = f"{end:%Y-%m-%d %H:%M} UTC"
    return (
        f"Renew it now, it ends at {at}. If it renews itself, that fails: look for certificate.renewal_failed in the logs.",
        f"请立即更换，证书将于 {at} 失效。若已配置自动续期，则续期失败：请在日志中查找 certificate.renewal_failed。",
    )


def registered(found: Sequence[Certificate]) -> Iterator[Finding]:
    """Certificates that the registry lists, if there is something wrong with them; also those of other machines."""
    for each in found:
        finding = _validity(f"registered certificate of {each.subsystem}", x509.load_der_x509_certificate(each.der))
        if finding.state != "ok":
            yield finding


def accepted(certificate_file: Path, key_file: Path | None, trust_anchors: Path) -> Iterator[Finding]:
    """Whether a gateway would take a caller's certificate, by the same rules, and why not.

    Not checked: what OpenSSL refuses in the handshake by itself, such as keys that are too short.
    """
    name = f"certificate {certificate_file}"
    try:
        found = x509.load_pem_x509_certificates(certificate_file.read_bytes())
        authenticator = Authenticator(Judge(Trust.from_bundle(trust_anchors.read_bytes())))
    except OSError as error:
        says = f"{error.filename}: {error.strerror}", f"{error.filename}：{error.strerror}"
        yield failed(name, *says, "Check --cert and --cacert.", "请检查 --cert 和 --cacert。")
        return
    except ValueError as error:
        yield failed(name, f"cannot be read: {error}", f"无法读取：{error}", "Give PEM files.", "请提供 PEM 文件。")
        return
    certificate = found[0]
    der = certificate.public_bytes(serialization.Encoding.DER)
    try:
        sent = [each.public_bytes(serialization.Encoding.DER) for each in found[1:]]
        principal = authenticator.identify(fingerprint_of(der), der, sent=sent)
    except UnauthenticatedError as error:
        issuer = shown_name(certificate.issuer)
        anchors = ", ".join(
            shown_name(anchor.subject) for anchor in x509.load_pem_x509_certificates(trust_anchors.read_bytes())
        )
        yield failed(
            name,
            f"refused, rule {error.rule}: {error.detail_in('en')}",
            f"被拒绝，规则 {error.rule}：{error.detail_in('zh')}",
            f"Have one issued that fits. Its issuer is {issuer}; accepted are {anchors}.",
            f"请申请符合要求的证书。其签发者为 {issuer}；受信任的为 {anchors}。",
        )
        return
    speaks = principal.subsystem or principal.member
    yield ok(name, f"speaks for {speaks}", f"代表 {speaks}")
    yield _validity(name, certificate)
    if key_file is not None:
        yield _key(certificate, key_file)


def _key(certificate: x509.Certificate, key_file: Path) -> Finding:
    name = f"key {key_file}"
    other = "Use the key that the certificate was requested with.", "请使用申请该证书时的私钥。"
    try:
        public = serialization.load_pem_private_key(key_file.read_bytes(), None).public_key()
    except OSError as error:
        return failed(name, f"{error.strerror}", f"{error.strerror}", *other)
    except (ValueError, TypeError, ssl.SSLError) as error:
        return failed(name, f"cannot be read: {error}", f"无法读取：{error}", *other)
    if public != certificate.public_key():
        return failed(name, "is not the key of the certificate", "不是该证书的私钥", *other)
    return ok(name, "belongs to the certificate", "与证书匹配")
