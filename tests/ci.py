"""What a test does when something it needs is not on this machine."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def require_or_skip(present: object, what: str) -> None:
    """Go on if `present` is true; otherwise skip, or fail where CI is set: nothing goes untested unseen there."""
    if not present:
        missing(what)


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it in CI, because `what` is not there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must have it", pytrace=False)
    pytest.skip(f"{what} is missing")
