# SPDX-License-Identifier: Apache-2.0
"""`role` and `rolepermission` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class RoleAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    type: str = required_key("of the accounts that can have it: Admin, DomainAdmin or User")
    description: str | None = optional_key("what it is for")
    isdefault: bool = required_key("whether every installation has it; it cannot be changed then")
    ispublic: bool = required_key("whether domain administrators see it and can give it")
    state: str = required_key("always enabled in this release")


@frozen(kw_only=True)
class RolePermissionAnswer:
    id: str = required_key("the UUID")
    roleid: str = required_key("UUID of the role")
    rolename: str = required_key("name of the role")
    rule: str = required_key("a command, or several with *")
    permission: str = required_key("allow or deny")
    description: str | None = optional_key("why")
