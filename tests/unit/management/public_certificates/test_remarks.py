# SPDX-License-Identifier: Apache-2.0
"""The end of a certificate is reported ahead, once a day, and shown beside Up."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from public_pki import DOMAIN, INTERMEDIATE, NOW, ROOT, WILDCARD, server
from small_cloud import SmallCloud
from systemvm.management.pki.public import IdentitySource, PublicIdentity
from systemvm.management.public_certificates.files import CertificateFile
from systemvm.management.public_certificates.remarks import EVENT, check_step, remark_on, report_ends
from systemvm.management.public_certificates.sites import ZoneNames
from systemvm.management.public_certificates.validity import Validity, validity_of
from systemvm.management.state import events, schema
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


def date_events(connection: Any, when: datetime) -> None:
    connection.execute(schema.events.update().where(schema.events.c.type == EVENT).values(created=when))


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
async def test_the_end_of_a_certificate_in_a_file_is_reported_and_so_is_one_that_cannot_be_read(
    cloud: SmallCloud, times: list[datetime], tmp_path: Path
) -> None:
    path = tmp_path / "chain.pem"
    path.write_text(server().pem + INTERMEDIATE.pem)
    missing = CertificateFile("page.certificate_file", tmp_path / "missing.pem", "cloud.example.test")
    file = CertificateFile("console.certificate_file of zone zone1", path, HOST)
    recorded = 0
    for days, count in ((0, 0), (68, 0), (70, 1), (70.5, 1), (91, 2)):
        times.append(NOW + timedelta(days=days))
        cloud.database.run_now(report_ends, cloud.sites, [file])
        assert len(reported(cloud)) == count, days
        if count > recorded:
            cloud.database.run_now(date_events, times[-1])
        recorded = count
    assert cloud.database.run_now(report_ends, cloud.sites, [missing]) == 1
    cloud.database.run_now(date_events, times[-1])
    assert cloud.database.run_now(report_ends, cloud.sites, [missing]) == 0, "once a day"
    (level, unreadable), (_, ended), (first_level, first) = reported(cloud)
    assert (level, first_level) == ("ERROR", "WARN")
    assert "page.certificate_file cannot be read" in unreadable
    assert f"certificate of {HOST} (console.certificate_file of zone zone1) expired on" in ended
    assert "expires on" in first and "replace certificate_file and key_file" in first


@pytest_twisted.ensureDeferred
async def test_a_file_a_refusal_and_the_check_are_shown(cloud: SmallCloud, times: list[datetime]) -> None:
    leaf = server()
    identity = PublicIdentity(leaf.pem + INTERMEDIATE.pem, leaf.key_pem, IdentitySource.FILE)
    assert check_step(cloud.sites, "v-2-VM") is None
    cloud.sites.presented.took("v-2-VM", HOST, identity)
    for days, status in ((0, "good"), (80, "warning"), (91, "error")):
        times.append(NOW + timedelta(days=days))
        step = check_step(cloud.sites, "V-2-vm")
        remark = remark_on(cloud.sites, ZoneNames(), "", ENDPOINT, "v-2-VM")
        assert step is not None and step.status == status
        assert (remark is None) == (status == "good")
        assert remark is None or "replace certificate_file" in remark.hint
    times.append(NOW)
    cloud.sites.presented.refused("v-2-VM", HOST, "private key is unusable")
    step = check_step(cloud.sites, "v-2-VM")
    assert step is not None and (step.status, "private key is unusable" in step.text) == ("warning", True)
    remark = remark_on(cloud.sites, ZoneNames(), "", ENDPOINT, "v-2-VM")
    assert remark is not None and "the one before stays in use" in remark.hint
    presented = cloud.sites.presented.of("v-2-VM")
    assert presented is not None and presented.identity == identity


def test_one_that_renews_itself_is_late_when_half_of_the_time_for_it_is_over() -> None:
    day = timedelta(days=1)
    for source, left, expected in (
        (IdentitySource.ACME, 2 * day, Validity.VALID),  # of 6 days: renewed at 2
        (IdentitySource.ACME, 0.9 * day, Validity.EXPIRING),
        (IdentitySource.UPLOAD, 6 * day, Validity.EXPIRING),
        (IdentitySource.OWN, timedelta(0), Validity.EXPIRED),
    ):
        assert validity_of(source, NOW - 6 * day + left, NOW + left, NOW, 21) is expected, (source, left)


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
