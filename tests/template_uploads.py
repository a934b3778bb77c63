# SPDX-License-Identifier: Apache-2.0
"""Uploads of templates for tests: parameters, their state, and an SSVM that takes their orders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from systemvm.management.api.errors import ApiError
from systemvm.management.api.failures import as_api_error
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceType
from systemvm.service.errors import SystemVmError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadError, DownloadState, DownloadStatus
from systemvm.wire.upload import TEMPLATE_UPLOAD, UploadRequest
from template_downloads import report, status_of

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
    """Return the parameters that getUploadParamsForTemplate, -ForIso or -ForVolume require."""
    own = {"format": "ISO" if kind == "Iso" else "QCOW2"}
    if kind == "Template":
        own["hypervisor"] = "KVM"
    return {"name": "tiny", "zoneid": cloud.zone.uuid} | own | more


async def begin(
    cloud: SmallCloud, as_user: Any = None, kind: str = "Template", **more: Any
) -> dict[str, Any]:
    answer = await cloud.call(f"getUploadParamsFor{kind}", as_user, **upload_parameters(cloud, kind, **more))
    found: dict[str, Any] = answer["getuploadparams"]
    return found


async def renew(cloud: SmallCloud, params: dict[str, Any], as_user: Any = None) -> dict[str, Any]:
    answer = await cloud.call("renewUploadParamsForTemplate", as_user, id=params["id"])
    found: dict[str, Any] = answer["getuploadparams"]
    return found


@contextmanager
def refusal() -> Iterator[list[ApiError]]:
    """Yield a list that gets the error that a client sees; nothing else is caught."""
    seen: list[ApiError] = []
    with pytest.raises(SystemVmError) as refused:
        yield seen
    seen.append(as_api_error(refused.value, "request-1"))


def orders(cloud: SmallCloud) -> list[UploadRequest]:
    return cloud.ssvm_peer.params_of(TEMPLATE_UPLOAD)


async def end(cloud: SmallCloud, state: DownloadState, **more: Any) -> None:
    [*_, order] = orders(cloud)
    await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus(order.job_id, state, 1000, 1000, **more))


def lost() -> dict[str, Any]:
    return {"error": DownloadError("upload_broken", "the connection was closed", "upload it again")}


async def state_of(cloud: SmallCloud, command: str = "listTemplates") -> tuple[str, str, bool]:
    row = await status_of(cloud, command)
    return row["downloaddetails"][0]["downloadState"], row["status"], row["isready"]


async def events_of(cloud: SmallCloud, kind: str) -> list[tuple[str, str]]:
    found = (await cloud.call("listEvents", type=kind)).get("event", [])
    return [(each["level"], each["description"]) for each in reversed(found)]
