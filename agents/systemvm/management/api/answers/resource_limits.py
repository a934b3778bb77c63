# SPDX-License-Identifier: Apache-2.0
"""`resourcelimit` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class ResourceLimitAnswer:
    account: str = required_key("name of the account")
    domainid: str = required_key("UUID of its domain")
    domain: str = required_key("name of its domain")
    domainpath: str = required_key("path of its domain")
    resourcetype: str = required_key("11")
    resourcetypename: str = required_key("secondary_storage")
    max: int = required_key("GiB that its templates and ISOs can have in a zone; -1 is no limit")
    isdefault: bool = required_key(
        "whether it is the limit of the zones, the lowest of these; an addition to CloudStack's keys"
    )
