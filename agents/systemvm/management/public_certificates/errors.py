# SPDX-License-Identifier: Apache-2.0
"""Why a certificate for the public side is refused."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class PublicCertificateError(SystemVmError):
    """A certificate, chain or key that cannot be used; the message contains no part of a key."""

    code = FailureCode.INVALID
    parameter = "certificate"


class NoPublicCertificateError(SystemVmError):
    """There is no such certificate."""

    code = FailureCode.NOT_FOUND


class NotTakenError(SystemVmError):
    """A system VM refused the certificate, so that the previous one is in use again."""

    code = FailureCode.UNAVAILABLE
