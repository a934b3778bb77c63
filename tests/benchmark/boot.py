# SPDX-License-Identifier: Apache-2.0
"""`make bench-boot`: power-on to agent Up of both appliances, relative to a stock Debian's power-on to sshd.

It compares the medians of interleaved boots with one accelerator. Up is the moment when a minimal daemon with
our RPC code has answered the agent's hello: both sides have verified certificates, and work can begin.

usage: boot.py [--rounds N]      exit code 1 when a limit is exceeded
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.report import report  # noqa: E402

BOOT_TIMEOUT_S = 240.0
SSH_PORT = 2222
MEMORY_MIB = {"ssvm": 512, "cpvm": 256, "stock": 512}


def bar(role: str) -> float:
    """Return the limit of the ratio in the role's appliance.yaml."""
    document = yaml.safe_load((TOP / "appliances" / role / "appliance.yaml").read_text())
    return float(document["budget"]["boot_ratio_max"])


def wait_for_banner(process: subprocess.Popen[bytes], started_s: float) -> float:
    """Return the seconds until sshd answers; QEMU accepts connections before the guest, and closes them."""
    while time.monotonic() - started_s < BOOT_TIMEOUT_S and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", SSH_PORT), timeout=1.0) as connection:
                connection.settimeout(2.0)
                if connection.recv(8) == b"SSH-2.0-":
                    return time.monotonic() - started_s
        except OSError:
            pass
        time.sleep(0.05)  # a port is polled: nothing reports when it opens
    raise SystemExit("error: sshd of the stock Debian did not answer")


def boot_stock(work: Path) -> float:
    from benchmark import single_guest, stock_debian

    command = stock_debian.command(
        single_guest.accelerator(), SSH_PORT, MEMORY_MIB["stock"], work / "stock.serial.log"
    )
    started_s = time.monotonic()
    process = subprocess.Popen(command)
    try:
        return wait_for_banner(process, started_s)
    finally:
        process.kill()
        process.wait()


class Appliances:
    """Boots appliances one after another with a minimal daemon, whose reactor runs in its own thread."""

    def __init__(self, work: Path) -> None:
        import queue
        import threading

        from twisted.internet import reactor

        from benchmark.tiny_daemon import TinyDaemon
        from systemvm.management.pki.control import ControlAuthority

        self._work = work
        self._authority = ControlAuthority.open(work)
        self._ups: queue.Queue[tuple[str, float]] = queue.Queue()
        self._reactor: Any = reactor
        daemon = TinyDaemon(reactor, self._authority, lambda name: self._ups.put((name, time.monotonic())))
        started = threading.Event()
        self._reactor.callWhenRunning(lambda: daemon.start().addCallback(lambda _: started.set()))
        threading.Thread(target=lambda: self._reactor.run(installSignalHandlers=False), daemon=True).start()
        if not started.wait(20):
            raise SystemExit("error: the minimal daemon cannot listen on 127.0.0.1:8250")

    def boot(self, role_name: str, chain: bool) -> tuple[float, str]:
        """Return the seconds until Up; with `chain` also systemd's critical chain."""
        import queue

        from benchmark.single_guest import SingleGuest
        from systemvm.wire.role import Role

        guest = SingleGuest(Role(role_name), self._work, self._authority, SSH_PORT, MEMORY_MIB[role_name])
        command = guest.command()
        started_s = time.monotonic()
        process = subprocess.Popen(command)
        try:
            name, up_s = self._ups.get(timeout=BOOT_TIMEOUT_S)
            if name != guest.name:
                raise SystemExit(f"error: {name} came Up instead of {guest.name}")
            text = ""
            if chain:
                show = "systemd-analyze; systemd-analyze critical-chain --no-pager systemvm-agent.service"
                text = guest.ssh(show, timeout_s=120).stdout
            return up_s - started_s, text
        except queue.Empty:
            tail = guest.serial_log.read_text(errors="replace")[-2000:]
            raise SystemExit(
                f"{tail}\nerror: {guest.name} was not Up within {BOOT_TIMEOUT_S:.0f} s"
            ) from None
        finally:
            process.kill()
            process.wait()


def measure(rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    seconds: dict[str, list[float]] = {"stock": [], "ssvm": [], "cpvm": []}
    chains: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="systemvm-bench-") as name:
        work = Path(name)
        appliances = Appliances(work)
        for number in range(1, rounds + 1):
            for machine in seconds:
                if machine == "stock":
                    took_s = boot_stock(work)
                else:
                    took_s, chain = appliances.boot(machine, chain=number == rounds)
                    chains[machine] = chain
                seconds[machine].append(took_s)
                print(f"bench: round {number} of {rounds}: {machine} {took_s:.1f} s", flush=True)
    return seconds, chains


def rows(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    stock_s = statistics.median(seconds["stock"])
    table = []
    for role in ("ssvm", "cpvm"):
        ours_s = statistics.median(seconds[role])
        ratio = ours_s / stock_s
        table.append(
            {
                "metric": f"{role}: power-on to agent Up, s", "ours": round(ours_s, 2),
                "stock Debian 13 to sshd": round(stock_s, 2), "ratio": round(ratio, 3), "bar": bar(role),
                "holds": ratio <= bar(role),
            }
        )  # fmt: skip
    return table


def main() -> int:
    from systemvm.service.sigint import restore_sigint

    restore_sigint()
    parser = argparse.ArgumentParser(
        description="Measure the boot time of the appliances, relative to a stock Debian's."
    )
    parser.add_argument(
        "--rounds", type=int, default=2, metavar="N", help="boots of each (default: %(default)d)"
    )
    options = parser.parse_args()

    from benchmark.single_guest import INSIDE, accelerator, enter_network_namespace

    if not os.environ.get(INSIDE):
        from benchmark import stock_debian

        stock_debian.build()
    enter_network_namespace()
    seconds, chains = measure(options.rounds)
    table = rows(seconds)
    for role, chain in chains.items():
        if chain:
            print(f"\n{role}, from inside:\n{chain}")
    print(f"\naccelerator: {accelerator()[1]}; medians of {options.rounds} interleaved rounds")
    return report("boot", table, accelerator=accelerator()[1], seconds=seconds, critical_chain=chains)


if __name__ == "__main__":
    sys.exit(main())
