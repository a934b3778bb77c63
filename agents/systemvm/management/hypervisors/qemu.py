# SPDX-License-Identifier: Apache-2.0
"""The embedded driver: QEMU processes, each spoken to by its own QMP socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from twisted.logger import Logger

from systemvm.host.accelerator import Accelerator, GuestTimeoutScale
from systemvm.management.asyncio_bridge import in_asyncio, in_twisted
from systemvm.management.hypervisors import qemu_arguments, qemu_output, smbios
from systemvm.management.hypervisors.base import (
    DomainSpec,
    DomainState,
    DomainStatus,
    ExitCallback,
    ExitReason,
    Taps,
)
from systemvm.management.hypervisors.errors import DomainNotFoundError, HypervisorError
from systemvm.management.hypervisors.guest_agent import GuestAgent
from systemvm.management.hypervisors.launchers import DirectLauncher, Launcher
from systemvm.management.hypervisors.machine_record import MachineRecord, MachineRecords
from systemvm.management.hypervisors.process import DetachedProcess, is_listened_to
from systemvm.management.hypervisors.qemu_exit import exit_reason
from systemvm.management.hypervisors.qemu_program import QemuProgram, free_vnc_port
from systemvm.management.hypervisors.qmp import QmpSession
from systemvm.service.slowness import scaled_s

GREETING_S = 30.0
QUIT_S = 10.0
#: A process that was just forked gets its command line, by which it is known, within this.
_EXEC_S = 10.0
_EXEC_POLL_S = 0.05
_VNC_ATTEMPTS = 5


class _Domain:
    """A machine that runs: its process, its monitor, and the end that is waited for."""

    def __init__(self, record: MachineRecord, process: DetachedProcess) -> None:
        self.record = record
        self.process = process
        self.session: QmpSession | None = None
        self.guest_agent: GuestAgent | None = None  # made when somebody asks for it
        self.stop_asked = False
        self.started = False  # until then, whoever started it is told of its end, and nobody else
        self.said = ""  # QEMU's own last words
        self.ended: asyncio.Future[ExitReason] = asyncio.get_running_loop().create_future()
        self.state = DomainState.RUNNING
        self.reason: ExitReason | None = None

    @property
    def status(self) -> DomainStatus:
        record = self.record
        pid = self.process.pid if self.state.alive else None
        return DomainStatus(
            record.name, record.uuid, self.state, pid, self.reason, record.vnc_address, record.vnc_port
        )  # fmt: skip


class QemuHypervisor:
    """Runs machines as QEMU processes; see `base.Hypervisor`."""

    _log = Logger()

    def __init__(
        self,
        run_directory: Path,
        taps: Taps,
        accelerator: Accelerator,
        *,
        launcher: Launcher | None = None,
        binary: str | None = None,
        vnc_ports: tuple[int, int] = (5900, 6100),
    ) -> None:
        self._records = MachineRecords(run_directory)
        self._taps = taps
        self._program = QemuProgram(self._records, launcher or DirectLauncher(), accelerator, binary)
        self._guest_scale = GuestTimeoutScale(accelerator)
        self._vnc_ports = range(vnc_ports[0], vnc_ports[1] + 1)
        self._domains: dict[str, _Domain] = {}
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
        return await in_asyncio(self._screenshot(name))

    async def set_vnc_password(self, name: str, password: str) -> None:
        await in_asyncio(self._command(name, "set_password", protocol="vnc", password=password))

    def guest_agent(self, name: str) -> GuestAgent:
        """The way into a system VM that needs no network; DomainNotFoundError when it does not run."""
        return self._guest_agent_of(self._running(name))

    def _guest_agent_of(self, domain: _Domain) -> GuestAgent:
        if domain.guest_agent is None:
            name = domain.record.name
            channel = self._records.path(name, "agent")
            domain.guest_agent = GuestAgent.on_socket(name, channel, self._guest_scale)
        return domain.guest_agent

    async def _hold_guest_agent(self, domain: _Domain) -> None:
        """System VMs have the channel; a guest's program on a channel without a client polls."""
        if self._records.path(domain.record.name, "agent").exists():
            await self._guest_agent_of(domain).hold()

    async def condition(self, name: str) -> str:
        """QEMU's word for what the machine does: running, paused, io-error, guest-panicked, …"""
        return await in_asyncio(self._query_state(self._running(name)))

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
                raise HypervisorError(f"{spec.name} runs already (pid {running.process.pid})")
            self._records.open()
            credentials = smbios.credential_strings(spec.credentials)
            for attempt in range(1, _VNC_ATTEMPTS + 1):
                vnc_port = free_vnc_port(spec.vnc, self._vnc_ports) if spec.vnc is not None else None
                try:
                    return await self._launch(spec, vnc_port, credentials)
                except _PortTakenError as e:
                    # somebody bound it between our look and QEMU's start
                    if attempt == _VNC_ATTEMPTS or (spec.vnc and spec.vnc.port):
                        raise HypervisorError(f"{spec.name}: {e.message}") from e
            raise AssertionError("the last attempt raises or returns")

    async def _launch(self, spec: DomainSpec, vnc_port: int | None, credentials: list[bytes]) -> DomainStatus:
        record = MachineRecord.of(spec, vnc_port)
        self._records.write(record)
        taps: list[int] = []
        try:
            for tap, nic in zip(record.taps, spec.nics, strict=True):
                isolated = nic.traffic_type == qemu_arguments.CONTROL
                taps.append(await in_twisted(self._taps.create_tap(tap, nic.bridge, isolated=isolated)))
            process = await self._program.spawn(spec, record, credentials, taps)
        except BaseException:
            await self._clean(record)
            raise
        finally:
            for descriptor in taps:
                os.close(descriptor)  # QEMU has its own, and the tap goes with that
        domain = _Domain(record, process)
        self._domains[spec.name] = domain
        self._watch(domain)
        try:
            path = self._records.path(spec.name, "monitor")
            domain.session = await QmpSession.connect(spec.name, path, timeout_s=GREETING_S)
            self._records.forget_credentials(spec.name)
            if spec.vnc is not None:
                await domain.session.execute(
                    "set_password", {"protocol": "vnc", "password": spec.vnc.password, "connected": "keep"}
                )
            await domain.session.execute("cont")
            domain.started = True
            await self._hold_guest_agent(domain)
        except BaseException as e:
            said = await self._end_failed_start(domain)
            if isinstance(e, HypervisorError):
                self._raise_start_error(spec.name, e, said)
            raise
        self._log.info(
            "{name}: started, pid {pid}, {memory} MiB, {accelerator}",
            name=spec.name, pid=domain.process.pid,
            memory=spec.memory_mib, accelerator=self._program.accelerator.value,
        )  # fmt: skip
        return domain.status

    async def _end_failed_start(self, domain: _Domain) -> str:
        """End what half runs, and hand back what QEMU said."""
        self._domains.pop(domain.record.name, None)
        domain.started = False
        await domain.process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(domain.ended), scaled_s(QUIT_S))
        return domain.said

    @staticmethod
    def _raise_start_error(name: str, error: HypervisorError, said: str) -> None:
        if qemu_output.is_port_taken(said):
            raise _PortTakenError(said) from error
        message = f"{name}: QEMU did not start: {said}" if said else error.message
        raise HypervisorError(message, error.hint) from error

    # ---- the end of a machine -------------------------------------------------------------------------

    def _watch(self, domain: _Domain) -> None:
        def ended() -> None:
            task = asyncio.get_running_loop().create_task(self._ended(domain))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        domain.process.watch(ended)

    async def _ended(self, domain: _Domain) -> None:
        code = await domain.process.exit_code()
        said = await domain.session.last_words() if domain.session is not None else []
        domain.process.release()
        domain.reason = exit_reason(domain.stop_asked, said, code, was_heard=domain.session is not None)
        domain.state = DomainState.EXITED
        name = domain.record.name
        domain.said = self._records.stderr_tail(name)
        await self._clean(domain.record)
        if not domain.ended.done():
            domain.ended.set_result(domain.reason)
        if not domain.started:
            return
        self._log.info(
            "{name}: ended ({reason}) {said}", name=name, reason=domain.reason.value, said=domain.said
        )
        for callback in list(self._callbacks):
            try:
                callback(name, domain.reason)
            except Exception:
                self._log.failure("{name}: whoever waits for exits failed", name=name)

    async def _clean(self, record: MachineRecord) -> None:
        for tap in record.taps:
            try:
                await in_twisted(self._taps.remove_tap(tap))
            except Exception:
                self._log.failure("{name}: tap {tap} could not be removed", name=record.name, tap=tap)
        self._records.forget(record.name)

    async def _stop(self, name: str, forced: bool, timeout_s: float) -> None:
        async with self._lock(name):
            domain = self._domains.get(name)
            if domain is None or not domain.state.alive:
                return
            domain.stop_asked = True
            if (
                not forced
                and await self._try(domain, "system_powerdown")
                and await _within(domain, timeout_s)
            ):
                return
            if await self._try(domain, "quit") and await _within(domain, scaled_s(QUIT_S)):
                return
            self._log.warn("{name}: QEMU does not end by itself and is killed", name=name)
            await domain.process.kill()
            if not await _within(domain, scaled_s(QUIT_S)):
                raise HypervisorError(f"{name}: QEMU (pid {domain.process.pid}) cannot be ended")

    async def _try(self, domain: _Domain, command: str) -> bool:
        try:
            await (await self._session(domain)).execute(command, timeout_s=QUIT_S)
        except HypervisorError as e:
            if domain.state.alive:
                self._log.warn("{why}", why=e.message)
        return domain.state.alive or domain.ended.done()

    # ---- adoption -------------------------------------------------------------------------------------

    async def _adopt(self) -> dict[str, DomainStatus]:
        self._records.open()
        found: dict[str, DomainStatus] = {}
        for record in self._records.entries():
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
        domain = _Domain(record, process)
        domain.started = True
        self._domains[record.name] = domain
        self._watch(domain)
        try:
            state = await self._query_state(domain)
        except HypervisorError as e:
            # it lives, so it is not ours to end; each later command tries its monitor again
            self._log.warn("adopted with a monitor that does not answer: {why}", why=e.message)
            return domain.status
        self._records.forget_credentials(record.name)
        if state == "prelaunch":
            self._log.info("{name}: its start was never finished; ended", name=record.name)
            await self._end_failed_start(domain)
            return gone
        domain.state = DomainState.PAUSED if state == "paused" else DomainState.RUNNING
        await self._hold_guest_agent(domain)
        self._log.info("{name}: adopted, pid {pid}, {state}", name=record.name, pid=process.pid, state=state)
        return domain.status

    async def _find(self, record: MachineRecord) -> DetachedProcess | None:
        """By its UUID on its command line; right after a fork, by who holds its monitor.

        The monitor's socket was listened on before QEMU was started and is inherited by it alone: as long as
        somebody is there, the process is there too, and no second one of the machine may be started.
        """
        deadline = asyncio.get_running_loop().time() + scaled_s(_EXEC_S)
        while (process := await DetachedProcess.find(self._program.launcher, record.uuid)) is None:
            if not is_listened_to(self._records.path(record.name, "monitor")):
                return None
            if asyncio.get_running_loop().time() > deadline:
                # Whoever that is holds the disk's lock: the start of a second one fails, and says why.
                self._log.error(
                    "{name}: its monitor is held by a process that cannot be found; `ss -xlp` shows it",
                    name=record.name,
                )
                return None
            await asyncio.sleep(_EXEC_POLL_S)  # between fork and exec: the kernel tells nobody
        return process

    async def _query_state(self, domain: _Domain) -> str:
        answer = await (await self._session(domain)).execute("query-status")
        return str(answer["status"])

    # ---- commands -------------------------------------------------------------------------------------

    def _running(self, name: str) -> _Domain:
        domain = self._domains.get(name)
        if domain is None or not domain.state.alive:
            raise DomainNotFoundError(f"{name} does not run")
        return domain

    async def _session(self, domain: _Domain) -> QmpSession:
        if domain.session is None or not domain.session.connected:
            path = self._records.path(domain.record.name, "monitor")
            domain.session = await QmpSession.connect(domain.record.name, path, timeout_s=GREETING_S)
        return domain.session

    async def _command(self, name: str, command: str, **arguments: object) -> None:
        session = await self._session(self._running(name))
        await session.execute(command, arguments or None)

    async def _screenshot(self, name: str) -> bytes:
        session = await self._session(self._running(name))
        path = self._records.path(name, "png")
        try:
            # QEMU writes through our descriptor: it may not create files in this directory
            with path.open("wb") as picture:
                lent = await session.lend(picture.fileno())
            try:
                await session.execute("screendump", {"filename": lent, "format": "png"})
            finally:
                await session.take_back(lent)
            return path.read_bytes()
        finally:
            path.unlink(missing_ok=True)

    async def _close(self) -> None:
        for domain in list(self._domains.values()):
            if domain.session is not None and domain.state.alive:
                await domain.session.close()
            if domain.guest_agent is not None:
                domain.guest_agent.release()
            domain.process.release()
        self._domains.clear()
        for task in list(self._tasks):
            await task


class _PortTakenError(HypervisorError):
    pass


async def _within(domain: _Domain, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(asyncio.shield(domain.ended), timeout_s)
    except TimeoutError:
        return False
    return True
