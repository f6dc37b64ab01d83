"""Records of a mesh as an office would see it: hundreds of callers, thousands of officials, millions of persons asked about.

Made by the gateway's own types, so that their bytes are those of real records. The same seed gives the same records.
"""

import hashlib
import random
from collections.abc import Iterator
from typing import Final

from msgspec import UNSET, Raw

from exchange.log.frames import Entry
from exchange.log.record import Outcome, Record, record_bytes
from exchange.messages.envelope import AnswerStatement, QueryStatement, statement_bytes
from exchange.moments import Rfc3339

MONTHS: Final = 6
BEGIN_MS: Final = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MONTH_MS: Final = 30 * 86_400_000
SUBJECTS: Final = 3_000_000
OFFICIALS: Final = 5_000
CASES: Final = 4_000_000

_time_text = Rfc3339()
_SEAL = "MEUCIQDq3a0xA1v7w0m1uE9gG4H0yH0Gk1m0o7m3m3v0wQIgZ0m9f8yqk3l1qk3l1qk3l1qk3l1qk3l1qk3l1qk3l1o="


def hex_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Records:
    """Rows of the log, one after the other; `count` of them fill MONTHS months."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self._chance = random.Random(seed)
        self._step_ms = MONTHS * MONTH_MS / count
        self._made = 0
        chance = self._chance
        self.clients = [f"CN/GOV/1199700{number:03}DT000003E/system{number % 3}" for number in range(400)]
        self.services = [f"CN/GOV/1199700{number % 60:03}DT000001Q/register/service{number}" for number in range(250)]
        self.certificates = [hex_of(f"certificate {number}") for number in range(450)]
        self.purposes = [f"purpose-{number}" for number in range(40)]
        # What a caller asks is not chance: each has a dozen services, and some callers ask much more than others.
        self._asks = [chance.sample(self.services, 12) for _ in self.clients]
        self._weights = [1 / (rank + 5) for rank in range(len(self.clients))]
        self._callers: list[int] = []

    def take(self, count: int) -> Iterator[Entry]:
        """The next `count` rows."""
        chance = self._chance
        callers = chance.choices(range(len(self.clients)), self._weights, k=count)
        for caller in callers:
            yield self._one(caller)

    def at_ms(self, number: int) -> int:
        """About when record `number` was written."""
        return BEGIN_MS + int(number * self._step_ms)

    def _one(self, caller: int) -> Entry:
        chance = self._chance
        number, self._made = self._made, self._made + 1
        at_ms = self.at_ms(number) + chance.randrange(2000)
        bits = chance.getrandbits(128)
        digits = f"{at_ms:012x}7{bits & 0xFFF:03x}a{bits >> 12 & (1 << 60) - 1:015x}"
        exchange_id = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        client, service = self.clients[caller], chance.choice(self._asks[caller])
        draw = chance.random()
        outcome: Outcome = (
            "answered" if draw < 0.93 else "refused" if draw < 0.985 else "failed" if draw < 0.997 else "unknown"
        )
        answered = outcome == "answered"
        asked_at = _time_text(at_ms)
        digest = f"{bits:032x}{bits:032x}"
        query = statement_bytes(
            QueryStatement(
                asked_at=asked_at,
                case=f"2026-{chance.randrange(CASES)}" if draw > 0.2 else "",
                certificate=self.certificates[caller + (bits & 1) * 50],
                channel=("hall", "web", "mobile", "")[bits & 3],
                client=client,
                deadline=asked_at,
                gateway=self.certificates[0],
                grant=f"g{caller * 12 + bits % 12}@{bits % 3 + 1}" if answered else "",
                id=exchange_id,
                message_id=f"CN-{exchange_id}",
                method="GET" if bits % 10 else "POST",
                path_template=f"/items/{{id}}/part{bits % 5}",
                purpose=self.purposes[caller % 40] if answered else "",
                represented="",
                request_digest=digest,
                request_size=0 if bits % 10 else int(chance.lognormvariate(7, 1.5)),
                safe=True,
                service=service,
                subject=hex_of(str(chance.randrange(SUBJECTS))),
                user=f"official-{caller * 12 + bits % 12}",
            )
        )
        answer = statement_bytes(
            AnswerStatement(
                adapter=self.certificates[1],
                answered_at=asked_at,
                body_digest=digest,
                body_size=int(chance.lognormvariate(8, 1.5)),
                error="",
                headers_digest=digest,
                id=exchange_id,
                query_digest=digest,
                status=200,
            )
        )
        rule = "" if answered else ("purpose", "deadline", "grant", "answer-timeout")[bits % 4]
        record = Record(
            answer=Raw(answer) if answered else UNSET,
            answer_seal=_SEAL if answered else UNSET,
            certificate_serial=f"{caller + 4096:x}",
            code="" if answered else "access-denied",
            duration_us=int(chance.lognormvariate(8.5, 1)),
            ended_at=asked_at,
            id=exchange_id,
            outcome=outcome,
            query=Raw(query),
            query_seal=_SEAL if answered else UNSET,
            rule=rule,
            source="" if answered else "gateway",
            status=(200 if bits % 20 else 404) if answered else 403 if outcome == "refused" else 504,
        )
        salt = bits.to_bytes(16, "big")
        return exchange_id, at_ms, client, service, outcome, rule, salt, record_bytes(record)
