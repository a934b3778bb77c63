# SPDX-License-Identifier: Apache-2.0
"""`account`, `user`, `domain` and `userkeys` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from systemvm.management.api.answers.keys import optional_key, required_key
from systemvm.management.api.answers.resource_use import ResourceUseAnswer, own_keys_first


@frozen(kw_only=True)
class UserAnswer:
    id: str = required_key("the UUID")
    username: str = required_key("name that the user logs in with")
    firstname: str = required_key("first name")
    lastname: str = required_key("last name")
    email: str = required_key("email address")
    created: datetime = required_key("when the user was created")
    state: str = required_key("enabled, disabled or locked")
    account: str = required_key("name of the account")
    accountid: str = required_key("UUID of the account")
    accounttype: int = required_key("0 for users, 1 for root administrators, 2 for domain administrators")
    roletype: str = required_key("User, Admin or DomainAdmin")
    roleid: str = required_key("UUID of the role; see listRoles")
    rolename: str = required_key("name of the role: User, Root Admin, Domain Admin, or one that was made")
    domainid: str = required_key("UUID of the domain")
    domain: str = required_key("name of the domain")
    isdefault: bool = required_key("always false: every user can be deleted")
    iscallerchilddomain: bool = required_key("always false in this release")
    is2faenabled: bool = required_key("whether the user's logins need a second factor")
    is2famandated: bool = required_key("whether the user must set one up: by updateUser, or as all must")


@frozen(kw_only=True, field_transformer=own_keys_first)
class AccountAnswer(ResourceUseAnswer):
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    accounttype: int = required_key("0 for users, 1 for root administrators, 2 for domain administrators")
    roletype: str = required_key("User, Admin or DomainAdmin")
    roleid: str = required_key("UUID of the role; see listRoles")
    rolename: str = required_key("name of the role: User, Root Admin, Domain Admin, or one that was made")
    domainid: str = required_key("UUID of the domain")
    domain: str = required_key("name of the domain")
    domainpath: str = required_key("path of the domain")
    state: str = required_key("enabled, disabled or locked")
    created: datetime = required_key("when it was created")
    isdefault: bool = required_key("always false: every account can be deleted")
    vmrunning: int | None = optional_key("how many of its virtual machines run")
    vmstopped: int | None = optional_key("how many of them do not run")
    user: list[UserAnswer] = required_key("its users")


@frozen(kw_only=True)
class DomainAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    path: str = required_key("the path")
    level: int = required_key("0 for the root")
    haschild: bool = required_key("whether it has subdomains")
    parentdomainid: str | None = optional_key("UUID of the parent domain")
    parentdomainname: str | None = optional_key("name of the parent domain")
    state: str = required_key("Active")


@frozen(kw_only=True)
class UserKeysAnswer:
    apikey: str | None = field(default=None, repr=False, metadata={"description": "the API key"})
    secretkey: str | None = field(default=None, repr=False, metadata={"description": "the secret key"})
