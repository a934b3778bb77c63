# SPDX-License-Identifier: Apache-2.0
"""The table of hypervisors: what listHypervisorCapabilities shows is what is enforced."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from foreign_host_peers import XapiPeer
from small_cloud import SmallCloud
from systemvm.management.api.commands import hosts
from systemvm.management.api.errors import ApiError
from systemvm.management.foreign_hosts.hypervisors import ForeignHypervisor
from systemvm.management.state import pods, zones
from systemvm.management.state.instances import DRIVEN
from systemvm.management.state.storage_pools import FILESYSTEM, NFS_POOL, SHARED_MOUNT_POINT
from systemvm.management.zone_model.hypervisor_profiles import PROFILES, profile_of


@pytest_twisted.ensureDeferred
async def test_every_hypervisor_is_shown_with_what_it_can_do(cloud: SmallCloud) -> None:
    answer = await cloud.call("listHypervisorCapabilities")
    rows = {row["hypervisor"]: row for row in answer["hypervisorCapabilities"]}
    assert list(rows) == ["KVM", "XenServer", "VMware"]
    assert (rows["XenServer"]["maxhostspercluster"], "maxhostspercluster" in rows["KVM"]) == (64, False)
    [one] = (await cloud.call("listHypervisorCapabilities", id=rows["VMware"]["id"]))[
        "hypervisorCapabilities"
    ]
    assert one["verifiedby"] == ["cacertificate"]
    [kvm] = (await cloud.call("listHypervisorCapabilities", hypervisor="kvm"))["hypervisorCapabilities"]
    assert kvm["runsmachines"]


def test_the_table_agrees_with_what_is_driven_and_registered() -> None:
    assert [each.name for each in PROFILES if each.is_driven] == [DRIVEN]
    assert {each.name for each in PROFILES if not each.is_driven} == {
        each.value for each in ForeignHypervisor
    }
    assert set(profile_of(DRIVEN).storage) == {FILESYSTEM, NFS_POOL, SHARED_MOUNT_POINT}
    with pytest.raises(LookupError):
        profile_of("Hyper-V")


@pytest_twisted.ensureDeferred
async def test_a_full_cluster_takes_no_host(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    [pod] = cloud.database.run_now(pods.list_pods)
    cluster = cloud.database.run_now(
        pods.cluster_rows.insert, zone_id=cloud.zone.id, pod_id=pod.id, name="xen", hypervisor="XenServer"
    )
    monkeypatch.setattr(hosts, "profile_of", lambda name: evolve(profile_of(name), max_hosts=1))
    await cloud.call("addHost", clusterid=cluster.uuid, **definition)
    assert cloud.database.run_now(zones.count_hosts, cluster.id) == 1
    with pytest.raises(ApiError, match="maximum"):
        await cloud.call("addHost", clusterid=cluster.uuid, **(definition | {"name": "second"}))
