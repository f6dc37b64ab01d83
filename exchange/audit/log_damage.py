"""What a check of the log raises."""

from __future__ import annotations


class DamagedLogError(ValueError):
    """Something stored is not what was written.

    Args:
        where: `entry 17`, `entries 300 to 599`, `tile 0/3`, `checkpoint 4096`, `state`, `certificate 3fa9...`, ...
        problem: What is wrong with it, English.
        problem_zh: The same in Chinese.
        exchange_id: Of the entry, if it is one.
    """

    def __init__(self, where: str, problem: str, problem_zh: str, exchange_id: str = "") -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem
        self.problem_zh = problem_zh
        self.exchange_id = exchange_id
