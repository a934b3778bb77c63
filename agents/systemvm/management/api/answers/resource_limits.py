# SPDX-License-Identifier: Apache-2.0
"""`resourcelimit` and `resourcecount` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class ResourceLimitAnswer:
    account: str | None = optional_key("name of the account; of a domain's limit there is none")
    domainid: str = required_key("UUID of its domain")
    domain: str = required_key("name of its domain")
    domainpath: str = required_key("path of its domain")
    resourcetype: str = required_key("number of the kind of resource")
    resourcetypename: str = required_key("name of the kind of resource")
    max: int = required_key("how much it can have: MiB of memory, GiB of storage; -1 is no limit")
    isdefault: bool = required_key("whether it is the default; an addition to CloudStack's keys")
    used: int | None = optional_key(
        "how much it has, MiB of memory, bytes of storage, in a list of one account or domain; an addition"
    )


@frozen(kw_only=True)
class ResourceCountAnswer:
    account: str | None = optional_key("name of the account; of a domain's count there is none")
    domainid: str = required_key("UUID of its domain")
    domain: str = required_key("name of its domain")
    domainpath: str = required_key("path of its domain")
    resourcetype: str = required_key("number of the kind of resource")
    resourcetypename: str = required_key("name of the kind of resource")
    resourcecount: int = required_key("how much it has: MiB of memory, bytes of storage")
