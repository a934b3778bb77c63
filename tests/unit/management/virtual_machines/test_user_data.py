# SPDX-License-Identifier: Apache-2.0
"""User data of VMs: from the API to what the metadata service answers."""

from __future__ import annotations

import base64
from ipaddress import IPv4Address

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.host.guest_services import GuestData
from systemvm.management.api.errors import ApiError
from systemvm.management.network_helper import NetworkError
from systemvm.management.state import machine_data
from user_vms import add_addresses, deploy_by_api, deployment_parameters

ADDRESS = IPv4Address("10.13.0.50")
SCRIPT = b"#cloud-config\n\xff"
ENCODED = base64.b64encode(SCRIPT).decode()


@pytest_twisted.ensureDeferred
async def test_a_vm_has_its_data_before_it_runs(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    vm = await deploy_by_api(cloud, name="one", userdata=ENCODED[:5] + "\n" + ENCODED[5:])
    assert cloud.guest_services.data[ADDRESS] == GuestData(
        {
            "service-offering": "small",
            "availability-zone": "zone1",
            "local-ipv4": "10.13.0.50",
            "local-hostname": "one",
            "public-ipv4": "10.13.0.50",
            "public-hostname": "one.cloud.internal",
            "instance-id": vm.uuid,
            "vm-id": vm.uuid,
        },
        SCRIPT,
    )


@pytest_twisted.ensureDeferred
async def test_user_data_of_a_running_vm_is_changed(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    vm = await deploy_by_api(cloud, cloud.add_template()[0], name="one")
    assert cloud.guest_services.data[ADDRESS].user_data is None
    answer = await cloud.call("updateVirtualMachine", id=vm.uuid, userdata=ENCODED, displayname="First")
    assert answer["virtualmachine"]["displayname"] == "First"
    assert cloud.guest_services.data[ADDRESS].user_data == SCRIPT


@pytest_twisted.ensureDeferred
async def test_user_data_is_kept_while_the_service_does_not_answer(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    vm = await deploy_by_api(cloud, name="one")
    cloud.guest_services.error = NetworkError("no answer", "")
    await cloud.call("updateVirtualMachine", id=vm.uuid, userdata=ENCODED)
    cloud.guest_services.error = None
    await cloud.machines.reboot(vm.id, forced=True)
    assert cloud.guest_services.data[ADDRESS].user_data == SCRIPT


@pytest.mark.parametrize(
    ("text", "why"), [("a", "$"), ("?" * 8, "$"), ("A" * 32_772, " of at most 32768 characters")]
)
@pytest_twisted.ensureDeferred
async def test_user_data_of_another_form_is_refused(cloud: SmallCloud, text: str, why: str) -> None:
    with pytest.raises(ApiError, match=f"parameter userdata: it must be base64{why}"):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud, userdata=text))
    assert await cloud.call("listVirtualMachines") == {}


@pytest_twisted.ensureDeferred
async def test_user_data_of_an_expunged_vm_is_deleted(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud, name="one", userdata=ENCODED)
    await cloud.job("destroyVirtualMachine", id=vm.uuid)
    assert cloud.database.run_now(machine_data.user_data_of, vm.id) == SCRIPT  # it can be recovered
    await cloud.job("expungeVirtualMachine", id=vm.uuid)
    assert cloud.database.run_now(machine_data.user_data_of, vm.id) is None


@pytest_twisted.ensureDeferred
async def test_no_data_is_served_before_the_port_filter_is_set(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    cloud.guest_services.filter_error = NetworkError("nft fails", "")
    await deploy_by_api(cloud, name="one", userdata=ENCODED)
    assert (cloud.guest_services.served, cloud.guest_services.data) == ([], {})
    cloud.guest_services.filter_error = None
    await cloud.guest_networks.update()
    assert cloud.guest_services.data[ADDRESS].user_data == SCRIPT


@pytest_twisted.ensureDeferred
async def test_another_accounts_vm_is_not_changed(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud, name="one")
    with pytest.raises(ApiError, match="must not operate"):
        await cloud.call("updateVirtualMachine", cloud.user, id=vm.uuid, userdata=ENCODED)
    with pytest.raises(ApiError, match="must not operate"):
        await cloud.call("getVirtualMachineUserData", cloud.user, virtualmachineid=vm.uuid)


@pytest_twisted.ensureDeferred
async def test_user_data_is_read(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud, name="one", startvm="false")
    for shown in ("", ENCODED):
        if shown:
            await cloud.call("updateVirtualMachine", id=vm.uuid, userdata=shown)
        answer = await cloud.call("getVirtualMachineUserData", virtualmachineid=vm.uuid)
        assert answer["virtualmachineuserdata"] == {"virtualmachineid": vm.uuid, "userdata": shown}
