# SPDX-License-Identifier: Apache-2.0
"""Commands that change a zone's model, as data: parameters, event, and the change of the rows."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import field, frozen

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.envelope import plain
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import NO_REASONS, Arguments, Parameter
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.api.refused_parameter import named_parameter
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state.database import Connection
from systemvm.management.state.status import AccountType
from systemvm.management.zone_model.changes import ChangeOrigin, ModelChanges
from systemvm.management.zone_model.ranges import Labels

#: Checks what the caller may, and returns further arguments for the change.
Admit = Callable[[Connection, ApiCall], dict[str, Any]]
#: Changes the rows and returns the object's answer; of a deletion, the object's name.
Apply = Callable[[Connection, Arguments, Labels], Any]


class Done(enum.Enum):
    """What a command does to its object; the value is the word of its event."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@frozen
class ModelCommand:
    """One of these commands. `noun` names the object in events, `event` is CloudStack's type of the event."""

    name: str
    description: str
    noun: str
    event: str
    done: Done
    apply: Apply = field(repr=False)
    parameters: tuple[Parameter, ...]
    answer: type = SuccessAnswer
    object_name: str = ""
    is_async: bool = False
    related: tuple[str, ...] = ()
    roles: frozenset[AccountType] = ADMIN_ONLY
    admit: Admit | None = field(default=None, repr=False)
    refused: Mapping[str, str] = field(default=NO_REASONS, repr=False)


def commands_of(table: Iterable[ModelCommand], changes: ModelChanges, jobs: JobRunner) -> list[Command]:
    """Return the API's commands, and register the jobs of asynchronous ones."""
    return [_command(each, changes, jobs) for each in table]


def _command(each: ModelCommand, changes: ModelChanges, jobs: JobRunner) -> Command:
    runner = _Runner(each, changes, jobs)
    if each.is_async:
        jobs.register(each.name, runner.run_job)
    shape = ResponseShape.BARE if each.done is Done.DELETED else ResponseShape.OBJECT
    return Command(
        each.name,
        runner.start_job if each.is_async else runner.run,
        each.description,
        each.answer,
        each.object_name,
        ResponseShape.ASYNC if each.is_async else shape,
        each.parameters,
        roles=each.roles,
        related=each.related,
        refused=each.refused,
    )


@frozen
class _Runner:
    command: ModelCommand
    changes: ModelChanges
    jobs: JobRunner

    async def run(self, call: ApiCall) -> Any:
        user = call.principal
        origin = ChangeOrigin(user.account.id, user.user.id, call.request_id)
        return await self._change(origin, Arguments(await self._given(call)))

    async def start_job(self, call: ApiCall) -> StartedJob:
        given = await self._given(call)
        about = self.command.noun.title().replace(" ", "")
        uuid = str(given.get("id", ""))
        return await start_job(self.jobs, call, self.command.name, given, about=about, uuid=uuid)

    async def _given(self, call: ApiCall) -> dict[str, Any]:
        """Return the arguments of a call, with those that follow from its caller."""
        more = await self.changes.read(self.command.admit, call) if self.command.admit else {}
        names = [parameter.name for parameter in self.command.parameters]
        return {name: call.arguments[name] for name in names if name in call.arguments} | more

    async def run_job(self, running: RunningJob) -> dict[str, Any]:
        """A job that a killed daemon has left is not resumed: its transaction has run, or it has not."""
        job = running.job
        origin = ChangeOrigin(job.account_id, job.user_id or 0, job.request_id)
        answer = plain(await self._change(origin, Arguments(job.arguments)))
        return {self.command.object_name: answer} if self.command.object_name else answer

    async def _change(self, origin: ChangeOrigin, arguments: Arguments) -> Any:
        with named_parameter(self.command.parameters, arguments):
            result = await self.changes.make(
                origin,
                self.command.event,
                lambda connection: self.command.apply(connection, arguments, self.changes.labels),
                self._describe,
            )
        return SuccessAnswer(success=True) if self.command.done is Done.DELETED else result

    def _describe(self, result: Any) -> str:
        name = result if isinstance(result, str) else getattr(result, "name", None)
        return f"{self.command.noun}{f' {name}' if name else ''} is {self.command.done.value}"
