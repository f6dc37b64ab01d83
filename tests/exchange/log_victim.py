"""A gateway that is there to be killed: intends and records without end, and says on its output what is durable.

usage: log_victim.py DATABASE LOG_KEY
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from exchange.log.log import ExchangeLog
from exchange.messages.envelope import statement_bytes
from tests.exchange.log_kit import attempt, new_id, now_ms, query_statement


async def main(database: str, log_key: str) -> None:
    log = await ExchangeLog.start(database=database, log_key=Path(log_key), gateway="gateway-1")
    sys.stdout.write(f"{log.writer_pid}\n")

    for number in range(3):  # carried, and never answered
        left_open = new_id()
        asked = statement_bytes(query_statement(left_open, number))
        await log.intend(left_open, deadline_ms=now_ms() + 60_000, record=asked)

    async def call(number: int) -> None:
        while True:
            one = attempt(number)
            asked = statement_bytes(query_statement(one.exchange_id, number))
            await log.intend(one.exchange_id, deadline_ms=now_ms() + 60_000, record=asked)
            sys.stdout.write(f"intended {one.exchange_id} -\n")
            sys.stdout.flush()
            seq = await one.append_to(log, settles_intent=True)
            sys.stdout.write(f"recorded {one.exchange_id} {seq}\n")
            sys.stdout.flush()

    sys.stdout.flush()
    await asyncio.gather(*[call(number) for number in range(8)])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
