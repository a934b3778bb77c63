# SPDX-License-Identifier: Apache-2.0
"""`ostype` and `oscategory` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import always


@frozen(kw_only=True)
class OsTypeAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    description: str = always("the name, where CloudStack's clients look for it")
    oscategoryid: str = always("UUID of its category")
    oscategoryname: str = always("name of its category")
    isuserdefined: bool = always("always false")


@frozen(kw_only=True)
class OsCategoryAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
