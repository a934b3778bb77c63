# SPDX-License-Identifier: Apache-2.0
"""Why an application refuses a call, where no enum of transfers, stores, consoles or channels applies."""

from __future__ import annotations

import enum


class CallRefusal(enum.Enum):
    """Stable reasons of REFUSED and FORBIDDEN errors."""

    PROTOCOL_VERSION = "protocol-version"  # this call is not part of what is spoken with such an agent
    NOT_YOU = "not-you"  # hello names another VM than the certificate
    NOT_YOURS = "not-yours"  # the object of the call belongs to another caller
    SIGNING_REFUSED = "signing-refused"
    NOT_RECORDED = "not-recorded"
    NOT_RENEWED = "not-renewed"
    NO_CONNECTION = "no-connection"
    CHECK_UNAVAILABLE = "CHECK_UNAVAILABLE"
    FIREWALL_UNCHANGED = "firewall_unchanged"
    CANNOT_LISTEN = "cannot_listen"
    NOT_ENDED = "not_ended"  # a download that is reported as finished is not
    NOT_FOUND = "not-found"
    NO_LOG = "no-log"
    NO_JOB = "no-job"
