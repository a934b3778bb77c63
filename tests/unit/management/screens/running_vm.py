# SPDX-License-Identifier: Apache-2.0
"""A running VM of the user, with a picture on its screen."""

from __future__ import annotations

from small_cloud import SmallCloud
from systemvm.management.hypervisors.base import DomainState, DomainStatus
from systemvm.management.state import instances
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, InstanceType


def running_vm(cloud: SmallCloud, screen: bytes) -> Instance:
    """Return the VM; `screen` is a PPM file."""
    cloud.hypervisor.screen = screen
    vm = cloud.database.run_now(
        instances.create,
        InstanceType.USER,
        state=InstanceState.RUNNING,
        name="one",
        account_id=cloud.user.account.id,
        domain_id=cloud.user.domain.id,
        zone_id=cloud.zone.id,
    )
    name = vm.instance_name
    cloud.hypervisor.statuses[name] = DomainStatus(name, vm.uuid, DomainState.RUNNING)
    return vm
