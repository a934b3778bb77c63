# SPDX-License-Identifier: Apache-2.0
"""What is shown beside `Up` of a system VM about its public certificate, and what is recorded of its end."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from systemvm.management.control.agent import Remark
from systemvm.management.pki.public import IdentitySource
from systemvm.management.public_certificates.certificate_cache import CachedCertificate
from systemvm.management.public_certificates.files import CertificateFile
from systemvm.management.public_certificates.sites import PublicSites, ZoneNames
from systemvm.management.public_certificates.validity import Validity, advice_for, day, validity_of
from systemvm.management.state import events, public_certificates
from systemvm.management.state.database import Connection
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.agent import CheckStep

#: The source of the remark, and the name of the check.
CERTIFICATE = "certificate"
#: CloudStack's alert of type 31 (CA_CERT); alerts are events here.
EVENT = "ALERT.CA.CERT"
#: How often one is reported.
AGAIN = timedelta(hours=23)
_BY_FILE = uuid.UUID("7d1c3c0e-5e3b-4a54-9d0b-6a0f1f6f3f0a")


def remark_on(
    sites: PublicSites, names: ZoneNames, wanted: str, endpoint: PublicEndpoint, vm_name: str = ""
) -> Remark | None:
    """Return what is wrong with the certificate of an endpoint whose name in the settings is `wanted`.

    `vm_name` is that of the system VM that serves it.
    """
    if wanted and not endpoint.host.endswith(wanted.removeprefix("*.")):
        return Remark(
            f"serves {endpoint.host}, because no valid certificate is for {wanted}",
            'send one by "systemvm certificate public upload"',
        )
    fault = sites.file_fault(endpoint.host)
    if fault:
        return Remark(
            f"certificate_file of {endpoint.host} is not used: {fault}", advice_for(IdentitySource.FILE)
        )
    presented = sites.presented.of(vm_name)
    if presented is not None and presented.refusal:
        return Remark(
            f"refused a certificate of {presented.host}: {presented.refusal}",
            "correct it; the one before stays in use",
        )
    identity = None if presented is None or presented.host != endpoint.host else presented.identity
    source: IdentitySource
    if identity is not None and identity.source is IdentitySource.FILE:
        source, end = IdentitySource.FILE, identity.not_after
        not_before = identity.certificates()[0].not_valid_before_utc
    else:
        found = sites.certificate_of(endpoint.host)
        if found is None:
            return None
        not_before, end, source = found.not_before, found.row.not_after, IdentitySource(found.row.source)
    state = validity_of(source, not_before, end, sites.now(), names.alert_days)
    if state is Validity.VALID:
        return None
    return Remark(f"certificate of {endpoint.host} {_verb(end, sites.now())} {day(end)}", advice_for(source))


def check_step(sites: PublicSites, vm_name: str) -> CheckStep | None:
    """Return the line of `systemvm check` about the certificate of a system VM; None while it has none."""
    presented = sites.presented.of(vm_name)
    if presented is None or (identity := presented.identity) is None or not identity.certificate_pem:
        return None
    leaf, end = identity.certificates()[0], identity.not_after
    state = validity_of(identity.source, leaf.not_valid_before_utc, end, sites.now(), sites.alert_days)
    text = f"certificate of {presented.host} {_verb(end, sites.now())} {day(end)}"
    if state is Validity.EXPIRED:
        return CheckStep(CERTIFICATE, "error", text, advice_for(identity.source))
    if presented.refusal:
        hint = "correct it; the one before stays in use"
        return CheckStep(
            CERTIFICATE, "warning", f"a newer certificate was refused: {presented.refusal}", hint
        )
    if state is Validity.EXPIRING:
        return CheckStep(CERTIFICATE, "warning", text, advice_for(identity.source))
    return CheckStep(CERTIFICATE, "good", f"certificate of {presented.host} is valid until {day(end)}")


def report_ends(connection: Connection, sites: PublicSites, files: Iterable[CertificateFile] = ()) -> int:
    """Record an event for each certificate that ends soon, or has ended; once a day. Return how many."""
    now, count = sites.now(), 0
    for each in sites.cache.all():
        row = public_certificates.rows.by_id(connection, each.row.id)
        source = IdentitySource(row.source)
        if validity_of(source, each.not_before, row.not_after, now, sites.alert_days) is Validity.VALID:
            continue
        if row.warned is not None and now - row.warned < AGAIN:
            continue
        _record(connection, _text(each, now), row.not_after > now, advice_for(source), row.uuid)
        public_certificates.rows.update(connection, row.id, warned=now)
        count += 1
    return count + sum(_report_file(connection, sites, each) for each in files)


def _report_file(connection: Connection, sites: PublicSites, file: CertificateFile) -> bool:
    """Record an event about a file that cannot be read or ends soon; return whether one was recorded."""
    now, advice = sites.now(), advice_for(IdentitySource.FILE)
    try:
        chain = file.chain()
        end = min(each.not_valid_after_utc for each in chain)
        begins = chain[0].not_valid_before_utc
    except (OSError, ValueError) as error:
        text, is_warning = f"{file.setting} cannot be read: {file.path}: {error}", False
    else:
        if validity_of(IdentitySource.FILE, begins, end, now, sites.alert_days) is Validity.VALID:
            return False
        text = f"certificate of {file.host} ({file.setting}) {_verb(end, now)} {day(end)}"
        is_warning = end > now
    # a file has no row that could say when it was reported: its events do, by an id made of the setting
    about = str(uuid.uuid5(_BY_FILE, file.setting))
    reported = events.EventFilter(type=EVENT, resource_uuid=about, since=now - AGAIN)
    if events.newest(connection, 1, reported):
        return False
    _record(connection, text, is_warning, advice, about)
    return True


def _record(connection: Connection, text: str, is_warning: bool, advice: str, about: str) -> None:
    events.record(
        connection,
        EVENT,
        f"{text}; {advice}",
        level="WARN" if is_warning else "ERROR",
        resource_type="Certificate",
        resource_uuid=about,
    )


def _text(cached: CachedCertificate, now: datetime) -> str:
    end = cached.row.not_after
    return f"certificate of {cached.row.domain_suffix} {_verb(end, now)} {day(end)}"


def _verb(end: datetime, now: datetime) -> str:
    return "expires on" if end > now else "expired on"
