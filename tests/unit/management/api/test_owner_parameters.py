# SPDX-License-Identifier: Apache-2.0
"""The parameters account and domainid: objects of another account, with permission."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from api_requests import NOWHERE, iso_registration, refusal, registration
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.state import accounts
from systemvm.management.state.accounts import Account, Domain
from systemvm.management.state.status import AccountType
from user_accounts import new_account
from user_vms import deploy_running, deployment_parameters


def other_account(cloud: SmallCloud) -> tuple[Domain, Account]:
    def make(connection: Any) -> tuple[Domain, Account]:
        domain = accounts.create_domain(connection, "sales", "/sales", cloud.admin.domain.id)
        return domain, accounts.create_account(connection, "sellers", AccountType.USER, domain.id)

    return cloud.database.run_now(make)


@pytest_twisted.ensureDeferred
async def test_administrator_creates_objects_for_another_account(cloud: SmallCloud) -> None:
    domain, account = other_account(cloud)
    owner = {"account": account.name, "domainid": domain.uuid}
    [row] = (await cloud.call("registerTemplate", **registration(cloud, **owner)))["template"]
    assert (row["account"], row["domain"]) == ("sellers", "sales")
    [row] = (await cloud.call("registerIso", **iso_registration(cloud, **owner)))["iso"]
    assert row["account"] == "sellers"
    job = await cloud.job("deployVirtualMachine", **(await deployment_parameters(cloud) | owner))
    assert job.result["virtualmachine"]["account"] == "sellers"
    assert await cloud.call("listVirtualMachines") == {}
    for scope in (owner, {"domainid": domain.uuid}, {"listall": "true"}):
        assert (await cloud.call("listVirtualMachines", **scope))["count"] == 1, scope
        assert (await cloud.call("listVolumes", **scope))["count"] == 1, scope
    assert (await cloud.call("listTemplates", templatefilter="self", **owner))["count"] == 1
    assert await cloud.call("listVirtualMachines", domainid=cloud.admin.domain.uuid) == {}
    root = {"domainid": cloud.admin.domain.uuid, "isrecursive": "true"}
    assert (await cloud.call("listVirtualMachines", **root))["count"] == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("owner", "code"),
    [
        ({"account": "users"}, 431),
        ({"account": "nobody", "domainid": None}, 431),
        ({"account": "users", "domainid": NOWHERE}, 431),
    ],
)
async def test_unknown_owner_is_rejected(cloud: SmallCloud, owner: dict[str, str | None], code: int) -> None:
    owner = {name: value or cloud.admin.domain.uuid for name, value in owner.items()}
    with pytest.raises((ApiError, LookupError)):
        await cloud.call("registerTemplate", **registration(cloud, **owner))
    assert await cloud.call("listTemplates", templatefilter="all") == {}


@pytest_twisted.ensureDeferred
async def test_user_has_access_to_the_own_account_only(cloud: SmallCloud) -> None:
    domain = cloud.user.domain.uuid
    own = registration(cloud, account="users", domainid=domain)
    assert (await cloud.call("registerTemplate", cloud.user, **own))["template"][0]["account"] == "users"
    admins = {"account": "admin", "domainid": domain}
    assert (await refusal(cloud, "registerTemplate", cloud.user, **registration(cloud, **admins))).code == 401
    for command in ("listVirtualMachines", "listVolumes", "listEvents", "listAsyncJobs", "listNetworks"):
        assert (await refusal(cloud, command, cloud.user, **admins)).code == 401, command
    await cloud.job("deployVirtualMachine", **await deployment_parameters(cloud))
    for scope in ({"listall": "true"}, {"domainid": domain}, {"domainid": domain, "isrecursive": "true"}):
        assert await cloud.call("listVirtualMachines", cloud.user, **scope) == {}
        assert await cloud.call("listAsyncJobs", cloud.user, **scope) == {}
        rows = (await cloud.call("listEvents", cloud.user, **scope))["event"]
        assert {row["account"] for row in rows} == {"users"}


@pytest_twisted.ensureDeferred
async def test_an_administrator_finds_by_its_id_what_is_anyones(cloud: SmallCloud) -> None:
    domain = (await cloud.call("createDomain", name="sales"))["domain"]["id"]
    owner = await new_account(cloud, "seller", domainid=domain)
    of_domain = await new_account(cloud, "chief", domainid=domain, accounttype="2")
    elsewhere = (await cloud.call("createDomain", name="other"))["domain"]["id"]
    of_other = await new_account(cloud, "other", domainid=elsewhere, accounttype="2")
    vm = await deploy_running(cloud, owner)
    [volume] = (await cloud.call("listVolumes", owner))["volume"]
    policy = (
        await cloud.call(
            "createSnapshotPolicy", owner, volumeid=volume["id"], intervaltype="hourly", schedule="5",
            timezone="UTC", maxsnaps="2",
        )
    )["snapshotpolicy"]  # fmt: skip
    for command, by in (
        ("listVirtualMachines", {"id": vm.uuid}),
        ("listVolumes", {"id": volume["id"]}),
        ("listSnapshotPolicies", {"id": policy["id"]}),
        ("listSnapshotPolicies", {"volumeid": volume["id"]}),
    ):
        for caller, count in ((cloud.admin, 1), (of_domain, 1), (owner, 1), (of_other, 0), (cloud.user, 0)):
            found = await cloud.call(command, caller, **by)
            assert found.get("count", 0) == count, (command, by, caller.account.name)
        named = {"account": "chief", "domainid": domain}
        assert await cloud.call(command, **by, **named) == {}
