# SPDX-License-Identifier: Apache-2.0
"""What is true of isolated and of L2 guest networks: names, limits, and whose they are."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from account_networks import (
    SUBNETS,
    VLANS,
    change_label,
    create_network,
    set_vlans,
)
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.principal import Principal
from systemvm.management.api.zone_parts import guest_network_offering_of, isolated_offering_of, l2_offering_of
from systemvm.management.resource_limits.errors import ResourceLimitError
from systemvm.management.zone_model.refusals import ModelError
from user_accounts import new_account
from user_vms import deployment_parameters


@pytest.fixture
def cloud(cloud: SmallCloud) -> SmallCloud:
    change_label(cloud, **VLANS, **SUBNETS)
    set_vlans(cloud, "100-101")
    return cloud


@pytest.fixture(params=["Isolated", "L2"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def create(
    cloud: SmallCloud, kind: str, name: str, owner: Principal | None = None, **more: Any
) -> dict[str, Any]:
    offering = (l2_offering_of if kind == "L2" else isolated_offering_of)(cloud.zone)
    return await create_network(cloud, name, owner, networkofferingid=offering.id, **more)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"vlan": "100"}, "vlan: an? [A-Za-z0-9]+ network gets one by itself"),
        ({"name": "FIRST"}, "is the name of another one"),
        ({"networkdomain": "a b"}, "is not a domain"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_network_that_cannot_be_is_refused(
    cloud: SmallCloud, kind: str, given: dict[str, Any], why: str
) -> None:
    await create(cloud, kind, "first")
    with pytest.raises(ModelError, match=why):
        await create(cloud, kind, **{"name": "second"} | given)
    assert len((await cloud.call("listNetworks", cloud.user, type=kind))["network"]) == 1


@pytest_twisted.ensureDeferred
async def test_the_limit_of_networks_holds(cloud: SmallCloud, kind: str) -> None:
    await cloud.call(
        "updateResourceLimit", resourcetype="6", max="1", account="users", domainid=cloud.user.domain.uuid
    )
    await create(cloud, kind, "one")
    with pytest.raises(ResourceLimitError, match="Type = 'network'"):
        await create(cloud, kind, "two")


@pytest_twisted.ensureDeferred
async def test_other_accounts_neither_see_nor_use_nor_change_a_network(cloud: SmallCloud, kind: str) -> None:
    network = await create(cloud, kind, "one")
    eve = await new_account(cloud, "eve")
    own = await create(cloud, kind, "one", eve)  # the name is free for another account
    for command in ("updateNetwork", "deleteNetwork", "restartNetwork"):
        with pytest.raises(ApiError, match="must not change network") as refused:
            await cloud.call(command, eve, id=network["id"])
        assert refused.value.code is ErrorCode.UNAUTHORIZED
    for call in ({}, {"id": network["id"]}, {"listall": "true"}):
        ids = [each["id"] for each in (await cloud.call("listNetworks", eve, **call)).get("network", [])]
        assert network["id"] not in ids
    parameters = await deployment_parameters(
        cloud, cloud.add_template(public=True)[0], networkids=network["id"]
    )
    with pytest.raises(ApiError, match="Unable to find a network"):
        await cloud.call("deployVirtualMachine", eve, **parameters)
    # nor can an administrator's own VM be on it
    with pytest.raises(ApiError, match="Unable to find a network"):
        await cloud.call("deployVirtualMachine", **parameters)
    seen = (await cloud.call("listNetworks", listall="true", type=kind))["network"]
    assert {each["id"] for each in seen} == {network["id"], own["id"]}
    for user, each in ((cloud.admin, own), (cloud.user, network)):
        assert (await cloud.job("deleteNetwork", user, id=each["id"])).result_code == 0


@pytest_twisted.ensureDeferred
async def test_users_create_no_shared_network(cloud: SmallCloud) -> None:
    with pytest.raises(ApiError, match="only root administrators can create shared networks"):
        await create_network(cloud, "shared", networkofferingid=guest_network_offering_of(cloud.zone).id)
