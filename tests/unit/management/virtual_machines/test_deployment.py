# SPDX-License-Identifier: Apache-2.0
"""Users' VMs are deploy_by_api from templates and ISOs; failures have reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.vnc_password import VNC_PASSWORD_LENGTH, new_vnc_password
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import templates, volumes, zones
from systemvm.management.state.status import InstanceState, SpoolState, VolumeState
from systemvm.management.virtual_machines.errors import NotDeployableError
from systemvm.wire.storage import DownloadState, ImageFormat
from user_vms import deploy_by_api, deployment_parameters

GIB = 1024**3


@pytest_twisted.ensureDeferred
async def test_display_name_is_shown(cloud: SmallCloud) -> None:
    await deploy_by_api(cloud, name="one", displayname="Ulla's first machine")
    await deploy_by_api(cloud, name="two")
    listed = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert [(vm["name"], vm["displayname"]) for vm in listed] == [
        ("one", "Ulla's first machine"),
        ("two", "two"),
    ]
    with pytest.raises(ApiError, match="displayname: it has 256 characters, the maximum is 255"):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud, displayname="x" * 256))


@pytest_twisted.ensureDeferred
async def test_a_vm_is_a_linked_clone_of_its_template(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    answer = await cloud.call(
        "deployVirtualMachine", **await deployment_parameters(cloud, template=template, name="one")
    )
    job = await cloud.jobs.wait(answer["jobid"])
    vm = present(job.result)["virtualmachine"]
    assert vm["id"] == answer["id"]
    assert (vm["name"], vm["state"], vm["templatename"], vm["memory"]) == ("one", "Running", "tiny", 512)
    assert vm["instancename"] == f"i-{cloud.admin.account.id}-3-VM"
    spec = cloud.hypervisor.specs[vm["instancename"]]
    volume = present(cloud.database.run_now(volumes.root_of, 3))
    backing, backing_format, size = cloud.primary.clones[volume.uuid]
    assert cloud.primary.copied == [Path(present(cloud.store.host_path)) / present(ref.install_path)]
    assert (backing.name, backing_format, size) == (f"{template.uuid}.qcow2", "qcow2", None)
    assert present(spec.disk).path == cloud.primary.volume_path(volume.uuid)
    assert (spec.cdrom, spec.kernel) == (None, None)
    assert volume.state is VolumeState.READY
    [nic] = spec.nics
    assert (nic.traffic_type, nic.bridge, nic.mac[:3]) == ("guest", "cloudbr3", "02:")
    spool = cloud.database.run_now(templates.spool_ref, template.id, cloud.host.id)
    assert spool.state is SpoolState.READY


@pytest.mark.parametrize("name", ["VHD", "VHDX", "VMDK", "OVA", "QCOW2", "RAW"])
@pytest_twisted.ensureDeferred
async def test_a_disk_of_any_format_gets_a_clone_of_a_copy_that_qemu_can_back(
    cloud: SmallCloud, name: str
) -> None:
    template, _ = cloud.add_template(format=ImageFormat(name))
    vm = await deploy_by_api(cloud, template=template)
    volume = present(cloud.database.run_now(volumes.root_of, vm.id))
    backing, backing_format, _ = cloud.primary.clones[volume.uuid]
    expected = "raw" if name == "RAW" else "qcow2"
    assert cloud.primary.formats == [name.lower()]
    assert (backing.name, backing_format) == (f"{template.uuid}.{expected}", expected)


@pytest_twisted.ensureDeferred
async def test_an_archive_cannot_be_deployed(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(format=ImageFormat.TAR)
    with pytest.raises(NotDeployableError, match="is an archive and not a disk"):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud, template=template))


@pytest_twisted.ensureDeferred
async def test_vnc_is_on_the_management_address_with_a_random_password(
    cloud: SmallCloud,
) -> None:
    vm = await deploy_by_api(cloud)
    spec = cloud.hypervisor.specs[vm.instance_name]
    vnc = present(spec.vnc)
    password = present(vnc.password)
    assert (vnc.address, vnc.port) == ("10.11.0.1", 0)
    assert len(password) == VNC_PASSWORD_LENGTH
    assert cloud.seal.open(present(vm.sealed_vnc_password)) == password
    assert (vm.vnc_address, vm.vnc_port) == ("10.11.0.1", 5901)
    assert password not in repr(spec)
    await cloud.job("stopVirtualMachine", id=vm.uuid)
    await cloud.job("startVirtualMachine", id=vm.uuid)
    assert present(cloud.hypervisor.specs[vm.instance_name].vnc).password != password


def test_vnc_passwords_are_random() -> None:
    assert len({new_vnc_password() for _ in range(100)}) == 100


@pytest_twisted.ensureDeferred
async def test_an_iso_is_booted_beside_an_empty_disk(cloud: SmallCloud) -> None:
    iso, _ = cloud.add_template(format=ImageFormat.ISO, name="boot")
    vm = await deploy_by_api(cloud, template=iso)
    spec = cloud.hypervisor.specs[vm.instance_name]
    assert present(spec.cdrom).name == f"{iso.uuid}.iso"
    assert cloud.primary.clones == {}
    assert present(cloud.database.run_now(volumes.root_of, vm.id)).size_bytes == 8 * GIB
    [row] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert (row["isoname"], row["isoid"]) == ("boot", iso.uuid)
    job = await cloud.job("deleteIso", id=iso.uuid)
    assert (job.result_code, "used by" in job.result["errortext"]) == (431, True)


@pytest_twisted.ensureDeferred
async def test_disk_can_be_larger_than_the_template(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud, rootdisksize=5)
    volume = cloud.database.run_now(volumes.root_of, vm.id)
    assert cloud.primary.clones[present(volume).uuid][2] == 5 * GIB


@pytest_twisted.ensureDeferred
async def test_vm_can_be_deployed_without_a_start(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud, startvm="false")
    assert (vm.state, cloud.hypervisor.specs) == (InstanceState.STOPPED, {})
    await cloud.job("startVirtualMachine", id=vm.uuid)
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "not a host name"}, "Invalid name"),
        ({"name": "1st"}, "Invalid name"),
        ({"name": "ends-"}, "Invalid name"),
        ({"name": "a" * 64}, "Invalid name"),
        ({"rootdisksize": 0}, "rootdisksize"),
        ({"rootdisksize": 99999}, "rootdisksize"),
        ({"serviceofferingid": "00000000-0000-4000-8000-000000000000"}, "no service offering"),
        ({"templateid": "00000000-0000-4000-8000-000000000000"}, "no template"),
        ({"zoneid": "00000000-0000-4000-8000-000000000000"}, "no zone"),
        ({"hypervisor": "XenServer"}, "hypervisor"),
    ],
)
async def test_failed_deployment_leaves_nothing(
    cloud: SmallCloud, values: dict[str, Any], message: str
) -> None:
    with pytest.raises((ApiError, LookupError, NotDeployableError), match=message):
        await cloud.call("deployVirtualMachine", **(await deployment_parameters(cloud) | values))
    assert await cloud.call("listVirtualMachines") == {}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "state",
    [DownloadState.NOT_DOWNLOADED, DownloadState.DOWNLOAD_IN_PROGRESS, DownloadState.DOWNLOAD_ERROR],
)
async def test_a_template_must_be_ready(cloud: SmallCloud, state: DownloadState) -> None:
    template, _ = cloud.add_template(state=state)
    with pytest.raises(NotDeployableError, match="is not ready"):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud, template=template))


@pytest_twisted.ensureDeferred
async def test_an_iso_must_be_bootable(cloud: SmallCloud) -> None:
    iso, _ = cloud.add_template(format=ImageFormat.ISO, bootable=False)
    with pytest.raises(NotDeployableError, match="not bootable"):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud, template=iso))


@pytest_twisted.ensureDeferred
async def test_name_is_unique_in_an_account(cloud: SmallCloud) -> None:
    await deploy_by_api(cloud, name="one")
    with pytest.raises(NotDeployableError, match="exists already"):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud, name="ONE"))


@pytest_twisted.ensureDeferred
async def test_a_user_deploys_from_own_and_public_templates_only(cloud: SmallCloud) -> None:
    public, _ = cloud.add_template(public=True)
    private, _ = cloud.add_template()
    job = await cloud.job(
        "deployVirtualMachine", cloud.user, **await deployment_parameters(cloud, template=public, name="mine")
    )
    assert job.result["virtualmachine"]["account"] == "users"
    with pytest.raises(ApiError) as refused:
        await cloud.call(
            "deployVirtualMachine", cloud.user, **await deployment_parameters(cloud, template=private)
        )
    assert refused.value.code == 401


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        ("hypervisor", HypervisorError("QEMU did not start", "look at its log"), "QEMU did not start"),
        ("primary", PrimaryStorageError("no room", "free some"), "no room"),
        ("primary", OSError("disk on fire"), "disk on fire"),
    ],
)
async def test_failed_start_leaves_the_vm_stopped_with_the_reason(
    cloud: SmallCloud, broken: str, error: Exception, message: str
) -> None:
    getattr(cloud, broken).fails_with = error
    job = await cloud.job("deployVirtualMachine", **await deployment_parameters(cloud))
    assert job.result_code in (530, 534)
    [row] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert row["state"] == "Stopped"
    assert message in row["reason"]
    getattr(cloud, broken).fails_with = None
    again = await cloud.job("startVirtualMachine", id=row["id"])
    assert again.result["virtualmachine"]["state"] == "Running"
    assert "reason" not in again.result["virtualmachine"]


@pytest_twisted.ensureDeferred
async def test_unreadable_store_is_reported(cloud: SmallCloud) -> None:
    cloud.database.run_now(zones.store_rows.update, cloud.store.id, host_path=None)
    job = await cloud.job("deployVirtualMachine", **await deployment_parameters(cloud))
    assert "cannot be read on this host" in job.result["errortext"]
    assert "host_path" in job.result["hint"]


@pytest_twisted.ensureDeferred
async def test_a_path_that_leaves_the_store_is_refused(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    cloud.database.run_now(templates.update_store_ref, ref.id, install_path="../../etc/shadow")
    job = await cloud.job("deployVirtualMachine", **await deployment_parameters(cloud, template=template))
    assert "leaves its store" in job.result["errortext"]
    assert cloud.primary.copied == []
