"""The warning of a certificate's end begins when it should, also for one whose verdict is remembered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ca_auth import Authenticator, CertificateRequest, DemoCA, Judge, Trust
from ca_auth.issuing.expiry import expiry_alarm, expiry_alarms_begin
from exchange import subsystem_id

DAY = 86_400.0


@pytest.mark.parametrize(("life", "begins"), [(300, 270), (90, 60), (60, 40), (9, 6)])
def test_alarms_begin_30_days_before_the_end_and_not_before_two_thirds_of_life(life: float, begins: float) -> None:
    start = expiry_alarms_begin(0, life * DAY)
    assert start == begins * DAY
    assert expiry_alarm(0, life * DAY, start - 1) is None
    assert expiry_alarm(0, life * DAY, start) is not None


def test_a_remembered_verdict_does_not_outlive_the_time_without_warning(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    ca = DemoCA.create(tmp_path)
    request = CertificateRequest.for_subsystem(subsystem_id("CN/GOV/11990000000000000X/tax"))
    end = now + timedelta(days=40)
    issued = ca.issue("tax", request, not_before=now - timedelta(days=300), not_after=end)
    authenticator = Authenticator(Judge(Trust.from_bundle(ca.trust_anchors)))

    def warned(at: datetime) -> bytes:
        return authenticator.identify(issued.fingerprint, issued.der, at.timestamp()).expires_soon

    first = authenticator.identify(issued.fingerprint, issued.der, now.timestamp())
    assert first.expires_soon == b""
    assert authenticator.identify(issued.fingerprint, issued.der, now.timestamp()) is first
    assert warned(end - timedelta(days=30, seconds=1)) == b""
    said = end.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    assert warned(end - timedelta(days=30) + timedelta(seconds=1)) == said
    assert warned(end - timedelta(days=1)) == said
