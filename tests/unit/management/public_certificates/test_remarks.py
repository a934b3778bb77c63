# SPDX-License-Identifier: Apache-2.0
"""The end of a certificate is reported ahead, once a day, and shown beside Up."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import pytest_twisted

from public_pki import DOMAIN, INTERMEDIATE, NOW, ROOT, WILDCARD, server
from small_cloud import SmallCloud
from systemvm.management.public_certificates.remarks import EVENT, remark_on, report_ends
from systemvm.management.public_certificates.sites import ZoneNames
from systemvm.management.state import events
from systemvm.management.state.events import EventFilter
from systemvm.web.public_endpoint import PublicEndpoint

HOST = f"203-0-113-9.{DOMAIN}"
ENDPOINT = PublicEndpoint("https", HOST, 8443)


@pytest.fixture
def times(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The last is what the sites take for now."""
    given = [NOW]
    monkeypatch.setattr(cloud.sites, "now", lambda: given[-1])
    return given


async def upload(cloud: SmallCloud) -> None:
    leaf = server()
    text = leaf.pem + INTERMEDIATE.pem + ROOT.pem
    given = {"certificate": text, "privatekey": leaf.key_pem, "domainsuffix": DOMAIN}
    await cloud.job("uploadCustomCertificate", **given)


def reported(cloud: SmallCloud) -> list[tuple[str, str]]:
    found = cloud.database.run_now(events.newest, 10, EventFilter(type=EVENT))
    return [(event.level, event.description) for event in found]


@pytest_twisted.ensureDeferred
async def test_the_end_is_reported_ahead_once_a_day(cloud: SmallCloud, times: list[datetime]) -> None:
    await upload(cloud)
    for days, count in ((0, 0), (68, 0), (70, 1), (70.5, 1), (71, 2), (91, 3)):
        times.append(NOW + timedelta(days=days))
        cloud.database.run_now(report_ends, cloud.sites)
        assert len(reported(cloud)) == count, days
    (level, text), *_, (first_level, first_text) = reported(cloud)
    assert (level, first_level) == ("ERROR", "WARN")
    assert f"certificate of {DOMAIN} expired on" in text
    assert "systemvm certificate public upload" in first_text


@pytest_twisted.ensureDeferred
async def test_the_days_ahead_are_a_setting(cloud: SmallCloud, times: list[datetime]) -> None:
    await upload(cloud)
    name = "consoleproxy.certificate.expiry.alert.period"
    await cloud.call("updateConfiguration", name=name, value="89", zoneid=cloud.zone.uuid)
    times.append(NOW + timedelta(days=2))
    cloud.database.run_now(report_ends, cloud.sites)
    assert len(reported(cloud)) == 1


@pytest_twisted.ensureDeferred
async def test_it_is_shown_beside_up(cloud: SmallCloud, times: list[datetime]) -> None:
    names = ZoneNames(console=WILDCARD)
    other = PublicEndpoint("https", "203.0.113.9", 8443)
    remark = remark_on(cloud.sites, names, WILDCARD, other)
    assert remark is not None
    assert remark.reason == f"serves 203.0.113.9, because no valid certificate is for {WILDCARD}"
    await upload(cloud)
    assert remark_on(cloud.sites, names, WILDCARD, ENDPOINT) is None
    times.append(NOW + timedelta(days=80))
    remark = remark_on(cloud.sites, names, WILDCARD, ENDPOINT)
    assert remark is not None
    assert f"certificate of {HOST} expires on" in remark.reason
    times.append(NOW + timedelta(days=91))
    assert not cloud.sites.is_served(HOST), "an expired one is not used"
