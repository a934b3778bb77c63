# SPDX-License-Identifier: Apache-2.0
"""restartNetwork: starts DHCP, DNS and metadata of a guest network anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.guest_networks import check_may_change
from systemvm.management.api.envelope import plain
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import guest_networks
from systemvm.management.state.database import Database

_NAME = "restartNetwork"


class NetworkRestartCommand:
    """The handler of this command."""

    def __init__(
        self, database: Database, restart: Callable[[int], Awaitable[None]], jobs: JobRunner
    ) -> None:
        self._database = database
        self._restart = restart  # by the network's number
        self._jobs = jobs
        jobs.register(_NAME, self._run, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                _NAME, self._start, "Starts DHCP, DNS and metadata of a guest network anew.", SuccessAnswer,
                "", ResponseShape.ASYNC,
                (
                    required("id", ParameterType.UUID, "UUID of a network that createNetwork has made"),
                    optional("cleanup", ParameterType.BOOLEAN, "without effect: no router is replaced"),
                ),
                related=("listNetworks",),
            ),
        )  # fmt: skip

    async def _start(self, call: ApiCall) -> StartedJob:
        network = await self._database.read(guest_networks.by_uuid, call.arguments["id"])
        check_may_change(call.principal, network)
        arguments = {"network": network.id}
        return await start_job(self._jobs, call, _NAME, arguments, about="Network", uuid=network.uuid)

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        await self._restart(running.job.arguments["network"])
        answer: dict[str, Any] = plain(SuccessAnswer(success=True))
        return answer
