# SPDX-License-Identifier: Apache-2.0
"""`configuration` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class ConfigurationAnswer:
    """A setting."""

    category: str = required_key("always Advanced")
    group: str = required_key("the part of the cloud that it is for")
    name: str = required_key("the name")
    value: str = required_key("the value that holds")
    defaultvalue: str = required_key("the value that it has until it is changed")
    description: str = required_key("what it sets")
    scope: str = required_key("zone: a zone can have a value of its own")
    type: str = required_key("Boolean or Number")
    isdynamic: bool = required_key("true: a change takes effect at once")
    units: str | None = optional_key("the unit of a number; an addition to CloudStack's keys")
