"""Looking at the record is itself on record: the one place where that is done.

Rules:
1. What was looked for, how much of it was found and by whom becomes an entry of the log (`exchange.log.log_event`, kind `access`),
   and is durable before anything is shown. If it cannot be, nothing is shown.
2. A subject stands in it by the hash under which records name it now, never by its number, nor by what its number alone leads to:
   that would undo what erasing the subject's key does (`exchange.subjects`).
3. Whoever sees a record because it concerns them looks at what is their own: only our events tell of that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from fastapi import Request

from exchange import Entropy, ExchangeLog, LogEvent, Rfc3339, uuid7
from gateway.api.actors import note_of
from gateway.api.callers import Caller

_entropy: Final = Entropy()
_time_text: Final = Rfc3339()

events = structlog.get_logger("datong.api")


async def record_access(
    request: Request, caller: Caller, act: str, details: Mapping[str, Any], *, why: str = ""
) -> None:
    """Return when it is durable that `caller` did `act`.

    Args:
        act: What was done, such as `exchanges.list`.
        details: As `LogEvent.details`.

    Raises:
        LogUnavailableError: It cannot be recorded: then nothing may be shown.
        InvalidRequestError: X-Road-UserId cannot go on record.
    """
    log: ExchangeLog = request.app.state.gateway.log
    official = note_of(request, "X-Road-UserId")
    if caller.principal.person is None:
        # The record names the certificate by fingerprint; a receipt must be able to show it years later.
        log.remember_certificate(caller.principal.fingerprint, caller.principal.der)
    now_ms = time.time_ns() // 1_000_000
    event = LogEvent(
        id=uuid7(now_ms, _entropy),
        kind="access",
        act=act,
        at=_time_text(now_ms),
        by=caller.subsystem,
        certificate=caller.principal.fingerprint,
        user=official,
        why=why,
        details=details,
    )
    events.info("audit.access", caller=caller.subsystem, act=act, entry=event.id, count=details.get("count"))
    await log.append_event(event)
