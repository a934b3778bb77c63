# SPDX-License-Identifier: Apache-2.0
"""Calls of the API that tests of snapshots share."""

from __future__ import annotations

from typing import Any

from present import present
from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api.failures import as_api_error
from systemvm.management.snapshots.files import SSVM_POLL_S
from systemvm.management.state import jobs, snapshots, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.jobs import Job
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import JobStatus
from systemvm.management.state.volumes import Volume
from systemvm.service.errors import SystemVmError
from user_vms import deploy_running

GIB = 1 << 30


async def running(cloud: SmallCloud) -> tuple[Instance, Volume]:
    """Return a VM that runs, and its root disk of 2 GiB."""
    vm = await deploy_running(cloud)
    volume = present(cloud.database.run_now(volumes.root_of, vm.id))
    cloud.primary.sizes[volume.uuid] = 2 * GIB
    return vm, volume


async def take(cloud: SmallCloud, volume: Volume, **more: Any) -> Snapshot:
    job = await cloud.job("createSnapshot", volumeid=volume.uuid, **more)
    assert job.result_code == 0, job.result
    return cloud.database.run_now(snapshots.by_uuid, job.result["snapshot"]["id"])


async def refusal(cloud: SmallCloud, command: str, **parameters: Any) -> tuple[int, str, str]:
    """Return code, text and hint of a call that is refused, at once or by its job."""
    try:
        job = await cloud.job(command, **parameters)
    except SystemVmError as error:
        refused = as_api_error(error, "request-1")
        return refused.code, refused.message, refused.hint
    assert job.result_code, job.result
    return job.result_code, job.result["errortext"], job.result["hint"]


async def ended(cloud: SmallCloud, job_uuid: str) -> Job:
    """Let time pass until a job has ended."""
    while True:
        await settled(cloud.database)
        job = cloud.database.run_now(jobs.by_uuid, job_uuid)
        if job.status is not JobStatus.PENDING:
            return job
        cloud.clock.advance(SSVM_POLL_S)


def row(cloud: SmallCloud, snapshot: Snapshot) -> Snapshot:
    return cloud.database.run_now(snapshots.by_id, snapshot.id)
