# SPDX-License-Identifier: Apache-2.0
"""Domain administrators have access to their domain and to those beneath it, and to nothing else."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from attrs import frozen

from present import present
from small_cloud import SmallCloud
from systemvm.management.api.authentication import principal_of
from systemvm.management.api.command import ApiCall
from systemvm.management.api.commands.consoles import user_of
from systemvm.management.api.errors import ErrorCode
from systemvm.management.api.parameters import read_arguments
from systemvm.management.api.principal import ADMIN_ONLY, Principal
from systemvm.management.state import accounts, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AccountType
from user_accounts import PERSON, error_of, new_account
from user_vms import deploy_stopped, deployment_parameters


@frozen
class Tree:
    """`/sales` with its administrator, `/sales/north` and `/other` with a user each."""

    sales: str  # UUIDs
    north: str
    other: str
    dora: Principal
    sam: Principal
    olga: Principal


async def plant(cloud: SmallCloud) -> Tree:
    made: dict[str, str] = {}
    for name, parent in (("sales", None), ("north", "sales"), ("other", None)):
        more = {"parentdomainid": made[parent]} if parent else {}
        made[name] = (await cloud.call("createDomain", name=name, **more))["domain"]["id"]
    sam = await new_account(cloud, "sam", domainid=made["north"])
    olga = await new_account(cloud, "olga", domainid=made["other"])
    dora = await new_account(cloud, "dora", domainid=made["sales"], accounttype=2)
    assert (dora.is_admin, dora.is_administrator) == (False, True)
    return Tree(made["sales"], made["north"], made["other"], dora, sam, olga)


def again(cloud: SmallCloud, principal: Principal) -> Principal:
    """Return a user with the present rights, as the next call has them."""
    return present(cloud.database.run_now(principal_of, principal.user))


async def machine(cloud: SmallCloud, owner: Principal) -> Instance:
    template, _ = cloud.add_template(owner=owner)
    return await deploy_stopped(cloud, owner, template)


@pytest_twisted.ensureDeferred
async def test_lists_contain_what_is_beneath(cloud: SmallCloud) -> None:
    tree = await plant(cloud)
    mine, sams = await machine(cloud, tree.dora), await machine(cloud, tree.sam)
    for stranger in (tree.olga, cloud.user, cloud.admin):
        await machine(cloud, stranger)

    async def found(**which: str) -> list[str]:
        answer = await cloud.call("listVirtualMachines", tree.dora, **which)
        return sorted(row["id"] for row in answer.get("virtualmachine", []))

    assert await found() == [mine.uuid]
    assert await found(listall="true") == sorted([mine.uuid, sams.uuid])
    assert await found(domainid=tree.sales) == [mine.uuid]
    assert await found(domainid=tree.sales, isrecursive="true") == sorted([mine.uuid, sams.uuid])
    assert await found(account="sam", domainid=tree.north) == [sams.uuid]
    for domain in (tree.other, cloud.admin.domain.uuid):
        assert (await error_of(found(domainid=domain))).code is ErrorCode.UNAUTHORIZED
    assert (await error_of(found(account="olga", domainid=tree.other))).code is ErrorCode.UNAUTHORIZED
    for command, key in (("listVolumes", "volume"), ("listEvents", "event"), ("listTemplates", "template")):
        more = {"templatefilter": "self"} if command == "listTemplates" else {}
        rows = (await cloud.call(command, tree.dora, listall="true", **more))[key]
        assert {row["account"] for row in rows} == {"dora", "sam"}, command
    period = {"startdate": str(mine.created.date()), "enddate": "9000-01-01"}
    rows = (await cloud.call("listUsageRecords", tree.dora, **period))["usagerecord"]
    assert {row["account"] for row in rows} == {"dora", "sam"}
    for which in ({"account": "olga", "domainid": tree.other}, {"domainid": tree.other}):
        refused = await error_of(cloud.call("listUsageRecords", tree.dora, **period, **which))
        assert refused.code is ErrorCode.UNAUTHORIZED
    strangers = {"accountid": tree.olga.account.uuid}
    refused = await error_of(cloud.call("listUsageRecords", tree.dora, **period, **strangers))
    assert refused.code is ErrorCode.PARAMETER


@pytest_twisted.ensureDeferred
async def test_accounts_users_and_domains_are_listed_beneath(cloud: SmallCloud) -> None:
    tree = await plant(cloud)
    rows = (await cloud.call("listAccounts", tree.dora))["account"]
    assert [(row["name"], row["roletype"], row["rolename"]) for row in rows] == [
        ("sam", "User", "User"), ("dora", "DomainAdmin", "Domain Admin"),
    ]  # fmt: skip
    users = (await cloud.call("listUsers", tree.dora, listall="true"))["user"]
    assert [row["username"] for row in users] == ["sam", "dora"]
    assert [row["name"] for row in (await cloud.call("listDomains", tree.dora))["domain"]] == [
        "sales", "north",
    ]  # fmt: skip
    assert await cloud.call("listAccounts", tree.dora, domainid=tree.other) == {}
    assert await cloud.call("listUsers", tree.dora, id=cloud.admin.user.uuid) == {}
    assert await cloud.call("listDomains", tree.dora, id=tree.other) == {}


@pytest_twisted.ensureDeferred
async def test_objects_beneath_are_used_and_others_refused(cloud: SmallCloud) -> None:
    tree = await plant(cloud)
    sams, olgas = await machine(cloud, tree.sam), await machine(cloud, tree.olga)
    job = await cloud.job("startVirtualMachine", tree.dora, id=sams.uuid)
    assert job.result["virtualmachine"]["state"] == "Running"
    disk = present(cloud.database.run_now(volumes.root_of, olgas.id))
    template, _ = cloud.add_template(owner=tree.olga)
    refused: list[tuple[str, dict[str, Any]]] = [
        ("startVirtualMachine", {"id": olgas.uuid}),
        ("destroyVirtualMachine", {"id": olgas.uuid}),
        ("resizeVolume", {"id": disk.uuid, "size": 9}),
        ("createSnapshot", {"volumeid": disk.uuid}),
        ("updateTemplate", {"id": template.uuid, "name": "mine"}),
        ("deployVirtualMachine", await deployment_parameters(cloud, template=template)),
        ("createVolume", {"size": 1, "account": "olga", "domainid": tree.other}),
        ("createVolume", {"size": 1, "account": "admin", "domainid": cloud.admin.domain.uuid}),
    ]
    for command, parameters in refused:
        error = await error_of(cloud.call(command, tree.dora, **parameters))
        assert error.code is ErrorCode.UNAUTHORIZED, command
    made = await cloud.job("createVolume", tree.dora, size=1, account="sam", domainid=tree.north)
    assert made.result["volume"]["account"] == "sam"


@pytest_twisted.ensureDeferred
async def test_consoles_beneath_can_be_opened(cloud: SmallCloud) -> None:
    tree = await plant(cloud)
    command = cloud.table.find("createConsoleEndpoint")
    for owner, is_open in ((tree.sam, True), (tree.dora, True), (tree.olga, False), (cloud.admin, False)):
        vm = await machine(cloud, owner)
        arguments = read_arguments(command.all_parameters, {"virtualmachineid": vm.uuid}, command.name)
        call = ApiCall(tree.dora, arguments, "192.0.2.1", "request-1")
        assert user_of(call).can_open(vm) is is_open, owner.user.username
    assert not user_of(call).can_open(cloud.ssvm)


@pytest_twisted.ensureDeferred
async def test_accounts_and_users_beneath_are_changed_and_others_refused(cloud: SmallCloud) -> None:
    tree = await plant(cloud)
    made = await cloud.call("createAccount", tree.dora, username="sue", **PERSON)
    assert made["account"]["domainid"] == tree.sales  # the own domain by default
    dora = again(cloud, tree.dora)
    await cloud.call("createUser", dora, username="sid", account="sue", **PERSON)
    await cloud.call("updateUser", dora, id=tree.sam.user.uuid, username="samuel", password="another one")
    await cloud.call("registerUserKeys", dora, id=tree.sam.user.uuid)
    key = (await cloud.call("getUserKeys", dora, id=tree.sam.user.uuid))["userkeys"]["apikey"]
    assert (await cloud.call("getUser", dora, userapikey=key))["user"]["username"] == "samuel"
    await cloud.call("updateAccount", dora, account="sam", domainid=tree.north, newname="sam2")
    await cloud.job("disableAccount", dora, id=tree.sam.account.uuid, lock="true")
    await cloud.job("deleteAccount", dora, id=made["account"]["id"])
    olgas = (await cloud.call("registerUserKeys", id=tree.olga.user.uuid))["userkeys"]["apikey"]
    refused: list[tuple[str, dict[str, Any]]] = [
        ("createAccount", {"username": "x", "domainid": tree.other} | PERSON),
        ("createAccount", {"username": "x", "accounttype": 1} | PERSON),
        ("createUser", {"username": "x", "account": "olga", "domainid": tree.other} | PERSON),
        ("getUser", {"userapikey": olgas}),
        ("updateAccount", {"id": cloud.admin.account.uuid, "newname": "x"}),
        ("disableAccount", {"id": tree.olga.account.uuid, "lock": "true"}),
        ("deleteAccount", {"id": cloud.user.account.uuid}),
    ]
    for command in (
        "updateUser",
        "enableUser",
        "disableUser",
        "lockUser",
        "deleteUser",
        "getUserKeys",
        "registerUserKeys",
    ):
        refused += [(command, {"id": each.user.uuid}) for each in (tree.olga, cloud.admin)]
    for command, parameters in refused:
        error = await error_of(cloud.call(command, dora, **parameters))
        assert error.code is ErrorCode.UNAUTHORIZED, (command, parameters)


@pytest_twisted.ensureDeferred
async def test_domains_beneath_are_changed_and_the_own_one_is_not(cloud: SmallCloud) -> None:
    tree = await plant(cloud)
    south = (await cloud.call("createDomain", tree.dora, name="south"))["domain"]
    assert south["path"] == "ROOT/sales/south"
    await cloud.call("updateDomain", tree.dora, id=south["id"], name="deep south")
    for command, which in (
        ("createDomain", {"name": "x", "parentdomainid": tree.other}),
        ("updateDomain", {"id": tree.sales, "name": "x"}),
        ("deleteDomain", {"id": tree.sales, "cleanup": "true"}),
        ("deleteDomain", {"id": tree.other}),
    ):
        error = await error_of(cloud.call(command, tree.dora, **which))
        assert error.code is ErrorCode.UNAUTHORIZED, command
    job = await cloud.job("deleteDomain", tree.dora, id=tree.north, cleanup="true")
    assert job.result == {"success": True}


@pytest_twisted.ensureDeferred
async def test_limits_beneath_are_changed_and_own_ones_are_not(cloud: SmallCloud) -> None:
    tree = await plant(cloud)
    sams = {"account": "sam", "domainid": tree.north}
    answer = await cloud.call("updateResourceLimit", tree.dora, resourcetype=0, max=3, **sams)
    assert answer["resourcelimit"]["max"] == 3
    await cloud.call("updateResourceLimit", tree.dora, resourcetype=0, max=3, domainid=tree.north)
    for which in (
        {"account": "dora", "domainid": tree.sales},
        {"domainid": tree.sales},
        {"domainid": tree.other},
        {"account": "olga", "domainid": tree.other},
    ):
        error = await error_of(cloud.call("updateResourceLimit", tree.dora, resourcetype=0, **which))
        assert error.code is ErrorCode.UNAUTHORIZED, which
    error = await error_of(cloud.call("updateResourceCount", tree.dora, domainid=tree.other))
    assert error.code is ErrorCode.UNAUTHORIZED


@pytest_twisted.ensureDeferred
async def test_what_is_for_root_administrators_is_not_available(cloud: SmallCloud) -> None:
    tree = await plant(cloud)
    listed = {row["name"] for row in (await cloud.call("listApis", tree.dora))["api"]}
    for command in cloud.table:
        if command.roles == ADMIN_ONLY:
            assert command.name not in listed
            error = await error_of(cloud.call(command.name, tree.dora))
            assert error.code is ErrorCode.UNSUPPORTED, command.name
    assert {"createAccount", "createDomain", "updateResourceLimit"} <= listed


@pytest_twisted.ensureDeferred
async def test_root_administrators_are_beyond_reach(cloud: SmallCloud) -> None:
    tree = await plant(cloud)
    error = await error_of(
        cloud.call("createAccount", username="x", accounttype=1, domainid=tree.north, **PERSON)
    )
    assert "root administrators are in domain ROOT" in error.message
    run, north = cloud.database.run_now, cloud.database.run_now(accounts.domain_by_uuid, tree.north)
    older = run(accounts.create_account, "older", AccountType.ADMIN, north.id)  # by an earlier release
    dora = again(cloud, tree.dora)
    assert not dora.may_use(older.id)
    error = await error_of(cloud.call("deleteDomain", dora, id=tree.north, cleanup="true"))
    assert error.code is ErrorCode.UNAUTHORIZED
    of_root = await new_account(cloud, "rita", accounttype=2)
    assert of_root.may_use(cloud.user.account.id)
    assert not of_root.may_use(cloud.admin.account.id)
    assert not of_root.may_use(accounts.SYSTEM_ACCOUNT_ID)


@pytest_twisted.ensureDeferred
async def test_domains_beneath_one_are_listed_for_its_administrator(cloud: SmallCloud) -> None:
    tree = await plant(cloud)

    async def names(as_user: Principal | None = None, **which: Any) -> list[str]:
        answer = await cloud.call("listDomainChildren", as_user, **which)
        return [each["name"] for each in answer.get("domain", [])]

    assert await names() == ["sales", "other"]
    assert await names(isrecursive="true") == ["sales", "north", "other"]
    assert await names(id=tree.sales) == ["north"]
    assert await names(id=tree.sales, isrecursive="true") == ["north"]
    assert await names(isrecursive="true", name="NORTH") == ["north"]
    assert await names(isrecursive="true", keyword="o") == ["north", "other"]
    assert await names(tree.dora, isrecursive="true") == ["north"]
    assert await names(tree.dora, id=tree.north) == []
    error = await error_of(cloud.call("listDomainChildren", tree.dora, id=tree.other))
    assert error.code is ErrorCode.UNAUTHORIZED
    error = await error_of(cloud.call("listDomainChildren", tree.sam))
    assert error.code is ErrorCode.UNSUPPORTED
