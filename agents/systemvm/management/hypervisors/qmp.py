# SPDX-License-Identifier: Apache-2.0
"""One QMP session with deadlines and readable errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from qemu.qmp import EventListener, ExecInterruptedError, ExecuteError, Message, QMPClient, QMPError
from qemu.qmp.error import ProtocolError
from qemu.qmp.protocol import Runstate, StateError

from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.process import connect_unix
from systemvm.service.slowness import scaled_s

COMMAND_TIMEOUT_S = 20.0
_DRAIN_S = 2.0


class QmpSession:
    """A connected monitor, for asyncio."""

    def __init__(self, name: str, client: QMPClient, shutdowns: EventListener) -> None:
        self._name = name
        self._client = client
        self._shutdowns = shutdowns

    @classmethod
    async def connect(cls, name: str, path: Path, *, timeout_s: float) -> QmpSession:
        """Connect and wait for QEMU's greeting.

        Raises: HypervisorError when QEMU cannot be reached or does not answer in time.
        """
        client = QMPClient(name)
        client.logger.disabled = True  # it logs every closed connection as an error
        timeout_s = scaled_s(timeout_s)
        shutdowns = EventListener(names=("SHUTDOWN", "GUEST_PANICKED"))
        client.register_listener(shutdowns)
        try:
            await asyncio.wait_for(client.connect(connect_unix(path)), timeout_s)
        except TimeoutError as e:
            raise HypervisorError(f"{name}: QEMU's monitor did not answer within {timeout_s:g} s") from e
        except (OSError, QMPError) as e:
            raise HypervisorError(f"{name}: QEMU's monitor cannot be reached: {e}") from e
        return cls(name, client, shutdowns)

    @property
    def connected(self) -> bool:
        return self._client.runstate is Runstate.RUNNING

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> Any:
        """Run a command and return QEMU's answer.

        Raises: HypervisorError with the command, but without its arguments, which can be secret.
        """
        timeout_s = scaled_s(timeout_s)
        try:
            return await asyncio.wait_for(self._client.execute(command, arguments), timeout_s)
        except TimeoutError as e:
            raise HypervisorError(
                f"{self._name}: QEMU did not answer {command} within {timeout_s:g} s"
            ) from e
        except ExecuteError as e:
            raise HypervisorError(f"{self._name}: QEMU rejected {command}: {e}") from e
        except (ExecInterruptedError, StateError, ProtocolError, OSError, EOFError) as e:
            raise HypervisorError(f"{self._name}: QEMU ended during {command}") from e

    async def execute_until(
        self,
        command: str,
        arguments: Mapping[str, object],
        events: tuple[str, ...],
        is_wanted: Callable[[Mapping[str, Any]], bool],
        *,
        timeout_s: float | None = COMMAND_TIMEOUT_S,
        during: contextlib.AbstractAsyncContextManager[None] | None = None,
    ) -> Mapping[str, Any]:
        """Run a command, wait for its event and return the event's data; a `timeout_s` of None is none.

        The command runs in `during`; the wait for its event does not.

        Raises: HypervisorError when QEMU ends or the event does not come within `timeout_s`.
        """

        def is_ours(message: Message) -> bool:
            return is_wanted(cast(Mapping[str, Any], message.get("data") or {}))

        with self._client.listener(events, is_ours) as listener:
            async with during or contextlib.nullcontext():
                await self.execute(command, arguments)
            timeout_s = None if timeout_s is None else scaled_s(timeout_s)
            waiting = asyncio.ensure_future(listener.get())
            ended = asyncio.ensure_future(self._ended())
            done, _ = await asyncio.wait(
                (waiting, ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            for task in (waiting, ended):
                task.cancel()
            if waiting in done:
                return cast(Mapping[str, Any], waiting.result().get("data") or {})
        why = "ended" if done else f"did not send {events[0]} within {timeout_s:g} s"
        raise HypervisorError(f"{self._name}: QEMU {why} after {command}")

    async def _ended(self) -> None:
        while self.connected:
            await self._client.runstate_changed()

    async def lend(self, descriptor: int) -> str:
        """Return a name by which QEMU can open our file until `take_back` (QMP's add-fd)."""
        try:
            self._client.send_fd_scm(descriptor)
        except (OSError, QMPError, AssertionError) as e:
            raise HypervisorError(f"{self._name}: QEMU did not accept a descriptor: {e}") from e
        answer = await self.execute("add-fd")
        return f"/dev/fdset/{answer['fdset-id']}"

    async def take_back(self, name: str) -> None:
        await self.execute("remove-fd", {"fdset-id": int(name.rpartition("/")[2])})

    async def shutdown_events(self) -> list[tuple[str, str]]:
        """Return (event, reason) of every event about the end, after the process has ended."""
        with contextlib.suppress(TimeoutError):
            # the reader processes what is left in the socket, then closes
            async with asyncio.timeout(_DRAIN_S):
                while self.connected:
                    await self._client.runstate_changed()
        await self.close()
        events: list[tuple[str, str]] = []
        for event in self._shutdowns.history:
            data = cast(Mapping[str, object], event.get("data") or {})
            events.append((str(event["event"]), str(data.get("reason", ""))))
        return events

    async def close(self) -> None:
        """Close the monitor; the machine continues."""
        with contextlib.suppress(Exception):  # it raises the reason for which the session has ended already
            await asyncio.wait_for(self._client.disconnect(), COMMAND_TIMEOUT_S)
