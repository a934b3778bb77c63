# SPDX-License-Identifier: Apache-2.0
"""`account`, `user`, `domain` and `userkeys` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from systemvm.management.api.answers.keys import always, says


@frozen(kw_only=True)
class UserAnswer:
    id: str = always("the UUID")
    username: str = always("the name to log in by")
    firstname: str = always("first name")
    lastname: str = always("last name")
    email: str = always("mail address")
    created: datetime = always("when the user was created")
    state: str = always("enabled or disabled")
    account: str = always("name of the account")
    accountid: str = always("UUID of the account")
    accounttype: int = always("0 for users, 1 for root administrators")
    roletype: str = always("User or Admin")
    rolename: str = always("User or Root Admin")
    domainid: str = always("UUID of the domain")
    domain: str = always("name of the domain")
    isdefault: bool = always("always false: no user is kept from being deleted")
    iscallerchilddomain: bool = always("always false: there is one domain")


@frozen(kw_only=True)
class AccountAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    accounttype: int = always("0 for users, 1 for root administrators")
    roletype: str = always("User or Admin")
    rolename: str = always("User or Root Admin")
    domainid: str = always("UUID of the domain")
    domain: str = always("name of the domain")
    domainpath: str = always("path of the domain")
    state: str = always("enabled, disabled or locked")
    created: datetime = always("when it was created")
    isdefault: bool = always("always false: no account is kept from being deleted")
    vmtotal: int = always("how many virtual machines it has")
    vmrunning: int = always("how many of them run")
    vmstopped: int = always("how many of them do not run")
    templatetotal: int = always("how many templates and ISOs it has")
    user: list[UserAnswer] = always("its users")


@frozen(kw_only=True)
class DomainAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    path: str = always("the path")
    level: int = always("0 for the root")
    haschild: bool = always("whether there are domains beneath it")
    parentdomainid: str | None = says("UUID of the domain above")
    parentdomainname: str | None = says("name of the domain above")
    state: str = always("Active")


@frozen(kw_only=True)
class UserKeysAnswer:
    apikey: str | None = field(default=None, repr=False, metadata={"description": "the API key"})
    secretkey: str | None = field(default=None, repr=False, metadata={"description": "its secret"})
