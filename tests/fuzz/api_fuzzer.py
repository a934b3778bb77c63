# SPDX-License-Identifier: Apache-2.0
"""The fuzzer of the API: sends calls over HTTP in memory, and reports each answer that must not be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from attrs import define, field
from twisted.logger import ILogObserver, globalLogPublisher

from api_client import Browser
from fuzz.api_calls import Call, plain_call
from fuzz.api_refusals import ABOUT_PARAMETERS, Refusals
from fuzz.api_world import MARK, FuzzedCloud
from in_memory_http import HttpAnswer
from settling import settled
from systemvm.management.api.command import Command
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import jobs, schema
from systemvm.management.state.database import Connection
from systemvm.management.state.jobs import Job

#: More than the longest wait of a job for an agent.
_ALL_WAITS_S = 7200.0
_CODES = {int(code) for code in ErrorCode}


@define
class ApiFuzzer:
    """One caller. `faults` has what was wrong: the call, and why."""

    world: FuzzedCloud
    browser: Browser
    sees_all: bool  # an administrator sees the stranger's objects
    faults: list[str] = field(factory=list)
    count: int = 0
    _trouble: list[str] = field(factory=list)

    async def send(self, command: Command, calls: Iterable[Call]) -> None:
        """Send calls of one command, then let its jobs end, and check all that came back."""
        before = "" if self.sees_all else self.world.stranger_state()
        objects = frozenset(self.world.own.values())
        refusals = Refusals(command, plain_call(command, self.world), objects)
        observer = cast(ILogObserver, self._observe)
        globalLogPublisher.addObserver(observer)
        try:
            for call in calls:
                self.count += 1
                answer = await self.browser.call(command.name, **call)
                self._check(refusals, call, answer)
            await self._let_jobs_end()
        finally:
            globalLogPublisher.removeObserver(observer)
        self._report_trouble(f"jobs of {command.name}")
        refusals.check_blame()
        self.faults += refusals.faults
        if not self.sees_all and self.world.stranger_state() != before:
            self.faults.append(f"{command.name}: changes what belongs to a stranger")

    def _check(self, refusals: Refusals, call: Call, answer: HttpAnswer) -> None:
        what = f"{refusals.command.name} {_short(call)}"
        self._report_trouble(what)
        try:
            [body] = json.loads(answer.body).values()
        except ValueError:
            self.faults.append(f"{what}: answers {answer.status} {answer.body[:80]!r}")
            return
        if answer.status != 200 and (
            body.get("errorcode") != answer.status or answer.status not in _CODES or not body.get("errortext")
        ):
            self.faults.append(f"{what}: answers {answer.status} without a typed error: {body}")
        refusals.add(call, what, answer.status, body)
        if answer.status == ErrorCode.INTERNAL:
            self.faults.append(f"{what}: answers 530")
        if not self.sees_all:
            text = answer.body.decode()
            is_refused = answer.status != 200 or '"success":false' in text
            self._check_secrets(what, text, json.dumps(dict(call)).lower() if is_refused else "")

    def _check_secrets(self, what: str, text: str, sent: str = "") -> None:
        """Check that nothing of the stranger's is in an answer; an error can repeat what was sent."""
        for secret in (*self.world.secrets, MARK):
            if secret in text and secret not in sent:
                self.faults.append(f"{what}: shows {secret} of a stranger")

    async def _let_jobs_end(self) -> None:
        """Let time pass until the jobs have ended or wait for nothing but their agents."""
        database = self.world.cloud.database
        await settled(database)
        if database.run_now(jobs.pending):
            self.world.cloud.clock.advance(_ALL_WAITS_S)
            await settled(database)

    def check_jobs_of(self, account_id: int) -> None:
        """Check the results of the caller's jobs."""
        for job in self.world.cloud.database.run_now(_jobs_of, account_id):
            what = f"job of {job.command} {_short(job.arguments)}"
            if job.result_code == ErrorCode.INTERNAL:
                self.faults.append(f"{what}: ended with 530: {job.result}")
            if job.result_code in ABOUT_PARAMETERS and not (job.result or {}).get("parameter"):
                self.faults.append(f"{what}: ended without its parameter: {job.result}")
            if not self.sees_all:
                self._check_secrets(what, json.dumps(job.result))

    def _observe(self, event: Mapping[str, Any]) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            last = failure.getTraceback().strip().splitlines()
            self._trouble.append(" | ".join(line.strip() for line in last[-3:]))

    def _report_trouble(self, what: str) -> None:
        """Report exceptions that were logged since the last report."""
        self.faults += [f"{what}: logs {trouble}" for trouble in self._trouble]
        self._trouble.clear()


def _jobs_of(connection: Connection, account_id: int) -> list[Job]:
    return jobs.rows.all(connection, schema.async_jobs.c.account_id == account_id)


def _short(call: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={str(value)[:60]!r}" for name, value in call.items())
