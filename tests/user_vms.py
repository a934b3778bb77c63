# SPDX-License-Identifier: Apache-2.0
"""Users' VMs for tests: deployed by the service or by the API."""

from __future__ import annotations

from typing import Any

from present import present
from small_cloud import SmallCloud
from systemvm.management.api.principal import Principal
from systemvm.management.state import instances, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.templates import Template
from systemvm.management.state.volumes import Volume
from systemvm.management.virtual_machines.deployment import Deployment


async def add_addresses(cloud: SmallCloud) -> None:
    """Give the guest network of the zone ten addresses, the first of which is 10.13.0.50."""
    await cloud.call(
        "createVlanIpRange", zoneid=cloud.zone.uuid, forvirtualnetwork="false", gateway="10.13.0.1",
        netmask="255.255.255.0", startip="10.13.0.50", endip="10.13.0.59",
    )  # fmt: skip


async def deploy_stopped(
    cloud: SmallCloud, owner: Principal | None = None, template: Template | None = None
) -> Instance:
    """Deploy a VM of `owner`, by default the administrator, without starting it."""
    owner = owner or cloud.admin
    return await cloud.machines.deploy(
        Deployment(
            template_id=(template or cloud.add_template()[0]).id,
            zone_id=cloud.zone.id,
            host_id=cloud.host.id,
            account_id=owner.account.id,
            domain_id=owner.domain.id,
            user_id=owner.user.id,
            vcpus=1,
            memory_mib=64,
            bridge="cloudbr3",
        )
    )


async def deploy_running(
    cloud: SmallCloud, owner: Principal | None = None, template: Template | None = None
) -> Instance:
    vm = await deploy_stopped(cloud, owner, template)
    return await cloud.machines.start(vm.id)


async def deployment_parameters(
    cloud: SmallCloud, template: Template | None = None, **more: Any
) -> dict[str, Any]:
    """Return parameters of deployVirtualMachine."""
    template = template or cloud.add_template()[0]
    offerings = await cloud.call("listServiceOfferings", name="small")
    return {
        "zoneid": cloud.zone.uuid,
        "templateid": template.uuid,
        "serviceofferingid": offerings["serviceoffering"][0]["id"],
    } | more


async def deploy_by_api(cloud: SmallCloud, template: Template | None = None, **more: Any) -> Instance:
    job = await cloud.job("deployVirtualMachine", **await deployment_parameters(cloud, template, **more))
    assert job.result_code == 0, job.result
    return cloud.database.run_now(instances.by_uuid, present(job.instance_uuid))


def root_of(cloud: SmallCloud, vm: Instance) -> Volume:
    return present(cloud.database.run_now(volumes.root_of, vm.id))
