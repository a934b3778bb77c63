# SPDX-License-Identifier: Apache-2.0
"""`ostype` and `oscategory` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class OsTypeAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    description: str = required_key("the name, where CloudStack's clients look for it")
    oscategoryid: str = required_key("UUID of its category")
    oscategoryname: str = required_key("name of its category")
    isuserdefined: bool = required_key("always false")


@frozen(kw_only=True)
class OsCategoryAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
