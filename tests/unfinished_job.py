# SPDX-License-Identifier: Apache-2.0
"""Jobs that a killed daemon has left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from small_cloud import SmallCloud
from systemvm.management.jobs.runner import RunningJob
from systemvm.management.state import jobs
from systemvm.management.state.database import Connection
from systemvm.management.state.jobs import Job


def start_unfinished(cloud: SmallCloud, command: str, **arguments: Any) -> Job:
    """Write the row of a job that has not ended."""

    def create(connection: Connection) -> Job:
        return jobs.create(
            connection,
            command=command,
            arguments=dict(arguments),
            account_id=cloud.admin.account.id,
            domain_id=cloud.admin.domain.id,
            user_id=cloud.admin.user.id,
        )

    return cloud.database.run_now(create)


def begins(job: Job) -> Callable[[Connection], bool]:
    """Return what a job passes to its work."""
    running = RunningJob(job, lambda percent, text: None)
    return lambda connection: running.begin(connection, "working")


async def resume(cloud: SmallCloud, job: Job) -> Job:
    """Do what a new daemon does with a job, and return that when it has ended."""
    await cloud.jobs.resume_pending()
    return await cloud.jobs.wait(job.uuid)
