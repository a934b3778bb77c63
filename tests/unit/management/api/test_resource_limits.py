# SPDX-License-Identifier: Apache-2.0
"""updateResourceLimit and listResourceLimits: above all the secondary storage of each account."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.state import accounts, templates
from systemvm.management.templates.uploads import UploadLimitError
from systemvm.wire import storage
from template_downloads import WAITING
from template_uploads import receive_uploads
from user_vms import deploy_stopped

GIB = 1 << 30


def limit_zone(cloud: SmallCloud, gib: int | None) -> None:
    cloud.settings.storage = SecondaryStorageConfig(max_account_secondary_storage_gib=gib)


async def limit(cloud: SmallCloud, **parameters: Any) -> dict[str, Any]:
    which = {"resourcetype": 11, "account": cloud.user.account.name, "domainid": cloud.user.domain.uuid}
    values = {name: value for name, value in (which | parameters).items() if value is not None}
    answer = await cloud.call("updateResourceLimit", **values)
    return dict(answer["resourcelimit"])


async def listed(cloud: SmallCloud, as_user: Any = None, **parameters: Any) -> list[dict[str, Any]]:
    answer = await cloud.call("listResourceLimits", as_user, **parameters)
    return list(answer.get("resourcelimit", []))


async def quota_of_a_download(cloud: SmallCloud) -> int | None:
    cloud.add_template(state=WAITING, owner=cloud.user)
    await cloud.dispatch.reconcile()
    quota: int | None = cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)[-1].quota_bytes
    return quota


@pytest_twisted.ensureDeferred
async def test_an_accounts_own_limit_comes_before_the_zones(cloud: SmallCloud) -> None:
    limit_zone(cloud, 4)
    answer = await limit(cloud, max=7)
    assert answer == {
        "account": "users", "domainid": cloud.user.domain.uuid, "domain": "ROOT", "domainpath": "ROOT",
        "resourcetype": "11", "resourcetypename": "secondary_storage", "max": 7, "isdefault": False,
    }  # fmt: skip
    assert await quota_of_a_download(cloud) == 7 * GIB
    assert (await limit(cloud, max=-1))["max"] == -1
    assert await quota_of_a_download(cloud) is None
    assert (await limit(cloud, max=0))["max"] == 0
    assert await quota_of_a_download(cloud) == 0
    answer = await limit(cloud, usedefault="true")
    assert (answer["max"], answer["isdefault"]) == (4, True)
    assert await quota_of_a_download(cloud) == 4 * GIB


@pytest_twisted.ensureDeferred
async def test_without_max_there_is_no_limit_as_in_cloudstack(cloud: SmallCloud) -> None:
    limit_zone(cloud, 4)
    assert (await limit(cloud))["max"] == -1


@pytest_twisted.ensureDeferred
async def test_a_limit_holds_in_a_zone_without_one(cloud: SmallCloud) -> None:
    await limit(cloud, max=3)
    assert await quota_of_a_download(cloud) == 3 * GIB


@pytest_twisted.ensureDeferred
async def test_an_upload_beyond_the_limit_is_refused_with_it(cloud: SmallCloud) -> None:
    receive_uploads(cloud)
    await limit(cloud, max=1)
    template, ref = cloud.add_template(owner=cloud.user)
    cloud.database.run_now(templates.update_store_ref, ref.id, physical_size_bytes=GIB)
    parameters = {"name": "x", "displaytext": "x", "format": "RAW", "hypervisor": "KVM"}
    with pytest.raises(UploadLimitError, match="its limit is 1 GiB"):
        await cloud.call("getUploadParamsForTemplate", cloud.user, zoneid=cloud.zone.uuid, **parameters)
    assert template.account_id == cloud.user.account.id


@pytest_twisted.ensureDeferred
async def test_users_see_their_own_limit_and_administrators_all(cloud: SmallCloud) -> None:
    await limit(cloud, max=7)
    [own] = await listed(cloud, cloud.user, resourcetype=11)
    assert (own["account"], own["max"]) == ("users", 7)
    every = await listed(cloud, listall="true", resourcetype=11)
    assert {each["account"]: each["max"] for each in every} == {"admin": -1, "users": 7}
    named = await listed(cloud, account="users", domainid=cloud.user.domain.uuid)
    assert {each["account"] for each in named} == {"users"}
    kinds = ["user_vm", "volume", "snapshot", "template", "network", "cpu", "memory", "primary_storage"]
    assert [each["resourcetypename"] for each in named] == [*kinds, "secondary_storage"]
    assert await listed(cloud, cloud.user, resourcetype=11, resourcetypename="secondary_storage") == [own]
    assert await listed(cloud, cloud.user, resourcetype=1) == []
    assert await listed(cloud, cloud.user, resourcetypename="public_ip") == []
    with pytest.raises(ApiError, match="must not"):
        await listed(cloud, cloud.user, account="admin", domainid=cloud.user.domain.uuid)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"resourcetype": 1, "max": 5}, "resourcetype=1 is not limited"),
        ({"account": None, "max": 5}, "domain ROOT has no limit"),
        ({"max": -2}, "Please specify either '-1' for an infinite limit"),
        ({"max": 1 << 40}, "Please specify either '-1'"),
        ({"max": "many"}, "must be a whole number"),
        ({"max": 5, "usedefault": "true"}, "exclude each other"),
        ({"account": "nobody", "max": 5}, "Unable to find account nobody"),
        ({"account": "admin", "max": 5}, "is an administrator's"),
    ],
)
async def test_what_cannot_be_limited_is_refused(
    cloud: SmallCloud, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        await limit(cloud, **parameters)
    assert refused.value.code is ErrorCode.PARAMETER
    row = cloud.database.run_now(accounts.account_by_id, cloud.user.account.id)
    assert row.max_secondary_storage_gib is None


@pytest_twisted.ensureDeferred
async def test_an_account_without_its_domain_is_refused(cloud: SmallCloud) -> None:
    with pytest.raises(ApiError, match="must be specified together"):
        await cloud.call("updateResourceLimit", resourcetype=11, account="users", max=5)
    with pytest.raises(ApiError, match="account and domainid are missing"):
        await cloud.call("updateResourceLimit", resourcetype=11, max=5)


@pytest_twisted.ensureDeferred
async def test_users_cannot_change_a_limit(cloud: SmallCloud) -> None:
    with pytest.raises(ApiError, match="is not available"):
        await cloud.call("updateResourceLimit", cloud.user, resourcetype=11, account="users", max=5)


@pytest_twisted.ensureDeferred
async def test_a_list_of_one_account_or_domain_has_what_is_used(cloud: SmallCloud) -> None:
    await deploy_stopped(cloud, cloud.user)
    of_account = {"account": cloud.user.account.name, "domainid": cloud.user.domain.uuid}
    for parameters in (of_account, {"domainid": cloud.user.domain.uuid}):
        limits = await listed(cloud, **parameters)
        counted = await cloud.call("updateResourceCount", **parameters)
        counts = {count["resourcetype"]: count["resourcecount"] for count in counted["resourcecount"]}
        assert {each["resourcetype"]: each["used"] for each in limits}.items() <= counts.items()
        assert next(each["used"] for each in limits if each["resourcetypename"] == "user_vm") == 1
    assert [each["used"] for each in await listed(cloud, cloud.user, resourcetype=0)] == [1], "users see it"
    assert not any("used" in each for each in await listed(cloud, listall="true"))
