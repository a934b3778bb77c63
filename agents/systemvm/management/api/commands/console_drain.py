# SPDX-License-Identifier: Apache-2.0
"""drainConsoleProxy: a console proxy takes no new session, for example before it is stopped. An addition."""

from __future__ import annotations

from typing import Protocol

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.state.instances import Instance
from systemvm.rpc.core.errors import RpcError

MAX_S = 86_400


class ConsoleDrainer(Protocol):
    """Drains console proxies, and undoes it."""

    async def drain(self, uuid: str, deadline_s: float | None = None) -> Instance: ...
    async def undo(self, uuid: str) -> Instance: ...


class ConsoleDrainCommands:
    """Handler of the command."""

    def __init__(self, draining: ConsoleDrainer) -> None:
        self._draining = draining

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "drainConsoleProxy",
                self._drain,
                "Gives a console proxy no new session, and ends those that are left after a time.",
                SuccessAnswer,
                shape=ResponseShape.BARE,
                parameters=(
                    required("id", ParameterType.UUID, "the console proxy"),
                    optional(
                        "timeout",
                        ParameterType.INTEGER,
                        f"seconds until its sessions end, at most {MAX_S}; "
                        "by default the zone's setting consoleproxy.drain.timeout",
                    ),
                    optional("cancel", ParameterType.BOOLEAN, "true: it takes new sessions again"),
                ),
                roles=ADMIN_ONLY,
                related=("listSystemVms", "listConsoleSessions"),
            ),
        )

    async def _drain(self, call: ApiCall) -> SuccessAnswer:
        arguments, cancels = call.arguments, call.arguments.flag("cancel")
        timeout_s = arguments.get("timeout")
        if timeout_s is not None and not 0 <= timeout_s <= MAX_S:
            raise parameter_error(
                "timeout", f"Invalid value for parameter timeout: {timeout_s}; it must be 0 to {MAX_S}"
            )
        try:
            if cancels:
                proxy = await self._draining.undo(arguments["id"])
            else:
                proxy = await self._draining.drain(
                    arguments["id"], None if timeout_s is None else float(timeout_s)
                )
        except RpcError as error:
            text = f"the console proxy does not answer and is told later: {error.message}"
            return SuccessAnswer(success=True, displaytext=text)
        if proxy.drain_until is None:
            state = "takes new sessions"
        else:
            state = f"takes no new session; the last end at {proxy.drain_until:%Y-%m-%d %H:%M:%S} UTC"
        return SuccessAnswer(success=True, displaytext=f"{proxy.instance_name} {state}")
