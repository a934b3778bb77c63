# SPDX-License-Identifier: Apache-2.0
"""Run as a child in a network namespace: the daemon's control channel, and one booted CPVM after the other.

Each chapter prints one line of JSON: what was seen. `test_time_and_identity.py` judges.
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

from benchmark.lone_guest import LoneGuest  # noqa: E402
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
from systemvm.wire import boot_arguments  # noqa: E402
from systemvm.wire.role import CONTROL_PORT, Role  # noqa: E402

NAME = "v-2-VM"
BOOT_S = 300.0
REACTOR: Any = reactor
#: ssh's own exit code: on a crowded machine an emulated sshd may need longer than ssh waits.
SSH_FAILED, SSH_ATTEMPTS = 255, 4
#: The first start's certificate ends while that machine runs, as a day's does on the second day.
FIRST_DAY = timedelta(seconds=300)
SHORT = timedelta(seconds=30)


class Guest(LoneGuest):
    """A CPVM whose RTC is off, told the time as the daemon tells it, with a guest agent's channel."""

    rtc_off = timedelta(0)
    process: subprocess.Popen[bytes]

    @property
    def agent_socket(self) -> Path:
        return self.serial_log.with_name("guest-agent.sock")

    def boot_arguments(self) -> str:
        return f"{super().boot_arguments()} {boot_arguments.CLOCK}={time.time():.0f}"

    def command(self) -> list[str]:
        rtc = (datetime.now(UTC) + self.rtc_off).strftime("%Y-%m-%dT%H:%M:%S")
        return [*super().command(), "-rtc", f"base={rtc}", *guest_agent_arguments(self.agent_socket)]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command())

    async def on(self, command: str) -> str:
        """Return the output of a program in the guest, by ssh."""
        for _ in range(SSH_ATTEMPTS):
            done = await deferToThread(self.ssh, command)
            if done.returncode != SSH_FAILED:
                break
        if done.returncode != 0:
            raise SystemExit(f"error: {command}: {done.stderr}")
        said: str = done.stdout
        return said

    async def clock_ahead_s(self) -> float:
        return float(await self.on("date +%s")) - time.time()


class World:
    def __init__(self, work: Path) -> None:
        self.work = work
        self.database = Database.open(work / "db")
        make_first_accounts(self.database, Seal.open_key(work), work / "login")
        self.database.run_now(_fill)
        self.running = False
        self.first_ends_s = 0.0  # UNIX time: the end of the certificate that this start was given
        self.corrects = False
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
        """As the daemon does, in the chapter where it may."""
        if not self.corrects:
            raise LookupError("not in this chapter")
        await GuestAgent.on_socket(name, self.guest.agent_socket).set_time(unix_s)
        self.corrected.append(name)

    @asynccontextmanager
    async def booted(self, rtc_off: timedelta) -> AsyncIterator[Guest]:
        guest, begun_s = self.guest, time.monotonic()
        guest.rtc_off = rtc_off
        self.agent.hello, self.agent.trusts = None, ""
        self.first_ends_s = time.time() + pki_control.BOOTSTRAP_LIFETIME.total_seconds()
        guest.start()
        self.running = True
        try:
            await until("Up", lambda: self.agent.is_up, BOOT_S)
            # its own certificate too: the bootstrap one is for a start alone
            await until("a certificate of its own", lambda: self.agent.trusts != "", 60.0)
            sys.stderr.write(f"Up after {time.monotonic() - begun_s:.0f} s\n")
            yield guest
        except BaseException:
            sys.stderr.write(guest.serial_log.read_text(errors="replace")[-4000:])
            sys.stderr.write(f"{self.says()}\n")
            raise
        finally:
            self.running = False
            guest.process.kill()
            guest.process.wait()
            await until("its end to be seen", lambda: self.agent.peer is None, 90.0)

    def skew_s(self) -> float:
        assert self.agent.hello is not None
        return self.agent.hello.clock_unix_s - time.time()

    def shown(self) -> PeerCertificate | None:
        """Return the certificate of the agent's connection."""
        peer = self.agent.peer
        return peer.caller.certificate if peer is not None else None

    def says(self) -> list[str]:
        return [self.agent.status.state.value, self.agent.status.reason, self.agent.status.hint]

    async def newest(self) -> Certificate:
        """Return the last certificate that the agent had signed."""
        await self.database.run(lambda connection: None)  # the one writer has written it
        return next(row for row in await self.certificates.newest(NAME) if row.kind == "agent")


def _fill(connection: Any) -> None:
    zone = zones.put_zone(connection, "zone1", arch="amd64")
    for kind in (InstanceType.SECONDARY_STORAGE, InstanceType.CONSOLE_PROXY):
        vm = instances.create(connection, kind, account_id=1, zone_id=zone.id)
        instances.update(connection, vm.id, state=InstanceState.RUNNING)
    # QEMU's user network speaks for the guest from loopback
    connection.execute(
        schema.nics.insert().values(
            vm_id=vm.id, device=0, traffic_type="control", bridge="cloud0", mac="0e:00:a9:fe:0a:02",
            address="127.0.0.1",
        )
    )  # fmt: skip


async def until(what: str, condition: Callable[[], bool], timeout_s: float) -> None:
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_s:
            raise SystemExit(f"error: waited {timeout_s:.0f} s for {what}")
        await deferLater(REACTOR, 0.1)


def tell(chapter: str, **seen: Any) -> None:
    sys.stdout.write(json.dumps({"chapter": chapter, **seen}) + "\n")
    sys.stdout.flush()


async def a_day_behind(world: World) -> None:
    """A wrong RTC; a clock that goes wrong; another CA; a revocation; its own reset on its second day."""
    pki_control.BOOTSTRAP_LIFETIME, usual = FIRST_DAY, pki_control.BOOTSTRAP_LIFETIME
    async with world.booted(timedelta(days=-1)) as guest:
        pki_control.BOOTSTRAP_LIFETIME = usual
        tell("behind", skew_s=world.skew_s(), says=world.says())

        async def move_clock(by_s: float) -> None:
            await guest.on(f"date -u -s @$(( $(date +%s) + {by_s:.0f} ))")

        await move_clock(10800)
        await until("the alert", lambda: "h ahead" in world.agent.status.reason, 120.0)
        alert = world.says()
        await move_clock(-10800)
        await until("Up again", lambda: world.agent.is_up, 120.0)
        tell("moved", alert=alert, after=world.says())
        world.corrects = True
        await move_clock(-7200)
        await until("its clock to be set", lambda: world.corrected != [], 120.0)
        ahead_s = await guest.clock_ahead_s()
        await until("Up again", lambda: world.agent.is_up, 120.0)
        tell("corrected", skew_s=ahead_s, says=world.says())

        # the whole control CA is replaced under it
        old = world.authority.authority.key_id
        world.rotation.start()
        world.rotation.begin()
        await until("one CA again", lambda: world.authority.phase is Phase.STEADY, 180.0)
        fresh = world.authority.authority.key_id

        def on_new_ca() -> bool:
            shown = world.shown()
            return world.agent.is_up and shown is not None and shown.authority_key_id == fresh

        await until("a connection under the new CA", on_new_ca, 90.0)
        tell("rotated", changed=old != fresh, says=world.says())

        # and what it has is taken back: the one that it is in with, and any newer one
        peer, shown = world.agent.peer, world.shown()
        assert peer is not None and shown is not None
        await world.certificates.revoke(shown.serial, "lost")
        cut = peer.closed
        await world.certificates.revoke((await world.newest()).serial, "lost")
        await until("a refusal", lambda: "was refused" in world.agent.status.reason, 90.0)
        tell("revoked", cut_at_once=cut, says=world.says())

        await until(
            "its first certificate to end",
            lambda: time.time() > world.first_ends_s,
            FIRST_DAY.total_seconds(),
        )
        await guest.on("nohup sh -c 'sleep 1; systemctl reboot -ff' > /dev/null 2>&1 &")
        # QEMU ends and does not start the guest with what it had: the reconciler starts it again
        await until("QEMU to end by itself", lambda: guest.process.poll() is not None, 60.0)


async def a_day_ahead(world: World) -> None:
    """The start after that, and a power cut; the certificate of that start ends meanwhile."""
    pki_control.ISSUED_LIFETIME, usual = SHORT, pki_control.ISSUED_LIFETIME
    async with world.booted(timedelta(days=1)):
        pki_control.ISSUED_LIFETIME = usual
        tell("ahead", skew_s=world.skew_s(), says=world.says())
    first = await world.newest()
    ends_s = first.not_after.timestamp()
    await until("it to expire", lambda: time.time() > ends_s, SHORT.total_seconds() + BOOT_S)
    async with world.booted(timedelta(0)):
        tell("expired", says=world.says(), another=(await world.newest()).serial != first.serial)


async def main(_: Any) -> None:
    await deferLater(REACTOR, 0.0)  # react() begins before asyncio's loop runs
    world = World(Path(sys.argv[1]))
    await world.start()
    try:
        await a_day_behind(world)
        await a_day_ahead(world)
    finally:
        await world.stop()
        world.database.close()


if __name__ == "__main__":
    react(lambda _: Deferred.fromCoroutine(main(_)))
