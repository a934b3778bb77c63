# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a disk that its guest writes to: a VM of what is made of them boots with whole files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from booted_cloud import BootedCloud, wait_for
from writing_guest import FILES, FoundFiles, add_writer, found_at_boots, rounds

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1800)]


@pytest.fixture
def writer(cloud: BootedCloud, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A VM whose guest writes."""
    add_writer(cloud.tiny_image, tmp_path, cloud.plan.source_pages / "writer.qcow2")
    template = cloud.register("writer", f"{cloud.plan.source_url}/writer.qcow2")
    assert cloud.wait_settled(template["id"])["isready"]
    vm = deploy(cloud, template["id"])
    yield vm
    cloud.job(cloud.api.destroyVirtualMachine(id=vm["id"], expunge=True)["jobid"])
    cloud.delete_template(template["id"])


def deploy(cloud: BootedCloud, template_id: str) -> dict[str, Any]:
    offering = cloud.api.listServiceOfferings(name="small")["serviceoffering"][0]["id"]
    started = cloud.api.deployVirtualMachine(
        zoneid=cloud.zone_id(), templateid=template_id, serviceofferingid=offering
    )
    found: dict[str, Any] = cloud.job(started["jobid"])["virtualmachine"]
    return found


def log_of(cloud: BootedCloud, vm: dict[str, Any]) -> Path:
    return cloud.plan.layout.logs / f"{vm['instancename']}.log"


def wait_for_writes(cloud: BootedCloud, vm: dict[str, Any], more: int) -> None:
    """Wait until the guest has replaced so many files more."""
    log = log_of(cloud, vm)
    wanted = rounds(log) + more
    wait_for(f"{more} files of {vm['name']}", lambda: (done := rounds(log)) >= wanted and done, timeout_s=600)


def found_at_boot(cloud: BootedCloud, vm: dict[str, Any], boot: int = 1) -> FoundFiles:
    """Wait until a guest has booted so often, and return what it has found then."""
    log = log_of(cloud, vm)
    found: list[FoundFiles] = wait_for(
        f"boot {boot} of {vm['name']}",
        lambda: found if len(found := found_at_boots(log)) >= boot else [],
        timeout_s=600,
    )
    return found[boot - 1]


def root_disk(cloud: BootedCloud, vm: dict[str, Any]) -> str:
    [volume] = cloud.api.listVolumes(virtualmachineid=vm["id"], type="ROOT")["volume"]
    return str(volume["id"])


def test_what_is_made_of_snapshots_of_a_disk_in_use_boots_with_whole_files(
    cloud: BootedCloud, writer: dict[str, Any], record_property: Any
) -> None:
    assert found_at_boot(cloud, writer) == FoundFiles(0, 0)
    wait_for_writes(cloud, writer, FILES)
    disk = root_disk(cloud, writer)
    full, increment = (
        cloud.job(cloud.api.createSnapshot(volumeid=disk)["jobid"])["snapshot"] for _ in range(2)
    )
    record_property("bytes_moved", [full["physicalsize"], increment["physicalsize"]])
    assert increment["parentid"] == full["id"]
    assert increment["physicalsize"] < full["physicalsize"] / 2
    # another VM, of a template that is made while the guest writes
    started = cloud.api.createTemplate(name="written", displaytext="written", snapshotid=increment["id"])
    made = cloud.job(started["jobid"])["template"]
    assert cloud.wait_settled(made["id"])["isready"]
    wait_for_writes(cloud, writer, FILES)
    other = deploy(cloud, made["id"])
    assert found_at_boot(cloud, other).whole >= FILES - 1
    cloud.job(cloud.api.destroyVirtualMachine(id=other["id"], expunge=True)["jobid"])
    cloud.delete_template(made["id"])
    for snapshot in (increment, full):
        cloud.job(cloud.api.deleteSnapshot(id=snapshot["id"])["jobid"])


def test_a_disk_in_use_that_is_reverted_boots_as_it_was_with_whole_files(
    cloud: BootedCloud, writer: dict[str, Any]
) -> None:
    """The increment is reverted to: its chain is read, and what was written later is gone."""
    wait_for_writes(cloud, writer, FILES)
    disk = root_disk(cloud, writer)
    full, increment = (
        cloud.job(cloud.api.createSnapshot(volumeid=disk)["jobid"])["snapshot"] for _ in range(2)
    )
    # the guest reports every time that it has replaced all files
    at_most = rounds(log_of(cloud, writer)) + FILES
    wait_for_writes(cloud, writer, 2 * FILES)
    cloud.job(cloud.api.stopVirtualMachine(id=writer["id"], forced=True)["jobid"])
    cloud.job(cloud.api.revertSnapshot(id=increment["id"])["jobid"])
    boots = len(found_at_boots(log_of(cloud, writer)))
    cloud.job(cloud.api.startVirtualMachine(id=writer["id"])["jobid"])
    found = found_at_boot(cloud, writer, boot=boots + 1)
    assert found.whole >= FILES - 1
    assert FILES - 1 <= found.written <= at_most
    for snapshot in (increment, full):
        cloud.job(cloud.api.deleteSnapshot(id=snapshot["id"])["jobid"])
