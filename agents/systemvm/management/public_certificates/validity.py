# SPDX-License-Identifier: Apache-2.0
"""How long a certificate is still valid, and when that is worth a warning."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta

from systemvm.management.pki.public import IdentitySource

#: One that renews itself is renewed when this part of its life is left (`acme_renewal.py`).
RENEW_LEFT = 1 / 3
#: One that should have been renewed by then is reported.
_OVERDUE_LEFT = RENEW_LEFT / 2


class Validity(enum.Enum):
    """Of a name's certificate now."""

    VALID = "valid"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    NONE = "none"  # no system VM has taken one


def validity_of(
    source: IdentitySource, not_before: datetime, not_after: datetime, now: datetime, alert_days: int
) -> Validity:
    """Return whether a certificate ends within the days of the setting.

    One that renews itself can live for less: it is late when half of the time is over in which that happens.
    """
    if not_after <= now:
        return Validity.EXPIRED
    warning = timedelta(days=alert_days)
    if source in (IdentitySource.ACME, IdentitySource.OWN):
        warning = min(warning, (not_after - not_before) * _OVERDUE_LEFT)
    return Validity.EXPIRING if not_after - now <= warning else Validity.VALID


def advice_for(source: IdentitySource) -> str:
    """Return what an operator does about a certificate that ends soon."""
    match source:
        case IdentitySource.FILE:
            return "replace certificate_file and key_file: they are read again every day"
        case IdentitySource.UPLOAD:
            return 'send a newer one by "systemvm certificate public upload"'
        case IdentitySource.ACME:
            return 'see why it is not renewed: "systemvm certificate public names"'
        case IdentitySource.OWN:
            return 'have it renewed by "systemvm certificate public renew"'


def day(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
