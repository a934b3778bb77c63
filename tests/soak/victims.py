# SPDX-License-Identifier: Apache-2.0
"""Kills parts of a cloud for a soak test, and waits for their recovery; every wait has a timeout."""

from __future__ import annotations

import enum
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen

from systemvm.lab.cloud import Cloud
from systemvm.lab.errors import LabError
from systemvm.service.slowness import scaled_s

SSVM, CPVM = "secondarystoragevm", "consoleproxy"
#: Upper bounds: a machine with other work can be ten times as slow.
RECOVERY_S = 480.0
SSH_S = 180.0
POLL_S = 0.5


class Kind(enum.Enum):
    """The kinds of victims; weights make 200 kills take less than 45 minutes."""

    AGENT = ("agent", 28)
    WORKER = ("worker", 34)
    DAEMON = ("daemon", 20)
    NFS = ("NFS server", 10)
    VM = ("VM", 8)

    def __init__(self, title: str, weight: int) -> None:
        self.title = title
        self.weight = weight


@frozen
class Kill:
    """One kill, and the time until everything was Up."""

    kind: Kind
    victim: str
    at_s: float  # since the first
    recovery_s: float


class NotUpError(AssertionError):
    """Something did not recover."""


#: The guest itself waits for the unit's next process; it polls seldom, because a poll costs CPU time, too.
_KILL_AND_WAIT = """
unit={unit}; before=$(systemctl show -P MainPID $unit)
kill -9 $before
for _ in $(seq {tries}); do
    sleep 2
    shown=$(systemctl show -p MainPID -p StatusText $unit | tr '\\n' ' ')
    case $shown in
        *"MainPID=$before "* | *"MainPID=0 "*) ;;
        *StatusText={status}) exit 0 ;;
    esac
done
systemctl status --no-pager $unit; exit 1
"""
_KILL_A_MOVER = """
for process in $(cat /sys/fs/cgroup/system.slice/systemvm-fetch.service/cgroup.procs); do
    if [ "$(cat /proc/$process/comm)" = mover ]; then kill -9 $process; echo killed; exit 0; fi
done
"""
_STORE_WORKS = """
for store in /mnt/SecStorage/*/; do
    timeout {seconds} sh -c "touch $store/.soak && rm $store/.soak" || exit 1
done
"""


class Victims:
    """The parts of a running lab cloud, to be killed."""

    def __init__(
        self,
        lab: Cloud,
        chance: random.Random,
        report: Callable[[str], None] = lambda text: None,
        timeout_scale: float = 1.0,
    ) -> None:
        self._lab = lab
        self._recovery_s = RECOVERY_S * timeout_scale
        self._ssh_s = SSH_S * timeout_scale
        self._chance = chance
        self._report = report

    def kill(self, kind: Kind) -> str:
        """Kill one of a kind, wait until everything is Up, and return the victim.

        Raises: NotUpError when it does not recover.
        """
        match kind:
            case Kind.AGENT:
                victim = self._kill_agent()
            case Kind.WORKER:
                victim = self._kill_worker()
            case Kind.DAEMON:
                victim = "daemon"
                self._lab.stop_daemon(kill=True)
                self._lab.start_daemon()
            case Kind.NFS:
                victim = "ganesha"
                self._lab.stop_storage(kill=self._chance.random() < 0.5)
                time.sleep(self._chance.uniform(0.5, 6.0))  # the outage itself
                self._lab.start_storage()
                self.wait_for_store()
            case Kind.VM:
                victim = self._kill_machine()
        self.wait_all_up()
        return victim

    # ---- kills of each kind
    def _kill_agent(self) -> str:
        vm = self.up(self._chance.choices([SSVM, CPVM], [3, 1])[0])
        self._kill_and_wait(vm, "systemvm-agent.service", "Up,*")
        return f"agent of {vm['name']}"

    def _kill_worker(self) -> str:
        """Return a mover if one runs; otherwise, or by chance, fetch."""
        vm = self.up(SSVM)
        if self._chance.random() < 0.5 and "killed" in self.ssh(vm, _KILL_A_MOVER):
            return "mover"
        if not self.ssh(vm, "systemctl show -P MainPID systemvm-fetch.service").strip().strip("0"):
            return "fetch, which was idle"
        self._kill_and_wait(vm, "systemvm-fetch.service", "*")
        return "fetch"

    def _kill_and_wait(self, vm: dict[str, Any], unit: str, status: str) -> None:
        tries = int(self._recovery_s / 2)
        self.ssh(
            vm, _KILL_AND_WAIT.format(unit=unit, status=status, tries=tries), timeout_s=2 * self._recovery_s
        )

    def _kill_machine(self) -> str:
        vm = self.up(self._chance.choice([SSVM, CPVM]))
        pid_file = self._lab.plan.layout.run / "qemu" / f"{vm['name']}.pid"
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGKILL)

        def has_new_pid() -> bool:
            try:
                return int(pid_file.read_text()) != pid
            except (OSError, ValueError):
                return False

        self._wait(f"another QEMU of {vm['name']}", has_new_pid, lambda: "its pid file is unchanged")
        self._wait(
            f"{vm['name']} to boot", lambda: self._row(vm["name"]).get("agentstate") == "Up", self._rows
        )
        return str(vm["name"])

    # ---- states
    def up(self, kind: str) -> dict[str, Any]:
        """Return the zone's VM of a kind."""
        return next(row for row in self._rows() if row["systemvmtype"] == kind)

    def wait_all_up(self) -> None:
        """Wait until one of each kind is Running and Up."""

        def all_up() -> bool:
            rows = self._rows()
            kinds = sorted(row["systemvmtype"] for row in rows if _is_up(row))
            return len(rows) == 2 and kinds == sorted([SSVM, CPVM])

        self._wait("both system VMs to be Up", all_up, self._rows)

    def wait_for_store(self) -> None:
        """Wait until the SSVM can write to its store again."""
        vm = self.up(SSVM)
        self.ssh(vm, _STORE_WORKS.format(seconds=int(self._ssh_s)), timeout_s=self._recovery_s)

    def _rows(self) -> list[dict[str, Any]]:
        try:
            return self._lab.api.items("listSystemVms", "systemvm")
        except OSError:
            return []

    def _row(self, name: str) -> dict[str, Any]:
        return next((row for row in self._rows() if row["name"] == name), {})

    def _wait(self, what: str, holds: Callable[[], bool], observe: Callable[[], Any]) -> None:
        began_s = time.monotonic()
        while not holds():
            waited_s = time.monotonic() - began_s
            if waited_s > scaled_s(self._recovery_s):
                shown = json.dumps(observe(), default=str)[:2000]
                raise NotUpError(f"waited {waited_s:.0f} s for {what}; now: {shown}")
            time.sleep(POLL_S)

    def ssh(self, vm: dict[str, Any], script: str, timeout_s: float | None = None) -> str:
        """Return the output of a shell script that runs as root in the guest; the host key is not checked."""
        plan = self._lab.plan
        command: list[str | Path] = [
            *("ip", "netns", "exec", plan.host_namespace, "ssh", "-T", "-p", "3922"),
            *("-i", plan.layout.pki / "ssh_key", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            *("-o", "ConnectTimeout=120", f"root@{vm['linklocalip']}", "sh -s"),
        ]
        done = subprocess.run(
            command,
            input=script,
            capture_output=True,
            text=True,
            timeout=scaled_s(timeout_s or self._ssh_s),
            check=False,
        )
        if done.returncode != 0:
            raise NotUpError(
                f"in {vm['name']}: {done.stdout[-1500:]}{done.stderr[-500:]} ({done.returncode})"
            )
        return done.stdout


def _is_up(row: dict[str, Any]) -> bool:
    return row["state"] == "Running" and row.get("agentstate") == "Up"


def kills(
    victims: Victims, order: list[Kind], before: Callable[[], None], report: Callable[[str], None]
) -> list[Kill]:
    """Kill in this order; `before` waits for a suitable moment."""
    done: list[Kill] = []
    began_s = time.monotonic()
    for number, kind in enumerate(order, 1):
        before()
        at_s = time.monotonic()
        try:
            victim = victims.kill(kind)
        except (NotUpError, LabError, subprocess.TimeoutExpired) as error:
            raise NotUpError(f"kill {number}, {kind.title}: {error}") from error
        took_s = time.monotonic() - at_s
        done.append(Kill(kind, victim, at_s - began_s, took_s))
        report(f"{number:3} of {len(order)}: {kind.title:10} {victim:24} Up again after {took_s:5.1f} s")
    return done


def random_order(count: int, chance: random.Random) -> list[Kind]:
    return chance.choices(list(Kind), [kind.weight for kind in Kind], k=count)


def one_of_each(chance: random.Random) -> list[Kind]:
    order = list(Kind)
    chance.shuffle(order)
    return order
