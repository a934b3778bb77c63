# SPDX-License-Identifier: Apache-2.0
"""Uploads of templates for tests: parameters, and an SSVM that takes their orders."""

from __future__ import annotations

from typing import Any

from small_cloud import SmallCloud
from small_cloud_fakes import FakePeer
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceType
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadState, DownloadStatus
from systemvm.wire.upload import TEMPLATE_UPLOAD, UploadRequest

ADDRESS, SECOND_ADDRESS = "203.0.113.101", "203.0.113.103"  # by the numbers of the VMs


def accepted(request: UploadRequest) -> DownloadStatus:
    """Answer an order as an SSVM does whose client has not come yet."""
    return DownloadStatus(request.job_id, DownloadState.DOWNLOAD_IN_PROGRESS, total_bytes=request.total_bytes)


def receive_uploads(cloud: SmallCloud, vm: Instance | None = None) -> None:
    """Have an SSVM take uploads."""
    peer = cloud.agents.peer((vm or cloud.ssvm).instance_name)
    assert peer is not None
    peer.answers[TEMPLATE_UPLOAD] = accepted
    for method in (storage.TEMPLATE_ABORT, storage.TEMPLATE_DELETE):
        peer.answers[method] = lambda _: Acknowledgement()


def add_receiver(cloud: SmallCloud) -> tuple[Instance, FakePeer]:
    """Add a second SSVM that takes uploads."""
    vm = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    peer = cloud.agents.connect(vm.instance_name, Role.SSVM)
    receive_uploads(cloud, vm)
    return vm, peer


def upload_parameters(cloud: SmallCloud, kind: str = "Template", **more: Any) -> dict[str, Any]:
    """Return the parameters that getUploadParamsForTemplate or getUploadParamsForIso require."""
    own = {"format": "ISO"} if kind == "Iso" else {"format": "QCOW2", "hypervisor": "KVM"}
    return {"name": "tiny", "zoneid": cloud.zone.uuid} | own | more
