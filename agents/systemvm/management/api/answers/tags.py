# SPDX-License-Identifier: Apache-2.0
"""`tag` objects, and `tags` of other objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class TagAnswer:
    """A key with its value, which the owner of an object gave it."""

    key: str = required_key("the key, once at an object")
    value: str = required_key("the value")
    resourceid: str = required_key("UUID of the object")
    resourcetype: str = required_key("UserVm, Template, ISO, Volume, Snapshot or Network")
    account: str = required_key("the account that owns the object")
    domainid: str = required_key("the owner's domain UUID")
    domain: str = required_key("the owner's domain")
