# SPDX-License-Identifier: Apache-2.0
"""One QMP session, with deadlines, and with errors that a person understands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from qemu.qmp import EventListener, ExecInterruptedError, ExecuteError, QMPClient, QMPError
from qemu.qmp.error import ProtocolError
from qemu.qmp.protocol import Runstate, StateError

from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.process import connect_unix
from systemvm.service.slowness import scaled_s

COMMAND_TIMEOUT_S = 20.0
_DRAIN_S = 2.0


class QmpSession:
    """A connected monitor; asyncio's side of the driver."""

    def __init__(self, name: str, client: QMPClient, shutdowns: EventListener) -> None:
        self._name = name
        self._client = client
        self._shutdowns = shutdowns

    @classmethod
    async def connect(cls, name: str, path: Path, *, timeout_s: float) -> QmpSession:
        """Wait for QEMU's greeting; HypervisorError when there is none in time."""
        client = QMPClient(name)
        client.logger.disabled = True  # it reports every closed connection as an error of its own
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
        """QEMU's answer. Errors name the command and never its arguments, which may be secret."""
        timeout_s = scaled_s(timeout_s)
        try:
            return await asyncio.wait_for(self._client.execute(command, arguments), timeout_s)
        except TimeoutError as e:
            raise HypervisorError(
                f"{self._name}: QEMU did not answer {command} within {timeout_s:g} s"
            ) from e
        except ExecuteError as e:
            raise HypervisorError(f"{self._name}: QEMU refused {command}: {e}") from e
        except (ExecInterruptedError, StateError, ProtocolError, OSError, EOFError) as e:
            raise HypervisorError(f"{self._name}: QEMU ended during {command}") from e

    async def lend(self, descriptor: int) -> str:
        """A name under which QEMU can open a file of ours, until `take_back` (QMP's add-fd)."""
        try:
            self._client.send_fd_scm(descriptor)
        except (OSError, QMPError, AssertionError) as e:
            raise HypervisorError(f"{self._name}: QEMU cannot be handed a file: {e}") from e
        answer = await self.execute("add-fd")
        return f"/dev/fdset/{answer['fdset-id']}"

    async def take_back(self, name: str) -> None:
        await self.execute("remove-fd", {"fdset-id": int(name.rpartition("/")[2])})

    async def last_words(self) -> list[tuple[str, str]]:
        """After the process ended: (event, reason) of all that it said about its end."""
        with contextlib.suppress(TimeoutError):
            # the reader takes what is left in the socket, then meets its end
            async with asyncio.timeout(_DRAIN_S):
                while self.connected:
                    await self._client.runstate_changed()
        await self.close()
        said: list[tuple[str, str]] = []
        for event in self._shutdowns.history:
            data = cast(Mapping[str, object], event.get("data") or {})
            said.append((str(event["event"]), str(data.get("reason", ""))))
        return said

    async def close(self) -> None:
        """Let go of the monitor; the machine lives on."""
        with contextlib.suppress(Exception):  # it raises whatever ended the session, which is no news here
            await asyncio.wait_for(self._client.disconnect(), COMMAND_TIMEOUT_S)
