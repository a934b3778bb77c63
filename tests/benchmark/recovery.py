# SPDX-License-Identifier: Apache-2.0
"""`make bench-recovery`: the time until everything is Up again after an agent, the daemon or a VM was killed.

It runs on one booted cloud, and measures what it compares with in the same run: the activation time of the
agent's unit in the same boot, and an ordinary boot of the same VM.

usage: recovery.py [--rounds N]      exit code 1 when a limit is exceeded
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.report import report  # noqa: E402

ROOT = TOP / "build/recovery-cloud"
LIMIT_S = 300.0
#: Limit after a kill of the agent: RestartSec and this multiple of the unit's activation time.
ACTIVATION_SHARE = 1.3
DAEMON_BAR_S = 10.0
BOOT_BAR = 1.2

_ACTIVATION = (
    "systemctl show -p RestartUSec -p ExecMainStartTimestampMonotonic -p ActiveEnterTimestampMonotonic"
)
_UNIT = "systemvm-agent.service"


def seconds(text: str) -> float:
    """Parse a time span of systemd (systemd.time(7)).

    >>> seconds("1min 2.5s"), seconds("500ms")
    (62.5, 0.5)
    """
    units = {"ms": 0.001, "s": 1.0, "min": 60.0, "us": 1e-6}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|us|s|min)", text))


def rows(measured: dict[str, list[float]], restart_s: float, activation_s: float) -> list[dict[str, Any]]:
    """Return one row for each metric: the result, its comparison, the limit, and whether it holds."""
    agent_s = statistics.median(measured["agent"])
    daemon_s = max(measured["daemon"])
    boot_s = statistics.median(measured["boot"])
    machine_s = statistics.median(measured["machine"])
    agent_bar_s = restart_s + ACTIVATION_SHARE * activation_s
    return [
        _row(
            "agent killed to Up, s", agent_s, "unit's own activation, s", activation_s, agent_bar_s, agent_s
        ),
        _row("daemon killed and started to all Up, s", daemon_s, "", None, DAEMON_BAR_S, daemon_s),
        _row("machine's power lost to Up, s", machine_s, "a boot, s", boot_s, BOOT_BAR, machine_s / boot_s),
    ]


def _row(
    metric: str, ours: float, peer: str, peer_value: float | None, bar: float, compared: float
) -> dict[str, Any]:
    ratio = None if peer_value is None else round(ours / peer_value, 3)
    return {
        "metric": metric,
        "ours": round(ours, 2),
        "peer": peer,
        "peer_value": None if peer_value is None else round(peer_value, 2),
        "ratio": ratio,
        "bar": round(bar, 2),
        "holds": compared <= bar,
    }


class Watch:
    """Finds the time at which an agent is Up in the daemon's log, without calls."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._at = log.stat().st_size

    def wait_for(self, *texts: str) -> float:
        """Return the time.monotonic() at which the log contains all texts, since this object was made."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            with self._log.open() as file:
                file.seek(self._at)
                content = file.read()
            missing = [text for text in texts if text not in content]
            if not missing:
                return time.monotonic()
            if time.monotonic() > deadline:
                raise SystemExit(f"error: not within {LIMIT_S:.0f} s: {', '.join(missing)}")
            time.sleep(0.02)

    def wait_up(self, names: set[str]) -> float:
        """Return the time when the last of them was Up."""
        return self.wait_for(*(f"agent of {name} is Up" for name in names))


def measure(rounds: int, report: Callable[[str], None]) -> tuple[dict[str, list[float]], float, float]:
    from free_ports import plan_with_free_ports
    from soak.victims import CPVM, Victims
    from systemvm.lab.cloud import Cloud
    from systemvm.lab.teardown import reset

    plan = plan_with_free_ports(ROOT, TOP / "build")
    if plan.root.exists():
        reset(plan)
    measured: dict[str, list[float]] = {"agent": [], "daemon": [], "boot": [], "machine": []}
    with Cloud(plan) as lab:
        victims = Victims(lab, random.Random(0))
        cpvm = victims.up(CPVM)
        name = str(cpvm["name"])
        pid_file = plan.layout.run / "qemu" / f"{name}.pid"
        all_names = {str(row["name"]) for row in lab.api.items("listSystemVms", "systemvm")}
        restart_s = activation_s = 0.0

        def record(what: str, began_s: float, watch: Watch, names: set[str]) -> None:
            measured[what].append(watch.wait_up(names) - began_s)
            report(f"{what}: {measured[what][-1]:.2f} s")

        for _ in range(rounds):
            # an ordinary boot: the daemon logs `started` at power-on
            lab.api.run("stopSystemVm", id=cpvm["id"], forced=True)
            watch = Watch(lab.daemon_log)
            began_s = watch.wait_for(f"{name}: started, pid")
            record("boot", began_s, watch, {name})
            lines = victims.ssh(victims.up(CPVM), f"{_ACTIVATION} {_UNIT}").splitlines()
            shown = dict(line.split("=", 1) for line in lines if "=" in line)
            restart_s = seconds(shown["RestartUSec"])
            entered_us = int(shown["ActiveEnterTimestampMonotonic"])
            activation_s = (entered_us - int(shown["ExecMainStartTimestampMonotonic"])) / 1e6
            report(f"activation of {_UNIT} in this boot: {activation_s:.2f} s")

            watch = Watch(lab.daemon_log)
            kill = f"kill -9 $(systemctl show -P MainPID {_UNIT})"
            killing = threading.Thread(target=victims.ssh, args=(victims.up(CPVM), kill))
            killing.start()
            # the guest's kernel closes the connection at the kill, earlier than the ssh command returns
            began_s = watch.wait_for(f"{name} disconnected")
            record("agent", began_s, watch, {name})
            killing.join()

            watch = Watch(lab.daemon_log)
            began_s = time.monotonic()
            lab.stop_daemon(kill=True)
            lab.start_daemon()
            record("daemon", began_s, watch, all_names)

            watch = Watch(lab.daemon_log)
            began_s = time.monotonic()
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
            record("machine", began_s, watch, {name})
    return measured, restart_s, activation_s


def main() -> int:
    from systemvm.service.sigint import restore_sigint

    restore_sigint()
    parser = argparse.ArgumentParser(description="Measure the recovery of agent, daemon and VM.")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    measured, restart_s, activation_s = measure(
        options.rounds, lambda text: print(f"bench: {text}", flush=True)
    )
    table = rows(measured, restart_s, activation_s)
    return report("recovery", table, seconds=measured, restart_s=restart_s, activation_s=activation_s)


if __name__ == "__main__":
    sys.exit(main())
