# SPDX-License-Identifier: Apache-2.0
"""Tags of guest networks: of those that accounts own, and of no other."""

from __future__ import annotations

import pytest
import pytest_twisted

from account_networks import SUBNETS, VLANS, change_label, create_network
from api_requests import refusal
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from user_accounts import new_account

ENV = {"tags[0].key": "env", "tags[0].value": "test"}


@pytest.fixture
def cloud(cloud: SmallCloud) -> SmallCloud:
    change_label(cloud, **VLANS, **SUBNETS)
    return cloud


@pytest_twisted.ensureDeferred
async def test_networks_of_accounts_have_tags_and_are_found_by_them(cloud: SmallCloud) -> None:
    network, _ = await create_network(cloud, "one"), await create_network(cloud, "two")
    about = {"resourceids": network["id"], "resourcetype": "Network"}
    error = await refusal(cloud, "createTags", await new_account(cloud, "other"), **about, **ENV)
    assert error.code is ErrorCode.UNAUTHORIZED
    await cloud.job("createTags", cloud.user, **about, **ENV)
    [found] = (await cloud.call("listNetworks", cloud.user, **ENV))["network"]
    assert (found["name"], found["tags"][0]["key"], found["tags"][0]["value"]) == ("one", "env", "test")
    [listed] = (await cloud.call("listTags", cloud.user, resourcetype="Network"))["tag"]
    assert (listed["resourceid"], listed["account"]) == (network["id"], network["account"])
    await cloud.job("deleteNetwork", cloud.user, id=network["id"])
    assert await cloud.call("listTags", cloud.user) == {}


@pytest_twisted.ensureDeferred
async def test_shared_networks_have_no_tags(cloud: SmallCloud) -> None:
    subnet = {"gateway": "10.20.0.1", "netmask": "255.255.255.0", "startip": "10.20.0.10"}
    network = await create_network(cloud, "shared", cloud.admin, vlan="200", **subnet)
    assert network["tags"] == []
    error = await refusal(cloud, "createTags", resourceids=network["id"], resourcetype="Network", **ENV)
    assert error.code is ErrorCode.PARAMETER
