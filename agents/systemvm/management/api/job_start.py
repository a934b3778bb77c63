# SPDX-License-Identifier: Apache-2.0
"""Starts the job of an asynchronous command, and describes why one failed."""

from __future__ import annotations

from typing import Any

from systemvm.management.api.command import ApiCall, CommandTable, StartedJob
from systemvm.management.api.failures import as_api_error
from systemvm.management.api.parameters import Arguments
from systemvm.management.api.refused_parameter import refused_parameter
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.state.jobs import Job
from systemvm.service.errors import SystemVmError

#: The argument of a job that has the name of the parameter that named its object, for an error about it.
_PARAMETER = "object_parameter"


async def start_job(
    jobs: JobRunner,
    call: ApiCall,
    command: str,
    arguments: dict[str, Any],
    *,
    about: str,
    uuid: str,
    creates: bool = False,
    sealed_password: bytes | None = None,
) -> StartedJob:
    """Submit the job for the caller; `about` and `uuid` are type and id of the object that it is about.

    The caller is given the password with the job's result, once.
    """
    parameter = call.arguments.name_of(uuid) if uuid else ""
    if parameter:
        arguments = arguments | {_PARAMETER: parameter}
    job = await jobs.submit(
        command, arguments, sealed_password=sealed_password, **job_columns(call, about=about, uuid=uuid)
    )
    return StartedJob(job.uuid, uuid if creates else None)


def job_columns(call: ApiCall, *, about: str, uuid: str) -> dict[str, Any]:
    """Return the columns of a job for the caller; `about` and `uuid` are those of `start_job`."""
    return {
        "account_id": call.principal.account.id,
        "domain_id": call.principal.domain.id,
        "user_id": call.principal.user.id,
        "instance_type": about,
        "instance_uuid": uuid,
        "request_id": call.request_id,
    }


def describe_job_error(commands: CommandTable, error: Exception, job: Job) -> tuple[int, dict[str, Any]]:
    """Return the result code and the jobresult of a job that raised `error`."""
    problem = as_api_error(error, job.request_id)
    result: dict[str, Any] = {"errorcode": int(problem.code), "errortext": problem.message}
    if problem.hint:
        result["hint"] = problem.hint
    if parameter := _refused_parameter(commands, error, job):
        result["parameter"] = parameter
    return int(problem.code), result


def _refused_parameter(commands: CommandTable, error: Exception, job: Job) -> str:
    """Return the parameter that an error is about, of which a job only knows the one with its object."""
    if not isinstance(error, SystemVmError):
        return ""
    name, is_of_another = job.arguments.get(_PARAMETER), error.value not in ("", job.instance_uuid)
    sent = {} if name is None or is_of_another else {name: job.instance_uuid}
    return refused_parameter(error, commands.parameters_of(job.command), Arguments(sent))
