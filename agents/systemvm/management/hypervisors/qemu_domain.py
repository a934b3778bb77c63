# SPDX-License-Identifier: Apache-2.0
"""One QEMU machine that runs: its process, its monitor, its guest agent and its end. For asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from systemvm.management.hypervisors import screen_files
from systemvm.management.hypervisors.base import DomainState, DomainStatus, ExitReason
from systemvm.management.hypervisors.guest_agent import USER_LINE_LIMIT_BYTES, GuestAgent
from systemvm.management.hypervisors.guest_agent_session import LINE_LIMIT_BYTES
from systemvm.management.hypervisors.machine_record import MachineRecord, MachineRecords
from systemvm.management.hypervisors.process import DetachedProcess
from systemvm.management.hypervisors.qmp import QmpSession
from systemvm.management.pki.screens import ScreenAuthority
from systemvm.service.slowness import TimeoutScale

GREETING_S = 30.0
#: How long a key is held, and how long until the next: a PS/2 keyboard has room for 16 bytes.
KEY_S = 0.01


class QemuDomain:
    """A machine and the connections to it; `ended` is resolved when its process has ended."""

    def __init__(
        self,
        record: MachineRecord,
        process: DetachedProcess,
        records: MachineRecords,
        guest_scale: TimeoutScale,
        screens: ScreenAuthority | None = None,
    ) -> None:
        self.record = record
        self.process = process
        self._records = records
        self._guest_scale = guest_scale
        self._screens = screens
        self._session: QmpSession | None = None
        self._guest_agent: GuestAgent | None = None
        self._connecting = asyncio.Lock()  # QEMU serves one client of its monitor
        self._keyboard = asyncio.Lock()
        self.is_stop_requested = False
        self.is_started = False  # before that, an end is the failure of its start and no callback runs
        self.stderr = ""  # the last lines of QEMU's stderr
        self.screen_renew_at: datetime | None = None  # None: its certificate is of an earlier daemon
        self.ended: asyncio.Future[ExitReason] = asyncio.get_running_loop().create_future()
        self.state = DomainState.RUNNING
        self.reason: ExitReason | None = None

    @property
    def status(self) -> DomainStatus:
        record = self.record
        return DomainStatus(
            record.name,
            record.uuid,
            self.state,
            self.process.pid if self.state.alive else None,
            self.reason,
            record.vnc_address,
            record.vnc_port,
            self._screens.ca_pem.decode() if record.vnc_tls and self._screens is not None else None,
            record.serial_port,
            record.serial_fingerprint,
            record.has_config_drive,
        )

    @property
    def has_session(self) -> bool:
        """Whether the monitor was ever connected."""
        return self._session is not None

    async def session(self) -> QmpSession:
        """Return the monitor, connected again if necessary.

        Raises: HypervisorError when QEMU does not answer.
        """
        async with self._connecting:
            if self._session is None or not self._session.connected:
                name = self.record.name
                path = self._records.path(name, "monitor")
                self._session = await QmpSession.connect(name, path, timeout_s=GREETING_S)
            return self._session

    async def shutdown_events(self) -> list[tuple[str, str]]:
        """Return the events about its end, after the process has ended."""
        return [] if self._session is None else await self._session.shutdown_events()

    @property
    def guest_agent(self) -> GuestAgent:
        if self._guest_agent is None:
            channel = self._records.path(self.record.name, "agent")
            limit_bytes = LINE_LIMIT_BYTES if self.record.is_system else USER_LINE_LIMIT_BYTES
            self._guest_agent = GuestAgent.on_socket(
                self.record.name, channel, self._guest_scale, limit_bytes
            )
        return self._guest_agent

    async def hold_guest_agent(self) -> None:
        """Connect the channel if there is one: a guest's program on a channel without a client polls."""
        if self._records.path(self.record.name, "agent").exists():
            await self.guest_agent.hold()

    async def query_state(self) -> str:
        """Return QEMU's run state: running, paused, prelaunch, …"""
        answer = await (await self.session()).execute("query-status")
        return str(answer["status"])

    async def press(self, chords: Sequence[Sequence[int]]) -> None:
        """Press and release the keys of each chord; whoever else types on this machine waits."""
        async with self._keyboard:
            session = await self.session()
            for chord in chords:
                try:
                    await session.execute("input-send-event", _key_events(chord, down=True))
                    await asyncio.sleep(KEY_S)
                finally:
                    await session.execute("input-send-event", _key_events(chord[::-1], down=False))
                await asyncio.sleep(KEY_S)

    async def renew_screen(self) -> bool:
        """Give the VNC server a new certificate if it is due; open connections continue.

        Return whether it was. After an adoption it always is: its CA and age are not known then.
        Raises: HypervisorError when QEMU does not take it; the next call tries again.
        """
        record, screens = self.record, self._screens
        if screens is None or not record.vnc_tls:
            return False
        if self.screen_renew_at is not None and screens.now() < self.screen_renew_at:
            return False
        identity = screens.issue(record.uuid, record.vnc_address or "")
        screen_files.write(self._records.screen_directory(record.name), identity)
        await (await self.session()).execute("display-reload", {"type": "vnc", "tls-certs": True})
        self.screen_renew_at = identity.renew_at
        return True

    async def screenshot(self) -> bytes:
        """Return the screen as PPM (P6)."""
        session = await self.session()
        path = self._records.path(self.record.name, "ppm")
        try:
            # QEMU writes through our descriptor: it must not create files in this directory
            with path.open("wb") as picture:
                lent = await session.lend(picture.fileno())
            try:
                await session.execute("screendump", {"filename": lent, "format": "ppm"})
            finally:
                await session.take_back(lent)
            return path.read_bytes()
        finally:
            path.unlink(missing_ok=True)

    async def has_ended_within(self, timeout_s: float) -> bool:
        """Wait for its end for at most `timeout_s`."""
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), timeout_s)
        except TimeoutError:
            return False
        return True

    async def release(self) -> None:
        """Close all connections; the machine continues."""
        if self._session is not None and self.state.alive:
            await self._session.close()
        if self._guest_agent is not None:
            self._guest_agent.release()
        self.process.release()


def _key_events(keys: Sequence[int], *, down: bool) -> dict[str, object]:
    events = [{"type": "key", "data": {"down": down, "key": {"type": "number", "data": key}}} for key in keys]
    return {"events": events}
