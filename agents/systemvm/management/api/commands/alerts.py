# SPDX-License-Identifier: Apache-2.0
"""listAlerts, listAlertTypes, archiveAlerts, deleteAlerts, generateAlert."""

from __future__ import annotations

import uuid
from typing import Any

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.alerts import AlertAnswer, AlertTypeAnswer
from systemvm.management.api.command import (
    ApiCall,
    Command,
    Handler,
    ResponseShape,
    ResultPage,
    StartedJob,
    matches_keyword,
    paged,
)
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.paging import page_window, sort_order
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.periods import end_of, first_moment
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import alerts, events
from systemvm.management.state.alerts import Alert, AlertFilter, AlertType
from systemvm.management.state.database import Connection, Database

_TYPE = optional("type", ParameterType.INTEGER, "only those of this type, a number of CloudStack's")
_LIST = (
    optional("id", ParameterType.UUID, "list only the one with this id"),
    _TYPE,
    optional("name", ParameterType.STRING, "list only those with this name of a type"),
)
_TAKE_AWAY = (
    optional("ids", ParameterType.LIST, "only those with these ids"),
    _TYPE,
    optional("startdate", ParameterType.DATE, "only those at or after this day or time; requires enddate"),
    optional("enddate", ParameterType.DATE, "only those until the end of this day or time"),
)


_GENERATE = (
    required("type", ParameterType.INTEGER, "a number of CloudStack's"),
    required("name", ParameterType.STRING, "the name of the type, such as ALERT.SERVICE.SSVM"),
    required("description", ParameterType.STRING, "what the alert says"),
)


class AlertCommands:
    """Alerts concern the installation: they are for administrators only."""

    def __init__(self, database: Database, jobs: JobRunner) -> None:
        self._database = database
        self._jobs = jobs
        jobs.register("generateAlert", self._run_generate, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listAlerts", self._list, "Lists alerts, the newest first.", AlertAnswer, "alert",
                ResponseShape.LIST, _LIST, ADMIN_ONLY, related=("listEvents",),
                sortable=tuple(alerts.SORT_KEYS),
            ),
            Command(
                "listAlertTypes", paged(_types), "Lists the types of alerts.", AlertTypeAnswer, "alerttype",
                ResponseShape.LIST, roles=ADMIN_ONLY, related=("listAlerts", "generateAlert"),
            ),
            self._taking("archiveAlerts", "Takes alerts from the list; listEvents keeps what happened."),
            self._taking("deleteAlerts", "Deletes alerts; listEvents keeps what happened."),
            Command(
                "generateAlert", self._generate, "Makes an alert, for example to try its ways out.",
                SuccessAnswer, shape=ResponseShape.ASYNC, parameters=_GENERATE, roles=ADMIN_ONLY,
                related=("listAlerts",),
            ),
        )  # fmt: skip

    def _taking(self, name: str, description: str) -> Command:
        handler: Handler = self._take_away
        return Command(
            name, handler, description, SuccessAnswer, shape=ResponseShape.BARE, parameters=_TAKE_AWAY,
            roles=ADMIN_ONLY, related=("listAlerts",),
        )  # fmt: skip

    async def _list(self, call: ApiCall) -> ResultPage:
        arguments, window = call.arguments, page_window(call.arguments)
        which = AlertFilter(
            uuids=frozenset({arguments["id"]}) if "id" in arguments else None,
            type=arguments.get("type"),
            name=arguments.text("name"),
            keyword=arguments.text("keyword"),
        )
        found, count = await self._database.read(alerts.page, which, window, sort_order(arguments))
        return ResultPage([_answer(alert) for alert in found], count)

    async def _take_away(self, call: ApiCall) -> SuccessAnswer:
        arguments = call.arguments
        if not {name for name in ("ids", "type", "enddate") if name in arguments}:
            raise parameter_error("ids", "either ids, type, or enddate must be specified")
        if "startdate" in arguments and "enddate" not in arguments:
            raise parameter_error("enddate", "enddate must be specified with startdate parameter")
        which = AlertFilter(
            uuids=frozenset(arguments["ids"]) if "ids" in arguments else None,
            type=arguments.get("type"),
            since=first_moment(arguments["startdate"]) if "startdate" in arguments else None,
            before=end_of(arguments["enddate"]) if "enddate" in arguments else None,
        )
        await self._database.run(_take_away, which)
        return SuccessAnswer(success=True)

    async def _generate(self, call: ApiCall) -> StartedJob:
        arguments = call.arguments
        kind = next((kind for kind in AlertType if kind.number == arguments["type"]), None)
        if kind is None or arguments["name"] != kind.title:
            known = ", ".join(f"{kind.number} {kind.title}" for kind in AlertType)
            raise parameter_error(
                "type", "there is no such type of alerts", f"type and name are one of these: {known}"
            )
        made = str(uuid.uuid4())
        values = {"type": kind.number, "description": arguments["description"], "uuid": made}
        return await start_job(self._jobs, call, "generateAlert", values, about="Alert", uuid=made)

    async def _run_generate(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        kind = next(kind for kind in AlertType if kind.number == arguments["type"])
        await self._database.run(_generate, kind, arguments["description"], arguments["uuid"])
        return {"success": True}


async def _types(call: ApiCall) -> list[AlertTypeAnswer]:
    found = [AlertTypeAnswer(alerttypeid=kind.number, name=kind.title) for kind in AlertType]
    return [each for each in found if matches_keyword(call.arguments, each.name)]


def _generate(connection: Connection, kind: AlertType, description: str, made: str) -> None:
    """Record the alert, unless this job did so before the daemon was restarted."""
    which = events.EventFilter(uuid=made)
    if not events.page(connection, which, slice(0, 1))[1]:
        events.record(connection, alerts.GENERATED[kind], description, level="WARN", uuid=made)


def _take_away(connection: Connection, which: AlertFilter) -> None:
    """Take the alerts away, all that were named or none.

    Raises: ApiError 431 when there is no alert with one of the ids.
    """
    count = alerts.take_away(connection, which)
    if which.uuids is not None and count != len(which.uuids):
        raise parameter_error(
            "ids",
            f"ids: {len(which.uuids) - count} of {len(which.uuids)} are not ids of such alerts",
            "call listAlerts for those that there are",
        )


def _answer(alert: Alert) -> AlertAnswer:
    return AlertAnswer(
        id=alert.uuid,
        type=alert.type.number,
        name=alert.type.title,
        description=alert.description,
        sent=alert.created,
    )
