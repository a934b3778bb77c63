# SPDX-License-Identifier: Apache-2.0
"""Domains are created, renamed and deleted as a tree."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.accounts import domains as changes
from systemvm.management.accounts.errors import AccountError
from systemvm.management.api.principal import Principal
from systemvm.management.state import accounts, domains
from systemvm.management.state.rows import NotFoundError
from systemvm.service.errors import SystemVmError
from user_accounts import PASSWORD, PERSON, log_in, new_account
from user_vms import deploy_stopped


async def new_domain(cloud: SmallCloud, name: str, **more: Any) -> dict[str, Any]:
    return dict((await cloud.call("createDomain", name=name, **more))["domain"])


@pytest_twisted.ensureDeferred
async def test_a_domain_has_users_of_its_own(cloud: SmallCloud) -> None:
    sales = await new_domain(cloud, "sales")
    assert (sales["path"], sales["level"], sales["haschild"]) == ("ROOT/sales", 1, False)
    north = await new_domain(cloud, "north", parentdomainid=sales["id"])
    assert (north["path"], north["parentdomainname"]) == ("ROOT/sales/north", "sales")
    sam = await new_account(cloud, "admin", domainid=north["id"])  # the name exists in another domain
    assert (sam.domain.path, sam.is_admin) == ("/sales/north", False)
    assert await log_in(cloud, "admin", PASSWORD) is None
    assert await log_in(cloud, "admin", PASSWORD, "ROOT/sales/north") == sam
    [own] = (await cloud.call("listDomains", sam))["domain"]
    assert own["id"] == north["id"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("sales", "already exists for the parent"),
        ("SALES", "Domain with name sales already exists for the parent"),
        (" ", "must have 1 to 255"),
        ("a/b", "no slash"),
        ("root", "must not be ROOT"),
        ("x" * 255, "path is too long"),
    ],
)
async def test_a_name_that_cannot_be_is_refused(cloud: SmallCloud, name: str, why: str) -> None:
    await new_domain(cloud, "sales")
    other = await new_domain(cloud, "other")
    with pytest.raises(SystemVmError, match=why):
        await new_domain(cloud, name)
    with pytest.raises(SystemVmError, match=why):
        await cloud.call("updateDomain", id=other["id"], name=name)


@pytest_twisted.ensureDeferred
async def test_a_new_name_changes_the_paths_beneath(cloud: SmallCloud) -> None:
    sales = await new_domain(cloud, "sales")
    north = await new_domain(cloud, "north", parentdomainid=sales["id"])
    await new_domain(cloud, "sales_2")  # not beneath it
    await new_account(cloud, "sam", domainid=north["id"])
    renamed = (await cloud.call("updateDomain", id=sales["id"], name="trade"))["domain"]
    assert renamed["path"] == "ROOT/trade"
    paths = {row["path"] for row in (await cloud.call("listDomains"))["domain"]}
    assert paths == {"ROOT", "ROOT/trade", "ROOT/trade/north", "ROOT/sales_2"}
    assert await log_in(cloud, "sam", PASSWORD, "trade/north") is not None
    same = (await cloud.call("updateDomain", id=sales["id"], name="trade"))["domain"]
    assert same == renamed
    with pytest.raises(AccountError, match="path is too long"):  # of the one beneath
        await cloud.call("updateDomain", id=sales["id"], name="x" * 252)


@pytest_twisted.ensureDeferred
async def test_a_domain_can_change_its_own_capitals(cloud: SmallCloud) -> None:
    sales = await new_domain(cloud, "sales")
    renamed = (await cloud.call("updateDomain", id=sales["id"], name="Sales"))["domain"]
    assert renamed["path"] == "ROOT/Sales"


@pytest_twisted.ensureDeferred
async def test_domains_that_differ_in_capitals_are_two(cloud: SmallCloud) -> None:
    """An earlier release permitted both of them."""
    run = cloud.database.run_now
    sales = await new_domain(cloud, "sales")
    large = run(accounts.create_domain, "Sales", "/Sales", accounts.ROOT_DOMAIN_ID)
    team = run(changes.create, "team", large.id, None)
    dora = await new_account(cloud, "dora", domainid=sales["id"], accounttype=2)
    tim = await new_account(cloud, "tim", domainid=team.uuid)
    assert tim.account.id not in run(domains.reach_of, dora.account, dora.domain)
    assert run(domains.beneath, dora.domain) == []
    assert await cloud.call("listDomainChildren", dora, isrecursive="true") == {}
    await cloud.job("deleteDomain", id=sales["id"], cleanup="true")
    assert run(accounts.account_by_id, tim.account.id).removed is None
    assert run(domains.is_present, team.id)


@pytest_twisted.ensureDeferred
async def test_a_domain_in_use_is_not_deleted(cloud: SmallCloud) -> None:
    sales = await new_domain(cloud, "sales")
    north = await new_domain(cloud, "north", parentdomainid=sales["id"])
    with pytest.raises(AccountError, match="it has 1 domains beneath it"):
        await cloud.call("deleteDomain", id=sales["id"])
    await new_account(cloud, "sam", domainid=north["id"])
    for domain in (sales, north):
        with pytest.raises(AccountError, match="it has 1 accounts that need a cleanup"):
            await cloud.call("deleteDomain", id=domain["id"])
    with pytest.raises(AccountError, match="ROOT can be neither"):
        await cloud.call("deleteDomain", id=cloud.admin.domain.uuid)


@pytest_twisted.ensureDeferred
async def test_cleanup_deletes_what_is_beneath_and_frees_the_name(cloud: SmallCloud) -> None:
    sales = await new_domain(cloud, "sales")
    north = await new_domain(cloud, "north", parentdomainid=sales["id"])
    sam = await new_account(cloud, "sam", domainid=north["id"])
    template, _ = cloud.add_template(owner=sam)
    await deploy_stopped(cloud, sam, template)
    job = await cloud.job("deleteDomain", id=sales["id"], cleanup="true")
    assert job.result == {"success": True}
    assert [row["name"] for row in (await cloud.call("listDomains"))["domain"]] == ["ROOT"]
    assert await cloud.call("listVirtualMachines", listall="true") == {}
    assert await log_in(cloud, "sam", PASSWORD, "sales/north") is None
    again = await new_domain(cloud, "sales")
    assert (again["path"], again["id"] == sales["id"]) == ("ROOT/sales", False)


@pytest_twisted.ensureDeferred
async def test_cleanup_spares_another_domain_that_gets_the_path_meanwhile(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    sales = await new_domain(cloud, "sales")
    old = [await new_account(cloud, name, domainid=sales["id"]) for name in ("sam", "sue")]
    delete = cloud.account_service.delete_account
    new: list[Principal] = []

    async def delete_slowly(account_id: int) -> None:
        if not new:
            await cloud.call("updateDomain", id=sales["id"], name="old sales")
            again = await new_domain(cloud, "sales")
            new.append(await new_account(cloud, "nina", domainid=again["id"]))
        await delete(account_id)

    monkeypatch.setattr(cloud.account_service, "delete_account", delete_slowly)
    job = await cloud.job("deleteDomain", id=sales["id"], cleanup="true")
    assert job.result == {"success": True}
    rows = [cloud.database.run_now(accounts.account_by_id, each.account.id) for each in (*old, *new)]
    assert [row.removed is None for row in rows] == [False, False, True]


@pytest_twisted.ensureDeferred
async def test_nothing_is_created_in_a_domain_that_was_deleted_meanwhile(cloud: SmallCloud) -> None:
    sales = await new_domain(cloud, "sales")
    run = cloud.database.run_now
    row = run(accounts.domain_by_uuid, sales["id"])
    run(changes.remove, row.id, None)
    run(changes.remove, row.id, None)  # a job that is repeated after a restart
    with pytest.raises(NotFoundError):
        await cloud.call("createAccount", username="sam", domainid=sales["id"], **PERSON)
    with pytest.raises(NotFoundError, match="was deleted"):
        run(changes.create, "north", row.id, None)
    assert not run(domains.is_present, row.id)


@pytest_twisted.ensureDeferred
async def test_what_domains_do_is_recorded(cloud: SmallCloud) -> None:
    sales = await new_domain(cloud, "sales")
    await cloud.call("updateDomain", id=sales["id"], name="trade")
    await cloud.job("deleteDomain", id=sales["id"])
    found = (await cloud.call("listEvents", resourcetype="Domain"))["event"]
    kinds = ["DOMAIN.CREATE", "DOMAIN.UPDATE", "DOMAIN.DELETE"]
    assert sorted(each["type"] for each in found) == sorted(kinds)
