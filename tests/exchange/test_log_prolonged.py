"""Intents of exchanges that take longer than was thought: not settled while somebody works on them."""

from __future__ import annotations

import time
from pathlib import Path

from exchange import ExchangeLog, NoteSigner
from exchange.log.log import _FORGOTTEN_MS

EXCHANGE = "0197f0c1-2a3b-7c4d-8e5f-0123456789ab"


async def test_a_prolonged_exchange_is_not_settled_before_its_time(tmp_path: Path) -> None:
    (tmp_path / "log.key").write_text(NoteSigner.generate("log.example/prolonged").skey)

    async def opened() -> ExchangeLog:
        return await ExchangeLog.start(
            database=f"sqlite:///{tmp_path / 'log.db'}", log_key=tmp_path / "log.key", gateway="g", recovery_grace=0.0
        )

    log = await opened()
    now = time.time_ns() // 1_000_000
    long_over = now - 2 * _FORGOTTEN_MS
    await log.intend(EXCHANGE, deadline_ms=long_over, record=b"{}")
    log.prolong(EXCHANGE, now + 3_600_000)
    assert await log.recover() == 0
    log.prolong(EXCHANGE, long_over)
    assert await log.recover() == 1
    assert log._prolonged == {}
    await log.intend(EXCHANGE[:-1] + "c", deadline_ms=now + 3_600_000, record=b"{}")
    log.prolong(EXCHANGE[:-1] + "c", now + 3_600_000)
    await log.close()
    log = await opened()  # it settles what its earlier life left open, whatever that had in mind
    assert await log.reader.intents("g") == []
    await log.close()
