# SPDX-License-Identifier: Apache-2.0
"""The `apilimit` object."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class ApiLimitAnswer:
    accountid: str = required_key("UUID of the account")
    account: str = required_key("name of the account")
    apiIssued: int = required_key("calls in the present interval")
    apiAllowed: int = required_key("calls that an interval permits")
    expireAfter: int = required_key("milliseconds until the interval ends; 0: none has begun")
