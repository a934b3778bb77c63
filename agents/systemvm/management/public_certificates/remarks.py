# SPDX-License-Identifier: Apache-2.0
"""What is shown beside `Up` of a system VM about its public certificate, and what is recorded of its end."""

from __future__ import annotations

from datetime import datetime, timedelta

from systemvm.management.control.agent import Remark
from systemvm.management.public_certificates.shelf import ShelvedCertificate
from systemvm.management.public_certificates.sites import PublicSites, ZoneNames
from systemvm.management.state import events, public_certificates
from systemvm.management.state.database import Connection
from systemvm.web.public_endpoint import PublicEndpoint

#: The source of the remark.
CERTIFICATE = "certificate"
#: CloudStack's alert of type 31 (CA_CERT); alerts are events here.
EVENT = "ALERT.CA.CERT"
#: How often one is reported.
AGAIN = timedelta(hours=23)
_UPLOAD = 'send a newer one by "systemvm certificate public upload"'


def remark_on(sites: PublicSites, names: ZoneNames, wanted: str, endpoint: PublicEndpoint) -> Remark | None:
    """Return what is wrong with the certificate of an endpoint whose name in the settings is `wanted`."""
    found = sites.certificate_of(endpoint.host)
    if wanted and not endpoint.host.endswith(wanted.removeprefix("*.")):
        return Remark(
            f"serves {endpoint.host}, because no valid certificate is for {wanted}",
            'send one by "systemvm certificate public upload"',
        )
    if found is None or found.row.not_after - sites.now() > timedelta(days=names.alert_days):
        return None
    return Remark(f"certificate of {endpoint.host} expires on {_day(found.row.not_after)}", _UPLOAD)


def report_ends(connection: Connection, sites: PublicSites) -> int:
    """Record an event for each certificate that ends soon, or has ended; once a day. Return how many."""
    now, count = sites.now(), 0
    for each in sites.shelf.all():
        row = public_certificates.rows.by_id(connection, each.row.id)
        left = row.not_after - now
        if left > timedelta(days=sites.alert_days) or (row.warned is not None and now - row.warned < AGAIN):
            continue
        events.record(
            connection,
            EVENT,
            f"{_text(each, now)}; {_UPLOAD}",
            level="WARN" if left > timedelta() else "ERROR",
            resource_type="Certificate",
            resource_uuid=row.uuid,
        )
        public_certificates.rows.update(connection, row.id, warned=now)
        count += 1
    return count


def _text(shelved: ShelvedCertificate, now: datetime) -> str:
    end = shelved.row.not_after
    verb = "expires on" if end > now else "expired on"
    return f"certificate of {shelved.row.domain_suffix} {verb} {_day(end)}"


def _day(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
