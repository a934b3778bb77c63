# SPDX-License-Identifier: Apache-2.0
"""watchConsoleSession: an administrator watches the console that somebody has open. An addition."""

from __future__ import annotations

from typing import Protocol

from systemvm.management.api.answers.access import ConsoleEndpointAnswer
from systemvm.management.api.command import ApiCall, Command
from systemvm.management.api.commands.consoles import CLIENT_ADDRESS, answer_of, user_of
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.consoles.endpoint import ConsoleEndpoint, ConsoleUser


class ConsoleWatcher(Protocol):
    """Creates sessions that watch another one."""

    async def watch_session(self, uuid: str, watcher: ConsoleUser) -> ConsoleEndpoint: ...
    async def watch_machine(self, vm_uuid: str, watcher: ConsoleUser) -> ConsoleEndpoint: ...


class ConsoleWatchCommands:
    """Handler of the command; as with createConsoleEndpoint, a missing session is success=false."""

    def __init__(self, supervision: ConsoleWatcher) -> None:
        self._supervision = supervision

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "watchConsoleSession",
                self._watch,
                "Creates a URL that shows an open console session once, without input, until that ends.",
                ConsoleEndpointAnswer,
                "consoleendpoint",
                parameters=(
                    optional("id", ParameterType.UUID, "the session; this or virtualmachineid"),
                    optional("virtualmachineid", ParameterType.UUID, "a VM with one open session"),
                    optional(
                        "token",
                        ParameterType.STRING,
                        "an additional secret, which the browser must also present as extra",
                    ),
                    CLIENT_ADDRESS,
                ),
                roles=ADMIN_ONLY,
                related=("listConsoleSessions", "endConsoleSession"),
            ),
        )

    async def _watch(self, call: ApiCall) -> ConsoleEndpointAnswer:
        session, machine = call.arguments.text("id"), call.arguments.text("virtualmachineid")
        if session is not None and machine is None:
            return await answer_of(call, self._supervision.watch_session(session, user_of(call)))
        if machine is not None and session is None:
            return await answer_of(call, self._supervision.watch_machine(machine, user_of(call)))
        raise parameter_error(
            "id", "either id or virtualmachineid is needed, and not both", "call listConsoleSessions for ids"
        )
