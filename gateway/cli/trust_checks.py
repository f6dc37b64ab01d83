"""What `datong doctor` can see of the trust file without a running gateway: whether it is in order, and its CRLs fresh."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ca_auth import SEVERE_ALARMS, alarms_of_files, read_trust
from exchange import Settings, UnprocessableError
from gateway.cli.findings import Finding, failed, ok, warning


def trust_file(settings: Settings) -> Iterator[Finding]:
    """The trust file, and a line for each alarm about its CRLs; nothing if there is no trust file."""
    path = settings.trust_file
    if path is None:
        return
    name = f"trust file {path}"
    try:
        person_key = settings.subject_key.read_bytes()
    except OSError:
        person_key = None  # another check tells of that
    try:
        trust = read_trust(path, person_key=person_key, member_of_code=lambda code: None)
    except UnprocessableError as error:
        yield failed(
            name,
            error.detail_in("en"),
            error.detail_in("zh"),
            "Correct the line; docs/profiles/trust-file.md explains every key.",
            "请修正该行；各键的说明见 docs/profiles/trust-file.md。",
        )
        return
    count = len(trust.anchors)
    yield ok(name, f"{count} anchors" if count != 1 else "1 anchor", f"{count} 个信任锚")
    for alarm in alarms_of_files(trust, time.time()):
        tell = failed if alarm.kind in SEVERE_ALARMS else warning
        yield tell(
            f"revocation {alarm.source}",
            alarm.text,
            alarm.text_zh,
            "Get the CA's newest CRL; for a CA of datong ca: datong ca crl, or a gateway that serves the CA.",
            "请获取该 CA 的最新 CRL；若为 datong ca 建立的 CA：datong ca crl，或启动提供该 CA 服务的网关。",
        )
