# SPDX-License-Identifier: Apache-2.0
"""The answer of listAlertDeliveries."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class AlertDeliveryAnswer:
    """A way out of alerts that is set."""

    name: str = required_key("email or webhook")
    target: str = required_key("where the alerts go")
    state: str = required_key("idle, waiting or failing")
    waiting: int = required_key("alerts that were not delivered yet")
    failures: int = required_key("attempts that failed since the last success")
    reason: str | None = optional_key("why the last attempt failed")
    hint: str | None = optional_key("what to do about it")
    nexttry: datetime | None = optional_key("when it is tried again, if it failed")
    delivered: datetime | None = optional_key("when alerts were last delivered")
