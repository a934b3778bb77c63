# SPDX-License-Identifier: Apache-2.0
"""`accountusage` objects, which CloudStack does not have."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class AccountUsageAnswer:
    """What an account uses."""

    account: str = required_key("the account")
    accountid: str = required_key("its UUID")
    domainid: str = required_key("its domain's UUID")
    domain: str = required_key("its domain")
    storedbytes: int = required_key("bytes of images, snapshots and recordings, every copy on every store")
    servedbytes: int = required_key("bytes that were ever downloaded by links of secondary storage VMs")
    consoleminutes: int = required_key("whole minutes that its consoles were ever open")
