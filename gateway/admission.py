"""How many requests may be in progress at once, and whose."""

from __future__ import annotations

from collections import Counter

from exchange import OverloadedError, SubsystemId
from gateway.attempt import Attempt


class Admission:
    """Counts what is in progress: from before a request's body, which takes memory and time to arrive, until its end.

    Rules:
    1. There is a limit for all together, and one for each client.
    2. A department whose answers are slow leaves room for the others: it has no more in progress than there are places free.
       One such has half of all at most, two have a third each, and so on.
    """

    def __init__(self, *, most: int, most_per_client: int) -> None:
        self._most = most
        self._most_per_client = most_per_client
        self._in_progress = 0
        self._by_client: Counter[SubsystemId] = Counter()
        self._by_owner: Counter[str] = Counter()

    def enter(self, attempt: Attempt) -> None:
        """Count the attempt as in progress until `leave`.

        Raises:
            OverloadedError: There are as many as may be.
        """
        owner = attempt.service.rpartition("/")[0]
        if self._in_progress >= self._most or self._by_client[attempt.client] >= self._most_per_client:
            raise OverloadedError
        if self._by_owner.get(owner, 0) >= self._most - self._in_progress:
            raise OverloadedError("owner-limit")
        self._in_progress += 1
        self._by_client[attempt.client] += 1
        self._by_owner[owner] += 1
        attempt.entered = True

    def leave(self, attempt: Attempt) -> None:
        """The attempt is at its end; one that did not enter changes nothing."""
        if attempt.entered:
            self._in_progress -= 1
            self._by_client[attempt.client] -= 1
            owner = attempt.service.rpartition("/")[0]
            self._by_owner[owner] -= 1
            if not self._by_owner[owner]:
                del self._by_owner[owner]  # or names that callers make up would stay
