# SPDX-License-Identifier: Apache-2.0
"""`make bench-recovery`: how long until all is Up again after an agent, the daemon, or a machine is gone.

On one booted cloud, with the peers that its bars name measured in the same run: the agent's unit's own
activation in the same boot, and a boot of the same machine alone.

usage: recovery.py [--rounds N]      exit code 1 when a bar does not hold
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

RESULT = TOP / "build/bench/recovery.json"
ROOT = TOP / "build/recovery-cloud"
LIMIT_S = 300.0
#: Agent kill: RestartSec and this much of the unit's own activation time.
ACTIVATION_SHARE = 1.3
DAEMON_BAR_S = 10.0
BOOT_BAR = 1.2

_ACTIVATION = (
    "systemctl show -p RestartUSec -p ExecMainStartTimestampMonotonic -p ActiveEnterTimestampMonotonic"
)
_UNIT = "systemvm-agent.service"


def seconds(text: str) -> float:
    """systemd's way of writing a span of time.

    >>> seconds("1min 2.5s"), seconds("500ms")
    (62.5, 0.5)
    """
    units = {"ms": 0.001, "s": 1.0, "min": 60.0, "us": 1e-6}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|us|s|min)", text))


def rows(measured: dict[str, list[float]], restart_s: float, activation_s: float) -> list[dict[str, Any]]:
    """One row a metric: ours, what it is compared with, the bar, and whether it holds."""
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
    metric: str, ours: float, peer: str, peer_value: float | None, bar: float, judged: float
) -> dict[str, Any]:
    ratio = None if peer_value is None else round(ours / peer_value, 3)
    return {
        "metric": metric,
        "ours": round(ours, 2),
        "peer": peer,
        "peer_value": None if peer_value is None else round(peer_value, 2),
        "ratio": ratio,
        "bar": round(bar, 2),
        "holds": judged <= bar,
    }


class Watch:
    """Finds the time at which an agent is Up in the daemon's log, without calls."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._at = log.stat().st_size

    def wait_for(self, *texts: str) -> float:
        """time.monotonic() of the moment when the log had said all of them since this was made."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            with self._log.open() as file:
                file.seek(self._at)
                said = file.read()
            missing = [text for text in texts if text not in said]
            if not missing:
                return time.monotonic()
            if time.monotonic() > deadline:
                raise SystemExit(f"error: not within {LIMIT_S:.0f} s: {', '.join(missing)}")
            time.sleep(0.02)

    def wait_up(self, names: set[str]) -> float:
        """Return the time when the last of them was Up."""
        return self.wait_for(*(f"agent of {name} is Up" for name in names))


def measure(rounds: int, say: Callable[[str], None]) -> tuple[dict[str, list[float]], float, float]:
    from soak.victims import CPVM, Victims
    from systemvm.lab.cloud import Cloud
    from systemvm.lab.plan import LabPlan
    from systemvm.lab.teardown import reset

    with socket.create_server(("127.0.0.1", 0)) as page, socket.create_server(("127.0.0.1", 0)) as console:
        ports = page.getsockname()[1], console.getsockname()[1]
    plan = LabPlan(root=ROOT, build=TOP / "build", page_port=ports[0], console_port=ports[1])
    if plan.root.exists():
        reset(plan)
    measured: dict[str, list[float]] = {"agent": [], "daemon": [], "boot": [], "machine": []}
    with Cloud(plan) as lab:
        victims = Victims(lab, random.Random(0))
        cpvm = victims.up(CPVM)
        name = str(cpvm["name"])
        pid_file = plan.layout.run / "qemu" / f"{name}.pid"
        everyone = {str(row["name"]) for row in lab.api.items("listSystemVms", "systemvm")}
        restart_s = activation_s = 0.0

        def note(what: str, began_s: float, watch: Watch, names: set[str]) -> None:
            measured[what].append(watch.wait_up(names) - began_s)
            say(f"{what}: {measured[what][-1]:.2f} s")

        for _ in range(rounds):
            # a boot of the machine alone: its power-on is what the daemon's word `started` is for
            lab.api.run("stopSystemVm", id=cpvm["id"], forced=True)
            watch = Watch(lab.daemon_log)
            began_s = watch.wait_for(f"{name}: started, pid")
            note("boot", began_s, watch, {name})
            lines = victims.ssh(victims.up(CPVM), f"{_ACTIVATION} {_UNIT}").splitlines()
            shown = dict(line.split("=", 1) for line in lines if "=" in line)
            restart_s = seconds(shown["RestartUSec"])
            entered_us = int(shown["ActiveEnterTimestampMonotonic"])
            activation_s = (entered_us - int(shown["ExecMainStartTimestampMonotonic"])) / 1e6
            say(f"activation of {_UNIT} in this boot: {activation_s:.2f} s")

            watch = Watch(lab.daemon_log)
            kill = f"kill -9 $(systemctl show -P MainPID {_UNIT})"
            killing = threading.Thread(target=victims.ssh, args=(victims.up(CPVM), kill))
            killing.start()
            # its kernel hangs up for it: that is the moment, and a login takes its time to end
            began_s = watch.wait_for(f"{name} disconnected")
            note("agent", began_s, watch, {name})
            killing.join()

            watch = Watch(lab.daemon_log)
            began_s = time.monotonic()
            lab.stop_daemon(kill=True)
            lab.start_daemon()
            note("daemon", began_s, watch, everyone)

            watch = Watch(lab.daemon_log)
            began_s = time.monotonic()
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
            note("machine", began_s, watch, {name})
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
    print(f"\n{'metric':42}{'ours':>8}  {'compared with':26}{'':>8}{'ratio':>8}{'bar':>8}  holds")
    for row in table:
        peer = "" if row["peer_value"] is None else f"{row['peer_value']:.2f}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(
            f"{row['metric']:42}{row['ours']:8.2f}  {row['peer']:26}{peer:>8}{ratio:>8}{row['bar']:8.2f}  "
            f"{'yes' if row['holds'] else 'NO'}"
        )
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    document = {"seconds": measured, "restart_s": restart_s, "activation_s": activation_s, "rows": table}
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(row["holds"] for row in table) else 1


if __name__ == "__main__":
    sys.exit(main())
