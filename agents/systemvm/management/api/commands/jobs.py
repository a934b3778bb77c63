# SPDX-License-Identifier: Apache-2.0
"""queryAsyncJobResult and listAsyncJobs."""

from __future__ import annotations

from attrs import evolve

from systemvm.management.api.answers.access import JobAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage
from systemvm.management.api.owner_names import read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.paging import page_window
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.periods import first_moment
from systemvm.management.api.principal import Principal
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts, jobs
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.jobs import Job, JobFilter
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import JobStatus


class JobCommands:
    """States and results of asynchronous commands."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "queryAsyncJobResult",
                self._query,
                "Returns the progress and the result of an asynchronous command.",
                JobAnswer,
                shape=ResponseShape.BARE,
                parameters=(required("jobid", ParameterType.UUID, "the job"),),
            ),
            Command(
                "listAsyncJobs",
                self._list,
                "Lists the jobs of asynchronous commands.",
                JobAnswer,
                "asyncjobs",
                ResponseShape.LIST,
                (
                    optional(
                        "startdate", ParameterType.DATE, "list only those that began at or after this time"
                    ),
                    *OWNERS,
                ),
                kept=True,
            ),
        )

    async def _query(self, call: ApiCall) -> JobAnswer:
        job = await self._database.read(_one, call.arguments["jobid"], call.principal)
        [answer] = await self._database.read(_answers, [job])
        asks_for_own = job.user_id == call.principal.user.id
        if job.sealed_password is None or job.status is not JobStatus.SUCCEEDED or not asks_for_own:
            return answer
        # the one answer with it: the row has it no more when this one is on its way
        sealed = await self._database.run(jobs.take_password, job.id)
        if sealed is None or answer.jobresult is None:
            return answer
        password = self._seal.open(sealed)
        return evolve(
            answer,
            jobresult={kind: found | {"password": password} for kind, found in answer.jobresult.items()},
        )

    async def _list(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call)


def _one(connection: Connection, uuid: str, principal: Principal) -> Job:
    job = jobs.by_uuid(connection, uuid)
    if not principal.may_use(job.account_id):
        # also for another account's job
        raise NotFoundError(f"there is no job with the id {uuid}", parameter="jobid")
    return job


def _select(connection: Connection, call: ApiCall) -> ResultPage:
    """Return the rows of a list's page.

    Raises: ApiError 431 for a page that does not exist or an unknown owner.
    """
    arguments, window = call.arguments, page_window(call.arguments)
    which = JobFilter(
        account_ids=owners_of(connection, call).account_ids,
        since=first_moment(arguments["startdate"]) if "startdate" in arguments else None,
        keyword=arguments.text("keyword"),
    )
    found, count = jobs.page(connection, which, window)
    return ResultPage(_answers(connection, found), count)


def _answers(connection: Connection, found: list[Job]) -> list[JobAnswer]:
    names = read_names(connection)
    users = accounts.users_by_id(connection, (job.user_id for job in found))
    answers = []
    for job in found:
        account = names.accounts.get(job.account_id)
        user = users.get(job.user_id or 0)
        answers.append(
            JobAnswer(
                jobid=job.uuid,
                cmd=job.command,
                jobstatus=int(job.status),
                jobprocstatus=job.progress,
                jobprogresstext=job.progress_text if job.status is JobStatus.PENDING else None,
                jobresultcode=job.result_code,
                jobresulttype="object" if job.status is not JobStatus.PENDING else None,
                jobresult=job.result,
                jobinstancetype=job.instance_type,
                jobinstanceid=job.instance_uuid,
                accountid=account.uuid if account else None,
                account=account.name if account else None,
                userid=user.uuid if user else None,
                created=job.created,
                completed=job.completed,
            )
        )
    return answers
