# SPDX-License-Identifier: Apache-2.0
"""Config drives of VMs that cannot ask the metadata service: which have one, and what is on it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.logger import capturedLogs

from drive_reader import files_on
from present import present
from small_cloud import SmallCloud
from systemvm.management.hypervisors.base import DomainSpec
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.pki.seal import Seal
from systemvm.management.state import instances, machine_passwords
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.errors import MachineStateError
from user_vms import add_addresses, deploy_by_api, deployment_parameters

SCRIPT = b"#cloud-config\n\xff"
ENCODED = base64.b64encode(SCRIPT).decode()
PASSWORD_FILE, USER_DATA_FILE = "cloudstack/password/vm_password.txt", "openstack/latest/user_data"


def spec_of(cloud: SmallCloud, vm: Instance) -> DomainSpec:
    return cloud.hypervisor.specs[vm.instance_name]


def waiting_password(cloud: SmallCloud, vm: Instance) -> str | None:
    found = cloud.database.run_now(machine_passwords.of_vm, vm.id)
    return None if found is None or found.sealed is None else cloud.seal.open(found.sealed)


async def deploy_with_password(cloud: SmallCloud, **more: Any) -> Instance:
    template = cloud.add_template(password_enabled=True)[0]
    return await deploy_by_api(cloud, template, name="one", password="First-17", **more)


@pytest_twisted.ensureDeferred
async def test_a_vm_without_an_address_of_the_cloud_has_its_data_on_a_drive(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud, name="one", userdata=ENCODED)
    files = files_on(spec_of(cloud, vm))
    assert files[USER_DATA_FILE] == files["cloudstack/userdata/user_data.txt"] == SCRIPT
    read = {path: content.decode() for path, content in files.items() if path.startswith("cloudstack/meta")}
    assert read == {
        "cloudstack/metadata/service-offering.txt": "small",
        "cloudstack/metadata/availability-zone.txt": "zone1",
        "cloudstack/metadata/local-hostname.txt": "one",
        "cloudstack/metadata/public-hostname.txt": "one.cloud.internal",
        "cloudstack/metadata/instance-id.txt": vm.uuid,
        "cloudstack/metadata/vm-id.txt": vm.uuid,
    }
    assert PASSWORD_FILE not in files
    [nic] = cloud.database.run_now(instances.nics_of, vm.id)
    assert nic.mac.encode() in files["openstack/latest/network_data.json"]


@pytest_twisted.ensureDeferred
async def test_a_vm_that_can_ask_the_metadata_service_has_none(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    vm = await deploy_with_password(cloud, userdata=ENCODED)
    assert spec_of(cloud, vm).config_drive is None
    assert waiting_password(cloud, vm) == "First-17"  # until its guest has asked for it


@pytest_twisted.ensureDeferred
async def test_a_password_is_on_the_drive_of_one_start_only(cloud: SmallCloud) -> None:
    vm = await deploy_with_password(cloud)
    assert files_on(spec_of(cloud, vm))[PASSWORD_FILE] == b"First-17"
    assert waiting_password(cloud, vm) is None
    await cloud.machines.reboot(vm.id, forced=True)
    assert PASSWORD_FILE not in files_on(spec_of(cloud, vm))
    await cloud.machines.stop(vm.id, forced=True)
    job = await cloud.job("resetPasswordForVirtualMachine", id=vm.uuid, password="Second-18")
    assert job.result_code == 0, job.result
    assert waiting_password(cloud, vm) == "Second-18"
    await cloud.machines.start(vm.id)
    assert files_on(spec_of(cloud, vm))[PASSWORD_FILE] == b"Second-18"
    assert waiting_password(cloud, vm) is None


@pytest_twisted.ensureDeferred
async def test_a_password_waits_until_a_start_succeeds(cloud: SmallCloud) -> None:
    template = cloud.add_template(password_enabled=True)[0]
    cloud.hypervisor.fails_with = HypervisorError("no memory is left for its config drive", "free memory")
    parameters = await deployment_parameters(cloud, template, name="one", password="First-17")
    job = await cloud.job("deployVirtualMachine", **parameters)
    assert "no memory is left" in str(job.result)
    [vm] = cloud.database.run_now(instances.list_user)
    assert (vm.state, vm.reason) == (
        InstanceState.STOPPED,
        "It could not be started: no memory is left for its config drive",
    )
    assert waiting_password(cloud, vm) == "First-17"
    cloud.hypervisor.fails_with = None
    await cloud.machines.start(vm.id)
    assert files_on(spec_of(cloud, vm))[PASSWORD_FILE] == b"First-17"


@pytest_twisted.ensureDeferred
async def test_a_vm_starts_without_a_password_that_cannot_be_decrypted(cloud: SmallCloud) -> None:
    vm = await deploy_with_password(cloud, userdata=ENCODED)
    await cloud.machines.stop(vm.id, forced=True)
    cloud.database.run_now(machine_passwords.put, vm.id, Seal(bytes(32)).close("Second-18"))
    with capturedLogs() as events:
        await cloud.machines.start(vm.id)
    assert cloud.instance(vm.id).state is InstanceState.RUNNING
    files = files_on(spec_of(cloud, vm))
    assert (files[USER_DATA_FILE], PASSWORD_FILE in files) == (SCRIPT, False)
    [warning] = [event for event in events if "has no password" in (event.get("log_format") or "")]
    assert (warning["vm"], "seal.key is not the key" in warning["why"]) == (vm.id, True)


@pytest_twisted.ensureDeferred
async def test_a_password_is_not_given_again_when_the_daemon_was_killed_after_the_start(
    cloud: SmallCloud,
) -> None:
    vm = await deploy_with_password(cloud)
    status = present(cloud.hypervisor.status(vm.instance_name))
    # as a daemon leaves it that is killed before it notes what QEMU has said
    cloud.database.run_now(machine_passwords.put, vm.id, cloud.seal.close("First-17"))
    starting = cloud.update_instance(vm, state=InstanceState.STARTING)
    await cloud.machines.adopt({vm.instance_name: status})
    assert cloud.instance(starting.id).state is InstanceState.RUNNING
    assert waiting_password(cloud, vm) is None


@pytest_twisted.ensureDeferred
async def test_a_machine_of_an_earlier_release_runs_on_without_a_drive(cloud: SmallCloud) -> None:
    vm = await deploy_with_password(cloud)
    cloud.database.run_now(machine_passwords.put, vm.id, cloud.seal.close("Second-18"))
    before = present(cloud.hypervisor.status(vm.instance_name))
    await cloud.machines.adopt({vm.instance_name: evolve(before, has_config_drive=False)})
    assert cloud.instance(vm.id).state is InstanceState.RUNNING
    assert waiting_password(cloud, vm) == "Second-18"


@pytest_twisted.ensureDeferred
async def test_user_data_is_changed_while_the_vm_is_stopped(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud, name="one")
    with pytest.raises(
        MachineStateError, match="they are on the config drive of its next start, and it is Running"
    ):
        await cloud.call("updateVirtualMachine", id=vm.uuid, userdata=ENCODED)
    await cloud.call("updateVirtualMachine", id=vm.uuid, displayname="First")  # but for its data
    await cloud.machines.stop(vm.id, forced=True)
    await cloud.call("updateVirtualMachine", id=vm.uuid, userdata=ENCODED)
    await cloud.machines.start(vm.id)
    assert files_on(spec_of(cloud, vm))[USER_DATA_FILE] == SCRIPT
    # a machine of another hypervisor has no drive of this cloud
    cloud.update_instance(vm, hypervisor="VMware")
    await cloud.call("updateVirtualMachine", id=vm.uuid, userdata=ENCODED)


@pytest_twisted.ensureDeferred
async def test_no_description_of_a_machine_has_its_drive(cloud: SmallCloud) -> None:
    vm = await deploy_with_password(cloud)
    assert "First-17" not in repr(spec_of(cloud, vm))
