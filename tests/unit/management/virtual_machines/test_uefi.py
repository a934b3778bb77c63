# SPDX-License-Identifier: Apache-2.0
"""VMs that boot by UEFI: their variables are made, kept and deleted with their root disks."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.host.architecture import Architecture
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.primary.uefi_variables import UefiVariables
from systemvm.management.state import instances, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from user_vms import deployment_parameters

AMD64 = Architecture.AMD64


async def deploy(cloud: SmallCloud, **parameters: str) -> Instance:
    values = await deployment_parameters(cloud)
    job = await cloud.job("deployVirtualMachine", **values, **parameters)
    return cloud.database.run_now(instances.by_uuid, job.result["virtualmachine"]["id"])


def variables_of(cloud: SmallCloud, vm: Instance) -> Path:
    root = cloud.database.run_now(volumes.root_of, vm.id)
    assert root is not None
    return cloud.uefi_variables.path(root.uuid)


@pytest_twisted.ensureDeferred
async def test_a_vm_boots_by_bios_unless_uefi_is_asked_for(cloud: SmallCloud) -> None:
    vm = await deploy(cloud)
    assert cloud.hypervisor.specs[vm.instance_name].uefi is None
    [row] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert (row["boottype"], row["bootmode"]) == ("Bios", "legacy")
    assert cloud.uefi_variables.names() == []


@pytest_twisted.ensureDeferred
async def test_uefi_variables_survive_a_stop_and_end_with_the_vm(cloud: SmallCloud) -> None:
    vm = await deploy(cloud, boottype="uefi", bootmode="legacy")
    [row] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert (row["boottype"], row["bootmode"]) == ("Uefi", "legacy")
    path = variables_of(cloud, vm)
    uefi = cloud.hypervisor.specs[vm.instance_name].uefi
    assert uefi is not None and (uefi.code, uefi.variables) == (AMD64.uefi_code, path)
    assert path.stat().st_mode & 0o777 == 0o660, "QEMU writes it as the directory's group"
    path.write_bytes(b"a boot entry")
    await cloud.machines.stop(vm.id, forced=True)
    await cloud.machines.start(vm.id)
    assert path.read_bytes() == b"a boot entry"
    await cloud.machines.destroy(vm.id)
    assert path.exists(), "it can be recovered"
    await cloud.machines.expunge(vm.id)
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_a_vm_that_is_not_started_has_no_variables_yet(cloud: SmallCloud) -> None:
    vm = await deploy(cloud, boottype="UEFI", startvm="false")
    assert not variables_of(cloud, vm).exists()
    await cloud.machines.start(vm.id)
    assert variables_of(cloud, vm).exists()


@pytest_twisted.ensureDeferred
async def test_a_restored_vm_has_new_variables(cloud: SmallCloud) -> None:
    """Those of before name what was on the disk of before."""
    vm = await deploy(cloud, boottype="UEFI")
    before = variables_of(cloud, vm)
    before.write_bytes(b"a boot entry")
    await cloud.job("restoreVirtualMachine", virtualmachineid=vm.uuid)
    assert cloud.instance(vm.id).state is InstanceState.RUNNING
    assert variables_of(cloud, vm).read_bytes() == b"no variables"
    assert not before.exists()


def test_an_incomplete_copy_of_a_killed_daemon_is_no_variables(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.write_bytes(b"no variables")
    variables = UefiVariables(tmp_path / "uefi", lambda _: whole)
    variables.open()
    name = str(uuid.uuid4())
    half = variables.path(name).with_name(f".{name}.fd.new")
    half.write_bytes(b"no")
    assert variables.names() == []
    variables.open()
    assert not half.exists()
    half.write_bytes(b"no")  # of a copy that failed while the daemon ran
    assert variables.ensure(name, AMD64).read_bytes() == b"no variables"
    assert (variables.names(), half.exists()) == ([name], False)


def test_a_host_without_the_firmware_is_an_error_with_its_package(tmp_path: Path) -> None:
    variables = UefiVariables(tmp_path / "uefi", lambda _: tmp_path / "missing")
    variables.open()
    with pytest.raises(PrimaryStorageError) as failed:
        variables.ensure(str(uuid.uuid4()), AMD64)
    assert "ovmf" in failed.value.hint
    assert list((tmp_path / "uefi").iterdir()) == []
