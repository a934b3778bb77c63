# SPDX-License-Identifier: Apache-2.0
"""The daemon's control channel and one booted CPVM after another; runs in a network namespace.

Each stage prints its observations as one line of JSON, which `test_time_and_identity.py` checks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from twisted.internet import asyncioreactor  # noqa: E402

asyncioreactor.install()

from twisted.internet import reactor  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.task import deferLater, react  # noqa: E402
from twisted.internet.threads import deferToThread  # noqa: E402

from benchmark.single_guest import SingleGuest  # noqa: E402
from matrix.plain_guest import guest_agent_arguments  # noqa: E402
from systemvm.management.control.ca_rotation import CaRotation  # noqa: E402
from systemvm.management.control.certificates import AgentCertificates  # noqa: E402
from systemvm.management.control.channel import ControlChannel  # noqa: E402
from systemvm.management.control.clock import ClockMonitor  # noqa: E402
from systemvm.management.control.directory import AgentDirectory  # noqa: E402
from systemvm.management.control.refusal_recorder import RefusalRecorder  # noqa: E402
from systemvm.management.first_start import make_first_accounts  # noqa: E402
from systemvm.management.hypervisors.guest_agent import GuestAgent  # noqa: E402
from systemvm.management.pki import control as pki_control  # noqa: E402
from systemvm.management.pki.control import ControlAuthority, DaemonIdentity  # noqa: E402
from systemvm.management.pki.control_roots import Phase  # noqa: E402
from systemvm.management.pki.seal import Seal  # noqa: E402
from systemvm.management.state import instances, schema, zones  # noqa: E402
from systemvm.management.state.certificates import Certificate  # noqa: E402
from systemvm.management.state.database import Database  # noqa: E402
from systemvm.management.state.status import InstanceState, InstanceType  # noqa: E402
from systemvm.rpc.core.call import PeerCertificate  # noqa: E402
from systemvm.rpc.core.method import MethodTable  # noqa: E402
from systemvm.service.slowness import scaled_s  # noqa: E402
from systemvm.wire import boot_arguments  # noqa: E402
from systemvm.wire.role import CONTROL_PORT, Role  # noqa: E402

NAME = "v-2-VM"
BOOT_TIMEOUT_S = 300.0
REACTOR: Any = reactor
#: ssh's own exit code: on a busy machine an emulated sshd can need longer than ssh waits.
SSH_FAILED, SSH_ATTEMPTS = 255, 4
#: The certificate of the first start expires while that machine runs, like a real one on its second day.
FIRST_LIFETIME = timedelta(seconds=300)
SHORT_LIFETIME = timedelta(seconds=30)


class Guest(SingleGuest):
    """A CPVM with a wrong RTC, the host's time in its boot arguments, and a channel of the guest agent."""

    rtc_offset = timedelta(0)
    process: subprocess.Popen[bytes]

    @property
    def agent_socket(self) -> Path:
        return self.serial_log.with_name("guest-agent.sock")

    def boot_arguments(self) -> str:
        return f"{super().boot_arguments()} {boot_arguments.CLOCK}={time.time():.0f}"

    def command(self) -> list[str]:
        rtc = (datetime.now(UTC) + self.rtc_offset).strftime("%Y-%m-%dT%H:%M:%S")
        return [*super().command(), "-rtc", f"base={rtc}", *guest_agent_arguments(self.agent_socket)]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command())

    async def run(self, command: str) -> str:
        """Return the output of a command that runs in the guest, by ssh."""
        for _ in range(SSH_ATTEMPTS):
            done = await deferToThread(self.ssh, command)
            if done.returncode != SSH_FAILED:
                break
        if done.returncode != 0:
            raise SystemExit(f"error: {command}: {done.stderr}")
        output: str = done.stdout
        return output

    async def clock_ahead_s(self) -> float:
        return float(await self.run("date +%s")) - time.time()


class ControlPlane:
    """The parts of the daemon that control one guest, and that guest."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.database = Database.open(work / "db")
        make_first_accounts(self.database, Seal.open_key(work), work / "login")
        self.database.run_now(_fill)
        self.running = False
        self.first_expiry_s = 0.0  # UNIX time: when the certificate of this start expires
        self.may_set_clock = False
        self.corrected: list[str] = []
        self.authority = ControlAuthority.open(work)
        self.guest = Guest(Role.CPVM, work, self.authority, 2222, 256)
        self.directory = AgentDirectory(lambda name: self.running)
        self.agent = self.directory.expect(NAME, Role.CPVM)
        self.certificates = AgentCertificates(self.database, self.directory, self.authority, REACTOR)
        self.certificates.subscribe()
        clocks = ClockMonitor(self.directory, self._set_clock)
        clocks.subscribe()
        self.channel = ControlChannel(
            REACTOR,
            self.directory,
            self.authority,
            MethodTable("daemon", "1"),
            host_uuid="host",
            ping_interval_s=1.0,
            clocks=clocks,
            on_refused=RefusalRecorder(self.database, self.directory, REACTOR.seconds, clocks.doubted),
        )
        self.rotation = CaRotation(
            REACTOR, self.directory, self.authority, lambda name: self.running, self.channel.recheck
        )
        self.rotation.subscribe()

    async def start(self) -> None:
        await self.channel.listen(DaemonIdentity(self.authority, "host"), "127.0.0.1", CONTROL_PORT)
        self.certificates.start(self.channel.recheck)

    async def stop(self) -> None:
        self.certificates.stop()
        self.rotation.stop()
        await self.channel.close()

    async def _set_clock(self, name: str, unix_s: float) -> None:
        """Set the guest's clock like the daemon, in the stage that allows it."""
        if not self.may_set_clock:
            raise LookupError("not in this stage")
        await GuestAgent.on_socket(name, self.guest.agent_socket).set_time(unix_s)
        self.corrected.append(name)

    @asynccontextmanager
    async def booted(self, rtc_offset: timedelta) -> AsyncIterator[Guest]:
        guest, began_s = self.guest, time.monotonic()
        guest.rtc_offset = rtc_offset
        self.agent.hello, self.agent.trusts = None, ""
        self.first_expiry_s = time.time() + pki_control.BOOTSTRAP_LIFETIME.total_seconds()
        guest.start()
        self.running = True
        try:
            await until("Up", lambda: self.agent.is_up, BOOT_TIMEOUT_S)
            # also with a renewed certificate: the bootstrap one is only for the start
            await until("a renewed certificate", lambda: self.agent.trusts != "", 60.0)
            sys.stderr.write(f"Up after {time.monotonic() - began_s:.0f} s\n")
            yield guest
        except BaseException:
            sys.stderr.write(guest.serial_log.read_text(errors="replace")[-4000:])
            sys.stderr.write(f"{self.status()}\n")
            raise
        finally:
            self.running = False
            guest.process.kill()
            guest.process.wait()
            await until("its disconnection", lambda: self.agent.peer is None, 90.0)

    def skew_s(self) -> float:
        assert self.agent.hello is not None
        return self.agent.hello.clock_unix_s - time.time()

    def presented(self) -> PeerCertificate | None:
        """Return the certificate that the agent presented on its connection."""
        peer = self.agent.peer
        return peer.caller.certificate if peer is not None else None

    def status(self) -> list[str]:
        return [self.agent.status.state.value, self.agent.status.reason, self.agent.status.hint]

    async def newest(self) -> Certificate:
        """Return the last certificate that the agent had signed."""
        await self.database.run(lambda connection: None)  # after what the writer has queued
        return next(row for row in await self.certificates.newest(NAME) if row.kind == "agent")


def _fill(connection: Any) -> None:
    zone = zones.put_zone(connection, "zone1", arch="amd64")
    for kind in (InstanceType.SECONDARY_STORAGE, InstanceType.CONSOLE_PROXY):
        vm = instances.create(connection, kind, account_id=1, zone_id=zone.id)
        instances.update(connection, vm.id, state=InstanceState.RUNNING)
    # QEMU's user network connects for the guest from loopback
    connection.execute(
        schema.nics.insert().values(
            vm_id=vm.id, device=0, traffic_type="control", bridge="cloud0", mac="0e:00:a9:fe:0a:02",
            address="127.0.0.1",
        )
    )  # fmt: skip


async def until(what: str, condition: Callable[[], bool], timeout_s: float) -> None:
    deadline_s = time.monotonic() + scaled_s(timeout_s)
    while not condition():
        if time.monotonic() > deadline_s:
            raise SystemExit(f"error: waited {scaled_s(timeout_s):.0f} s for {what}")
        await deferLater(REACTOR, 0.1)


def report(stage: str, **observed: Any) -> None:
    sys.stdout.write(json.dumps({"stage": stage, **observed}) + "\n")
    sys.stdout.flush()


async def boot_a_day_behind(plane: ControlPlane) -> None:
    """Boot with an RTC a day behind; move its clock, rotate the CA, revoke its keys, reset from inside."""
    pki_control.BOOTSTRAP_LIFETIME, normal = FIRST_LIFETIME, pki_control.BOOTSTRAP_LIFETIME
    async with plane.booted(timedelta(days=-1)) as guest:
        pki_control.BOOTSTRAP_LIFETIME = normal
        report("behind", skew_s=plane.skew_s(), status=plane.status())

        async def move_clock(by_s: float) -> None:
            await guest.run(f"date -u -s @$(( $(date +%s) + {by_s:.0f} ))")

        await move_clock(10800)
        await until("the alert", lambda: "h ahead" in plane.agent.status.reason, 120.0)
        alert = plane.status()
        await move_clock(-10800)
        await until("Up again", lambda: plane.agent.is_up, 120.0)
        report("moved", alert=alert, after=plane.status())
        plane.may_set_clock = True
        await move_clock(-7200)
        await until("the correction of its clock", lambda: plane.corrected != [], 120.0)
        ahead_s = await guest.clock_ahead_s()
        await until("Up again", lambda: plane.agent.is_up, 120.0)
        report("corrected", skew_s=ahead_s, status=plane.status())

        # the control CA is replaced during the connection
        old = plane.authority.authority.key_id
        plane.rotation.start()
        plane.rotation.begin()
        await until("the end of the CA rotation", lambda: plane.authority.phase is Phase.STEADY, 180.0)
        fresh = plane.authority.authority.key_id

        def on_new_ca() -> bool:
            presented = plane.presented()
            return plane.agent.is_up and presented is not None and presented.authority_key_id == fresh

        await until("a connection under the new CA", on_new_ca, 90.0)
        report("rotated", changed=old != fresh, status=plane.status())

        # its certificates are revoked: the one of its connection, and any newer one
        peer, presented = plane.agent.peer, plane.presented()
        assert peer is not None and presented is not None
        await plane.certificates.revoke(presented.serial, "lost")
        disconnected = peer.closed
        await plane.certificates.revoke((await plane.newest()).serial, "lost")
        await until("a refusal", lambda: "was refused" in plane.agent.status.reason, 90.0)
        report("revoked", disconnected_at_once=disconnected, status=plane.status())

        await until(
            "the expiry of its first certificate",
            lambda: time.time() > plane.first_expiry_s,
            FIRST_LIFETIME.total_seconds(),
        )
        await guest.run("nohup sh -c 'sleep 1; systemctl reboot -ff' > /dev/null 2>&1 &")
        # QEMU ends instead of restarting the guest with its old credentials: the reconciler starts it
        await until("the end of QEMU", lambda: guest.process.poll() is not None, 60.0)


async def boot_a_day_ahead(plane: ControlPlane) -> None:
    """Boot with an RTC a day ahead; cut its power, let its certificate expire, and boot again."""
    pki_control.ISSUED_LIFETIME, normal = SHORT_LIFETIME, pki_control.ISSUED_LIFETIME
    async with plane.booted(timedelta(days=1)):
        pki_control.ISSUED_LIFETIME = normal
        report("ahead", skew_s=plane.skew_s(), status=plane.status())
    first = await plane.newest()
    expiry_s = first.not_after.timestamp()
    await until(
        "the expiry of its certificate",
        lambda: time.time() > expiry_s,
        SHORT_LIFETIME.total_seconds() + BOOT_TIMEOUT_S,
    )
    async with plane.booted(timedelta(0)):
        report("expired", status=plane.status(), replaced=(await plane.newest()).serial != first.serial)


async def main(_: Any) -> None:
    await deferLater(REACTOR, 0.0)  # react() calls this before asyncio's loop runs
    plane = ControlPlane(Path(sys.argv[1]))
    await plane.start()
    try:
        await boot_a_day_behind(plane)
        await boot_a_day_ahead(plane)
    finally:
        await plane.stop()
        plane.database.close()


if __name__ == "__main__":
    react(lambda _: Deferred.fromCoroutine(main(_)))
