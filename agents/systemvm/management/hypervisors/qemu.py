# SPDX-License-Identifier: Apache-2.0
"""The embedded driver: QEMU processes, each controlled through its own QMP socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve
from twisted.logger import Logger

from systemvm.host.accelerator import Accelerator, GuestTimeoutScale
from systemvm.management.asyncio_bridge import in_asyncio, in_twisted
from systemvm.management.hypervisors import (
    qemu_arguments,
    qemu_output,
    screen_files,
    serial_listener,
    smbios,
)
from systemvm.management.hypervisors.base import (
    DomainSpec,
    DomainState,
    DomainStatus,
    ExitCallback,
    ExitReason,
    Taps,
)
from systemvm.management.hypervisors.cd_drive import QemuCdDrive
from systemvm.management.hypervisors.data_disks import QemuDisks
from systemvm.management.hypervisors.errors import DomainNotFoundError, HypervisorError
from systemvm.management.hypervisors.guest_agent import GuestAgent
from systemvm.management.hypervisors.launchers import DirectLauncher, QemuLauncher
from systemvm.management.hypervisors.machine_record import MachineRecord, MachineRecords
from systemvm.management.hypervisors.process import DetachedProcess, is_listened_to
from systemvm.management.hypervisors.qemu_domain import QemuDomain
from systemvm.management.hypervisors.qemu_exit import exit_reason
from systemvm.management.hypervisors.qemu_program import QemuProgram, free_vnc_port
from systemvm.management.pki.screens import ScreenAuthority, ScreenIdentity
from systemvm.service.slowness import scaled_s

QUIT_S = 10.0
#: A new process gets the command line by which it is found within this time.
_EXEC_S = 10.0
_EXEC_POLL_S = 0.05
_VNC_ATTEMPTS = 5


class QemuHypervisor:
    """Runs machines as QEMU processes; see `base.Hypervisor`."""

    _log = Logger()

    def __init__(
        self,
        run_directory: Path,
        taps: Taps,
        accelerator: Accelerator,
        *,
        launcher: QemuLauncher | None = None,
        binary: str | None = None,
        vnc_ports: tuple[int, int] = (5900, 6100),
        screens: ScreenAuthority | None = None,
        vnc_tls: bool = True,
    ) -> None:
        """Without `screens` or `vnc_tls` new VNC servers have no TLS; those that have it keep it."""
        self._records = MachineRecords(run_directory)
        self._taps = taps
        self._program = QemuProgram(self._records, launcher or DirectLauncher(), accelerator, binary)
        self._guest_scale = GuestTimeoutScale(accelerator)
        self._screens = screens
        self._vnc_tls = vnc_tls and screens is not None
        self._vnc_ports = range(vnc_ports[0], vnc_ports[1] + 1)
        self._domains: dict[str, QemuDomain] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._callbacks: list[ExitCallback] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- the daemon's side: Deferreds -----------------------------------------------------------------

    async def start(self, spec: DomainSpec) -> DomainStatus:
        return await in_asyncio(self._start(spec))

    async def stop(self, name: str, *, forced: bool = False, timeout_s: float = 60.0) -> None:
        await in_asyncio(self._stop(name, forced, timeout_s))

    async def reset(self, name: str) -> None:
        await in_asyncio(self._command(name, "system_reset"))

    async def adopt(self) -> dict[str, DomainStatus]:
        return await in_asyncio(self._adopt())

    def status(self, name: str) -> DomainStatus | None:
        domain = self._domains.get(name)
        return domain.status if domain is not None else None

    def on_exit(self, callback: ExitCallback) -> None:
        self._callbacks.append(callback)

    async def screenshot(self, name: str) -> bytes:
        return await in_asyncio(self._running(name).screenshot())

    async def press(self, name: str, chords: Sequence[Sequence[int]]) -> None:
        await in_asyncio(self._running(name).press(chords))

    async def set_vnc_password(self, name: str, password: str) -> None:
        await in_asyncio(self._command(name, "set_password", protocol="vnc", password=password))

    async def renew_screens(self) -> None:
        await in_asyncio(self._renew_screens())

    def guest_agent(self, name: str) -> GuestAgent:
        return self._running(name).guest_agent

    def disks(self, name: str) -> QemuDisks:
        domain = self._running(name)
        return QemuDisks(name, domain.session, lambda: domain.guest_agent)

    def cd_drive(self, name: str) -> QemuCdDrive:
        return QemuCdDrive(name, self._running(name).session)

    async def condition(self, name: str) -> str:
        return await in_asyncio(self._running(name).query_state())

    async def resume(self, name: str) -> None:
        await in_asyncio(self._command(name, "cont"))

    async def close(self) -> None:
        await in_asyncio(self._close())

    # ---- asyncio's side -------------------------------------------------------------------------------

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _start(self, spec: DomainSpec) -> DomainStatus:
        self._program.check(spec)
        async with self._lock(spec.name):
            running = self._domains.get(spec.name)
            if running is not None and running.state.alive:
                raise HypervisorError(f"{spec.name} runs already: pid {running.process.pid}")
            self._records.open()
            credentials = smbios.credential_strings(spec.credentials)
            for attempt in range(1, _VNC_ATTEMPTS + 1):
                vnc_port = free_vnc_port(spec.vnc, self._vnc_ports) if spec.vnc is not None else None
                try:
                    return await self._launch(spec, vnc_port, credentials)
                except _PortTakenError as e:
                    # another process bound it between the check and QEMU's start
                    if attempt == _VNC_ATTEMPTS or (spec.vnc and spec.vnc.port):
                        raise HypervisorError(f"{spec.name}: {e.message}") from e
            raise AssertionError("the last attempt raises or returns")

    async def _launch(self, spec: DomainSpec, vnc_port: int | None, credentials: list[bytes]) -> DomainStatus:
        record = MachineRecord.of(spec, vnc_port, vnc_tls=self._vnc_tls and spec.vnc is not None)
        self._records.write(record)
        taps: list[int] = []
        screen: ScreenIdentity | None = None
        serial: socket.socket | None = None
        try:
            if record.vnc_tls and self._screens is not None:
                screen = self._screens.issue(spec.uuid, record.vnc_address or "")
                screen_files.write(self._records.screen_directory(spec.name), screen)
                record, serial = self._offer_serial(record, self._screens)
            for tap, nic in zip(record.taps, spec.nics, strict=True):
                isolated = nic.traffic_type == qemu_arguments.CONTROL
                made = self._taps.create_tap(tap, nic.bridge, isolated=isolated, vlan=nic.vlan)
                taps.append(await in_twisted(made))
            process = await self._program.spawn(spec, record, credentials, taps, serial)
        except BaseException:
            await self._clean(record)
            raise
        finally:
            for descriptor in taps:
                os.close(descriptor)  # QEMU has its own copy, and the tap is removed with the last one
            if serial is not None:
                serial.close()
        domain = QemuDomain(record, process, self._records, self._guest_scale, self._screens)
        domain.screen_renew_at = screen.renew_at if screen is not None else None
        self._domains[spec.name] = domain
        self._watch(domain)
        try:
            session = await domain.session()
            self._records.forget_credentials(spec.name)
            if spec.vnc is not None:
                await session.execute(
                    "set_password", {"protocol": "vnc", "password": spec.vnc.password, "connected": "keep"}
                )
            await session.execute("cont")
            domain.is_started = True
            await domain.hold_guest_agent()
        except BaseException as e:
            stderr = await self._end_failed_start(domain)
            if isinstance(e, HypervisorError):
                self._raise_start_error(spec.name, e, stderr)
            raise
        self._log.info(
            "{name}: started, pid {pid}, {memory} MiB, {accelerator}",
            name=spec.name, pid=domain.process.pid,
            memory=spec.memory_mib, accelerator=self._program.accelerator.value,
        )  # fmt: skip
        return domain.status

    def _offer_serial(
        self, record: MachineRecord, screens: ScreenAuthority
    ) -> tuple[MachineRecord, socket.socket]:
        """Listen for the client of the serial port, where the screen is; return the record with its place."""
        address = record.vnc_address or ""
        identity = screens.issue_serial(record.uuid, address)
        screen_files.write(self._records.serial_directory(record.name), identity)
        listener = serial_listener.listen(address, self._vnc_ports, taken=record.vnc_port)
        record = evolve(
            record, serial_port=listener.getsockname()[1], serial_fingerprint=identity.fingerprint
        )
        self._records.write(record)
        return record, listener

    async def _end_failed_start(self, domain: QemuDomain) -> str:
        """End a machine that has not started, and return the end of QEMU's stderr."""
        self._domains.pop(domain.record.name, None)
        domain.is_started = False
        await domain.process.kill()
        await domain.has_ended_within(scaled_s(QUIT_S))
        return domain.stderr

    @staticmethod
    def _raise_start_error(name: str, error: HypervisorError, stderr: str) -> None:
        if qemu_output.is_port_taken(stderr):
            raise _PortTakenError(stderr) from error
        message = f"{name}: QEMU did not start: {stderr}" if stderr else error.message
        raise HypervisorError(message, error.hint) from error

    # ---- the end of a machine -------------------------------------------------------------------------

    def _watch(self, domain: QemuDomain) -> None:
        def ended() -> None:
            task = asyncio.get_running_loop().create_task(self._ended(domain))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        domain.process.watch(ended)

    async def _ended(self, domain: QemuDomain) -> None:
        code = await domain.process.exit_code()
        events = await domain.shutdown_events()
        domain.process.release()
        domain.reason = exit_reason(domain.is_stop_requested, events, code, had_session=domain.has_session)
        domain.state = DomainState.EXITED
        name = domain.record.name
        domain.stderr = self._records.stderr_tail(name)
        await self._clean(domain.record)
        if not domain.ended.done():
            domain.ended.set_result(domain.reason)
        if not domain.is_started:
            return
        self._log.info(
            "{name}: ended ({reason}) {stderr}", name=name, reason=domain.reason.value, stderr=domain.stderr
        )
        for callback in list(self._callbacks):
            try:
                callback(name, domain.reason)
            except Exception:
                self._log.failure("{name}: an exit callback failed", name=name)

    async def _clean(self, record: MachineRecord) -> None:
        for tap in record.taps:
            try:
                await in_twisted(self._taps.remove_tap(tap))
            except Exception:
                self._log.failure("{name}: tap {tap} cannot be removed", name=record.name, tap=tap)
        self._records.forget(record.name)

    async def _stop(self, name: str, forced: bool, timeout_s: float) -> None:
        async with self._lock(name):
            domain = self._domains.get(name)
            if domain is None or not domain.state.alive:
                return
            domain.is_stop_requested = True
            if (
                not forced
                and await self._try(domain, "system_powerdown")
                and await domain.has_ended_within(timeout_s)
            ):
                return
            if await self._try(domain, "quit") and await domain.has_ended_within(scaled_s(QUIT_S)):
                return
            self._log.warn("{name}: QEMU did not quit: killing it", name=name)
            await domain.process.kill()
            if not await domain.has_ended_within(scaled_s(QUIT_S)):
                raise HypervisorError(f"{name}: QEMU cannot be ended: pid {domain.process.pid}")

    async def _try(self, domain: QemuDomain, command: str) -> bool:
        try:
            await (await domain.session()).execute(command, timeout_s=QUIT_S)
        except HypervisorError as e:
            if domain.state.alive:
                self._log.warn("{why}", why=e.message)
        return domain.state.alive or domain.ended.done()

    # ---- adoption -------------------------------------------------------------------------------------

    async def _adopt(self) -> dict[str, DomainStatus]:
        self._records.open()
        found: dict[str, DomainStatus] = {}
        for record in self._records.all():
            if record.name not in self._domains:
                found[record.name] = await self._adopt_one(record)
        return found

    async def _adopt_one(self, record: MachineRecord) -> DomainStatus:
        gone = DomainStatus(record.name, record.uuid, DomainState.EXITED, exit_reason=ExitReason.UNKNOWN)
        process = await self._find(record)
        if process is None:
            self._log.info("{name}: ended while no daemon ran", name=record.name)
            await self._clean(record)
            return gone
        domain = QemuDomain(record, process, self._records, self._guest_scale, self._screens)
        domain.is_started = True
        self._domains[record.name] = domain
        self._watch(domain)
        try:
            state = await domain.query_state()
        except HypervisorError as e:
            # it runs, so it must not be ended; each later command connects to its monitor again
            self._log.warn("adopted, but its monitor does not answer: {why}", why=e.message)
            return domain.status
        self._records.forget_credentials(record.name)
        if state == "prelaunch":
            self._log.info("{name}: ended, because its start was not complete", name=record.name)
            await self._end_failed_start(domain)
            return gone
        domain.state = DomainState.PAUSED if state == "paused" else DomainState.RUNNING
        await self._renew_screen(domain)
        await domain.hold_guest_agent()
        self._log.info("{name}: adopted, pid {pid}, {state}", name=record.name, pid=process.pid, state=state)
        return domain.status

    async def _find(self, record: MachineRecord) -> DetachedProcess | None:
        """Find the process of a machine by the UUID on its command line.

        Between fork and exec the command line is another one. The monitor's socket listens before QEMU starts
        and only QEMU inherits it: while it listens, the process exists, and no second one must be started.
        """
        deadline = asyncio.get_running_loop().time() + scaled_s(_EXEC_S)
        while (process := await DetachedProcess.find(self._program.launcher, record.uuid)) is None:
            if not is_listened_to(self._records.path(record.name, "monitor")):
                return None
            if asyncio.get_running_loop().time() > deadline:
                # That process holds the lock of the disk: the start of a second one fails with that reason.
                self._log.error(
                    "{name}: an unknown process holds its monitor; run `ss -xlp` to find it",
                    name=record.name,
                )
                return None
            await asyncio.sleep(_EXEC_POLL_S)  # between fork and exec, which has no event
        return process

    # ---- certificates of VNC servers ------------------------------------------------------------------

    async def _renew_screens(self) -> None:
        for domain in list(self._domains.values()):
            if domain.state.alive:
                await self._renew_screen(domain)

    async def _renew_screen(self, domain: QemuDomain) -> None:
        name = domain.record.name
        try:
            if await domain.renew_screen():
                self._log.info("{name}: its VNC server has a new certificate", name=name)
        except (HypervisorError, OSError) as e:
            self._log.warn(
                "{name}: certificate of its VNC server cannot be renewed: {why}", name=name, why=str(e)
            )

    # ---- commands -------------------------------------------------------------------------------------

    def _running(self, name: str) -> QemuDomain:
        domain = self._domains.get(name)
        if domain is None or not domain.state.alive:
            raise DomainNotFoundError(f"{name} does not run")
        return domain

    async def _command(self, name: str, command: str, **arguments: object) -> None:
        session = await self._running(name).session()
        await session.execute(command, arguments or None)

    async def _close(self) -> None:
        for domain in list(self._domains.values()):
            await domain.release()
        self._domains.clear()
        for task in list(self._tasks):
            await task


class _PortTakenError(HypervisorError):
    """Another process has bound the VNC port."""
