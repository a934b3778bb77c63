# SPDX-License-Identifier: Apache-2.0
"""The metric by which monitoring sees the end of a public certificate ahead."""

from __future__ import annotations

from systemvm.service.metrics import Metric, gauge

NAME = "systemvm_public_certificate_expiry_timestamp_seconds"


def expiry_metrics(expires_unix_s: float | None) -> list[Metric]:
    """Return the metric; none while there is no certificate."""
    if expires_unix_s is None:
        return []
    return [gauge(NAME, "When the first certificate of the public chain ends", expires_unix_s)]
