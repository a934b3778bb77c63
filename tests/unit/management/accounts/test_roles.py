# SPDX-License-Identifier: Apache-2.0
"""Roles: which commands an account's users can call, and that nobody gets more rights by them."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from small_cloud.rows import HASHER
from systemvm.management.accounts.errors import AccountError
from systemvm.management.api.authentication import Authenticator, principal_of
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.principal import Principal
from systemvm.management.state.roles import DEFAULTS, Rules
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import AccountType
from systemvm.service.errors import SystemVmError
from user_accounts import PERSON, error_of, new_account

IDS = {role.name: role.uuid for role in DEFAULTS}


async def new_role(
    cloud: SmallCloud, name: str, *rules: tuple[str, str], kind: str = "User", **more: Any
) -> str:
    which = more if "roleid" in more else {"type": kind} | more
    role = (await cloud.call("createRole", name=name, **which))["role"]
    for rule, permission in rules:
        await cloud.call("createRolePermission", roleid=role["id"], rule=rule, permission=permission)
    return str(role["id"])


async def rules(cloud: SmallCloud, role: str) -> list[tuple[str, str]]:
    found = (await cloud.call("listRolePermissions", roleid=role, pagesize=-1)).get("rolepermission", [])
    return [(row["rule"], row["permission"]) for row in found]


def again(cloud: SmallCloud, principal: Principal) -> Principal:
    return present(cloud.database.run_now(principal_of, principal.user))


async def is_available(cloud: SmallCloud, principal: Principal, command: str, **parameters: Any) -> bool:
    """Return whether a role permits a command, whatever it answers."""
    try:
        await cloud.call(command, again(cloud, principal), **parameters)
    except SystemVmError as error:
        return error.code is not ErrorCode.UNSUPPORTED
    return True


@pytest.mark.parametrize(
    ("rules_of_role", "command", "expected"),
    [
        ((), "listZones", False),
        ((("*", True),), "listZones", True),
        ((("list*", True),), "deleteVolume", False),
        ((("LIST*", True),), "listZones", True),
        ((("delete*", False), ("*", True)), "deleteVolume", False),
        ((("*", True), ("delete*", False)), "deleteVolume", True),
        ((("*Volume", True),), "deleteVolume", True),
        ((("*Volume", True),), "listVolumes", False),
        ((("listZone", True),), "listZones", False),
    ],
)
def test_the_first_rule_that_matches_decides(
    rules_of_role: tuple[tuple[str, bool], ...], command: str, expected: bool
) -> None:
    assert Rules(rules_of_role).permit(command) is expected


def test_a_rule_of_many_stars_comes_to_an_end() -> None:
    """A matcher that tries every way would need years."""
    assert not Rules((("*a" * 20 + "b", True),)).permit("a" * 45)


@pytest_twisted.ensureDeferred
async def test_rules_hold_from_the_next_call_on(cloud: SmallCloud) -> None:
    role = await new_role(cloud, "viewer", ("list*", "allow"))
    ada = await new_account(cloud, roleid=role)
    assert await is_available(cloud, ada, "listVirtualMachines")
    assert not await is_available(cloud, ada, "createVolume", size=1)
    listed = {row["name"] for row in (await cloud.call("listApis", again(cloud, ada), pagesize=-1))["api"]}
    assert "createVolume" not in listed
    assert "listVolumes" in listed
    await cloud.call("createRolePermission", roleid=role, rule="createVolume", permission="allow")
    assert await is_available(cloud, ada, "createVolume", size=1)
    [account] = (await cloud.call("listAccounts", name="ada"))["account"]
    assert (account["roleid"], account["rolename"], account["roletype"]) == (role, "viewer", "User")
    await cloud.call("updateAccount", id=account["id"], roleid=IDS["User"])
    assert await is_available(cloud, ada, "deleteVolume", id=cloud.zone.uuid)


@pytest_twisted.ensureDeferred
async def test_a_kept_principal_has_the_rules_of_now(cloud: SmallCloud) -> None:
    role = await new_role(cloud, "viewer", ("list*", "allow"))
    ada = await new_account(cloud, roleid=role)
    key = (await cloud.call("registerUserKeys", id=ada.user.uuid))["userkeys"]["apikey"]
    directory = Authenticator(cloud.database, cloud.seal, HASHER)
    before, _ = present(await directory.by_api_key(key))
    assert before.rules is not None
    assert before.rules.permit("listZones")
    [rule] = (await cloud.call("listRolePermissions", roleid=role))["rolepermission"]
    await cloud.call("updateRolePermission", roleid=role, ruleid=rule["id"], permission="deny")
    after, _ = present(await directory.by_api_key(key))
    assert after.rules is not None
    assert not after.rules.permit("listZones")


@pytest_twisted.ensureDeferred
async def test_no_rule_permits_what_is_for_another_type(cloud: SmallCloud) -> None:
    ada = await new_account(cloud, roleid=await new_role(cloud, "everything", ("*", "allow")))
    assert not await is_available(cloud, ada, "listHosts")
    assert not await is_available(cloud, ada, "createAccount")


@pytest_twisted.ensureDeferred
async def test_rules_are_ordered_changed_and_deleted(cloud: SmallCloud) -> None:
    role = await new_role(cloud, "mixed", ("list*", "allow"), ("listZones", "deny"))
    ada = await new_account(cloud, roleid=role)
    assert await is_available(cloud, ada, "listZones")
    found = (await cloud.call("listRolePermissions", roleid=role))["rolepermission"]
    order = [row["id"] for row in reversed(found)]
    await cloud.call("updateRolePermission", roleid=role, ruleorder=",".join(order))
    assert await rules(cloud, role) == [("listZones", "deny"), ("list*", "allow")]
    assert not await is_available(cloud, ada, "listZones")
    await cloud.call("updateRolePermission", roleid=role, ruleid=order[0], permission="allow")
    assert await is_available(cloud, ada, "listZones")
    await cloud.call("deleteRolePermission", id=order[0])
    assert await rules(cloud, role) == [("list*", "allow")]
    for parameters, message in (
        ({"ruleorder": order[0]}, "must name each of the 1 rules"),
        ({"ruleid": order[1]}, "must be given together"),
        ({}, "Either ruleorder"),
    ):
        with pytest.raises((ApiError, AccountError), match=message):
            await cloud.call("updateRolePermission", roleid=role, **parameters)


@pytest_twisted.ensureDeferred
async def test_a_copy_has_the_rules_of_its_origin(cloud: SmallCloud) -> None:
    of_user = await new_role(cloud, "user too", roleid=IDS["User"])
    names = {name for name, _ in await rules(cloud, of_user)}
    assert names == {each.name for each in cloud.table if AccountType.USER in each.roles}
    assert await rules(cloud, of_user) == await rules(cloud, IDS["User"])
    again_copied = await new_role(cloud, "third", roleid=of_user)
    assert await rules(cloud, again_copied) == await rules(cloud, of_user)


@pytest_twisted.ensureDeferred
async def test_roles_are_listed_changed_and_deleted(cloud: SmallCloud) -> None:
    role = await new_role(cloud, "viewer", description="looks only")
    listed = (await cloud.call("listRoles"))["role"]
    assert [(row["name"], row["type"], row["isdefault"]) for row in listed] == [
        ("Root Admin", "Admin", True), ("Domain Admin", "DomainAdmin", True), ("User", "User", True),
        ("viewer", "User", False),
    ]  # fmt: skip
    for which in ({"id": role}, {"name": "viewer"}, {"keyword": "VIEW"}):
        [found] = (await cloud.call("listRoles", **which))["role"]
        assert found["description"] == "looks only"
    assert (await cloud.call("listRoles", type="domainadmin"))["count"] == 1
    changed = (await cloud.call("updateRole", id=role, name="reader", type="DomainAdmin"))["role"]
    assert (changed["name"], changed["type"]) == ("reader", "DomainAdmin")
    assert changed["description"] == "looks only"
    changed = (await cloud.call("updateRole", id=role, description=""))["role"]
    assert "description" not in changed
    await cloud.call("deleteRole", id=role)
    with pytest.raises(NotFoundError):
        await cloud.call("updateRole", id=role, name="x")
    await new_role(cloud, "reader")  # the name is free again


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_is_refused(cloud: SmallCloud) -> None:
    role = await new_role(cloud, "viewer", ("list*", "allow"))
    ada = await new_account(cloud, roleid=role)
    account = {"id": ada.account.uuid}
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("createRole", {"name": "VIEWER", "type": "User"}, "already exists"),
        ("createRole", {"name": "root admin", "type": "User"}, "already exists"),
        ("createRole", {"name": " ", "type": "User"}, "1 to 255"),
        ("createRole", {"name": "x"}, "Either role type or role ID"),
        ("createRole", {"name": "x", "type": "King"}, "type"),
        ("updateRole", {"id": IDS["User"], "name": "x"}, "every installation has it"),
        ("updateRole", {"id": role, "type": "Admin"}, "accounts have it"),
        ("deleteRole", {"id": role}, "Found accounts that have role in use"),
        ("deleteRole", {"id": IDS["Root Admin"]}, "every installation has it"),
        ("createRolePermission", {"roleid": role, "rule": "list.*", "permission": "allow"}, "letters"),
        ("createRolePermission", {"roleid": role, "rule": "LIST*", "permission": "deny"}, "has the rule"),
        ("createRolePermission", {"roleid": role, "rule": "a", "permission": "maybe"}, "permission"),
        ("createRolePermission", {"roleid": IDS["User"], "rule": "a", "permission": "deny"}, "cannot"),
        ("updateAccount", account | {"roleid": IDS["Root Admin"]}, "not a role for accounts of the type"),
        ("createAccount", {"username": "x", "accounttype": 1, "roleid": role} | PERSON, "is not the type"),
    ]
    for command, parameters, message in refused:
        with pytest.raises((ApiError, AccountError), match=message):
            await cloud.call(command, **parameters)


@pytest_twisted.ensureDeferred
async def test_a_restricted_administrator_gets_no_more_rights(cloud: SmallCloud) -> None:
    """Neither by another account's keys or password, nor by a new account, nor by changing the own role."""
    role = await new_role(
        cloud, "helpdesk", ("deleteUser", "deny"), ("*Role*", "allow"), ("*User*", "allow"),
        ("*Account*", "allow"), ("list*", "allow"), kind="Admin",
    )  # fmt: skip
    helper = again(cloud, await new_account(cloud, "helper", roleid=role))
    assert helper.is_admin
    weaker = await new_role(cloud, "reader", ("list*", "allow"))
    ada = await new_account(cloud, roleid=weaker)
    refused: list[tuple[str, dict[str, Any]]] = [
        ("getUserKeys", {"id": cloud.admin.user.uuid}),
        ("registerUserKeys", {"id": cloud.user.user.uuid}),  # a user can create volumes
        ("updateUser", {"id": cloud.admin.user.uuid, "password": "x"}),
        ("createUser", {"username": "x", "account": "admin"} | PERSON),
        ("createAccount", {"username": "x"} | PERSON),
        ("createAccount", {"username": "x", "accounttype": 1} | PERSON),
        ("updateAccount", {"id": helper.account.uuid, "roleid": IDS["Root Admin"]}),
        ("createRole", {"name": "x", "type": "Admin"}),
        ("createRolePermission", {"roleid": role, "rule": "*", "permission": "allow"}),
        ("deleteRole", {"id": weaker}),
    ]
    for command, parameters in refused:
        error = await error_of(cloud.call(command, helper, **parameters))
        assert error.code is ErrorCode.UNAUTHORIZED, (command, error.message)
    await cloud.call("registerUserKeys", helper, id=ada.user.uuid)
    await cloud.call("createUser", helper, username="eve", account="ada", **PERSON)
    await cloud.call("createAccount", helper, username="bob", roleid=weaker, **PERSON)


@pytest_twisted.ensureDeferred
async def test_an_unrestricted_administrator_is_left(cloud: SmallCloud) -> None:
    role = await new_role(cloud, "watcher", ("list*", "allow"), kind="Admin")
    own = cloud.admin.account.uuid
    with pytest.raises(AccountError, match="whose role restricts nothing"):
        await cloud.call("updateAccount", id=own, roleid=role)
    await new_account(cloud, "watcher", roleid=role)
    with pytest.raises(AccountError, match="last root administrator"):
        await cloud.call("updateAccount", id=own, roleid=role)
    second = await new_account(cloud, "second", accounttype=1)
    await cloud.call("updateAccount", id=own, roleid=role)
    operator = await Authenticator(cloud.database, cloud.seal, HASHER).operator()
    assert operator.account.id == second.account.id


@pytest_twisted.ensureDeferred
async def test_domain_administrators_see_and_give_public_roles(cloud: SmallCloud) -> None:
    domain = (await cloud.call("createDomain", name="sales"))["domain"]["id"]
    dora = await new_account(cloud, "dora", domainid=domain, accounttype=2)
    public = await new_role(cloud, "open", ("list*", "allow"))
    hidden = await new_role(cloud, "hidden", ("list*", "allow"), ispublic="false")
    admins = await new_role(cloud, "ops", ("*", "allow"), kind="Admin")
    listed = {row["name"] for row in (await cloud.call("listRoles", dora))["role"]}
    assert listed == {"Domain Admin", "User", "open"}
    await cloud.call("createAccount", dora, username="sam", roleid=public, **PERSON)
    for role in (hidden, admins):
        error = await error_of(cloud.call("createAccount", dora, username="x", roleid=role, **PERSON))
        assert error.code is ErrorCode.UNAUTHORIZED
    assert (await error_of(cloud.call("createRole", dora, name="x"))).code is ErrorCode.UNSUPPORTED


@pytest_twisted.ensureDeferred
async def test_a_domain_is_not_deleted_with_an_account_that_can_do_more(cloud: SmallCloud) -> None:
    role = await new_role(cloud, "domains only", ("*Domain*", "allow"), kind="DomainAdmin")
    sales = (await cloud.call("createDomain", name="sales"))["domain"]
    team = (await cloud.call("createDomain", name="team", parentdomainid=sales["id"]))["domain"]
    dora = await new_account(cloud, "dora", domainid=sales["id"], roleid=role)
    sam = await new_account(cloud, "sam", domainid=team["id"])
    dora = present(cloud.database.run_now(principal_of, dora.user))
    refused = await error_of(cloud.call("deleteDomain", dora, id=team["id"], cleanup="true"))
    assert "which the role of the other account permits" in refused.message
    assert await cloud.call("listAccounts", id=sam.account.uuid)
