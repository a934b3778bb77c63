# SPDX-License-Identifier: Apache-2.0
"""The error of a delivery of alerts."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class DeliveryError(SystemVmError):
    """Alerts could not be delivered; they are sent again later."""

    code = FailureCode.UNAVAILABLE
