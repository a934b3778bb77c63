# SPDX-License-Identifier: Apache-2.0
"""`make bench-console-appliance`: how many consoles a booted CPVM carries, 4 kB five times a second each.

The CPVM's image runs in QEMU with one CPU, on QEMU's user networks. Its agent gets tokens and screens from a
double of the daemon on the host. The sessions are those of `make bench-console`. Their number grows until
the browsers do not get all of their updates any more. CPU and memory are those of the agent, read
inside the guest; lateness is what the browsers on the host see, with QEMU's own. Without KVM the figures are
those of an emulated CPU.

usage: console_appliance.py [--sessions N,N,...] [--seconds S]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from attrs import frozen  # noqa: E402

from benchmark.report import result_file  # noqa: E402

SESSIONS = (10, 25, 50, 100, 150, 200, 400, 700, 1000)
MAX_LATENESS_MS = 50.0
#: What a session gets in a second, and the share of it below which the CPVM does not carry the sessions.
SESSION_BYTES_PER_S, MIN_SHARE = 5 * 4096, 0.95
#: The host as the guest sees it: QEMU's user network passes this address to loopback.
HOST = "169.254.0.1"
SSH_PORT, CONSOLE_PORT = 2222, 8443
MEMORY_MIB = 256
BOOT_TIMEOUT_S = 600.0
#: Prints seconds since boot, CPU ticks and resident KiB of the agent.
_READ_AGENT = (
    "pid=$(systemctl show -p MainPID --value systemvm-agent.service); "
    "echo $(cut -d' ' -f1 /proc/uptime) $(cut -d' ' -f14-15 /proc/$pid/stat)"
    " $(awk '/VmRSS/{print $2}' /proc/$pid/status)\n"
)
_TICKS_PER_S = 100


@frozen
class Usage:
    """What the agent has used so far."""

    at_s: float
    cpu_s: float
    resident_kib: int

    @classmethod
    def parse(cls, line: str) -> Usage:
        at_s, user, system, resident_kib = line.split()
        return cls(float(at_s), (int(user) + int(system)) / _TICKS_PER_S, int(resident_kib))

    def cores_since(self, before: Usage) -> float:
        return (self.cpu_s - before.cpu_s) / (self.at_s - before.at_s)


def row(sessions: int, before: Usage, after: Usage, counted: dict[str, float]) -> dict[str, Any]:
    """Return what a number of sessions cost."""
    late_ms = counted["p99_us"] / 1000
    share = counted["bytes"] / (sessions * SESSION_BYTES_PER_S * counted["seconds"])
    return {
        "sessions": sessions, "cores": round(after.cores_since(before), 3),
        "resident_mb": round(after.resident_kib * 1.024 / 1000, 1), "p99_ms": round(late_ms, 1),
        "share": round(share, 3), "is_carried": share >= MIN_SHARE,
        "is_in_time": late_ms < MAX_LATENESS_MS,
    }  # fmt: skip


class GuestShell:
    """A shell in the guest over ssh, opened once: a handshake costs an emulated CPU seconds."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def usage(self) -> Usage:
        source, sink = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        source.write(_READ_AGENT)
        source.flush()
        return Usage.parse(sink.readline())

    def close(self) -> None:
        self._process.communicate()


@contextmanager
def client(program: Path, sessions: int, seconds: float, run: int) -> Iterator[subprocess.Popen[str]]:
    """Run the browsers; they leave at the end of the context."""
    words = ["updates", str(CONSOLE_PORT), f"/websockify?token=r{run}-#", str(sessions), str(seconds)]
    with subprocess.Popen(
        [program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def measure(program: Path, shell: GuestShell, counts: list[int], seconds: float) -> Iterator[dict[str, Any]]:
    """Yield a row for each number of sessions, up to one that is too large."""
    for number, sessions in enumerate(counts):
        with client(program, sessions, seconds, number) as browsers:
            output = cast(IO[str], browsers.stdout)
            if output.readline().strip() != "begin":
                print(f"{sessions} sessions do not all open")
                return
            before = shell.usage()
            word, _, counted = output.readline().partition(" ")
            if word != "end":
                print(f"{sessions} sessions do not all stay open")
                return
            found = row(sessions, before, shell.usage(), json.loads(counted))
        yield found
        if not found["is_carried"]:
            return


def start_daemon(folder: Path, target_port: int) -> tuple[Any, threading.Event]:
    """Start the double of the daemon in a thread; return it, and what is set when the agent is set up."""
    from twisted.internet.defer import Deferred

    from benchmark.console_daemon import DaemonDouble
    from benchmark.single_guest import PUBLIC
    from systemvm.wire.console import ConsoleSetup, ConsoleTarget
    from systemvm.wire.role import CONTROL_PORT

    ready, listening = threading.Event(), threading.Event()
    certificate_pem, key_pem = (folder / "public.pem").read_text(), (folder / "public.key").read_text()
    # QEMU's network shows all browsers by its own address; they name others, so that no limit of one counts
    proxies = [f"{PUBLIC}.0/24"]
    setup = ConsoleSetup(f"https://127.0.0.1:{CONSOLE_PORT}", certificate_pem, key_pem, proxies)
    daemon = DaemonDouble(setup, ConsoleTarget(HOST, target_port, None), ready.set)

    def start() -> None:
        Deferred.fromCoroutine(daemon.start(CONTROL_PORT)).addCallback(lambda _: listening.set())

    daemon.reactor.callWhenRunning(start)
    threading.Thread(target=lambda: daemon.reactor.run(installSignalHandlers=False), daemon=True).start()
    if not listening.wait(60):
        raise SystemExit("error: the double of the daemon cannot listen on 127.0.0.1:8250")
    return daemon, ready


def run(counts: list[int], seconds: float) -> list[dict[str, Any]]:
    from benchmark.console_peers import Bench
    from benchmark.single_guest import SingleGuest
    from systemvm.wire.role import Role

    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-console-") as name:
        folder = Path(name)
        bench = Bench(folder)
        daemon, ready = start_daemon(folder, bench.source_port)
        guest = SingleGuest(
            Role.CPVM, folder, daemon.authority, SSH_PORT, MEMORY_MIB, console_port=CONSOLE_PORT
        )
        process = subprocess.Popen(guest.command())
        try:
            if not ready.wait(BOOT_TIMEOUT_S):
                tail = guest.serial_log.read_text(errors="replace")[-2000:]
                raise SystemExit(f"{tail}\nerror: {guest.name} was not Up within {BOOT_TIMEOUT_S:.0f} s")
            shell = GuestShell(guest.ssh_command("sh"))
            idle = shell.usage()
            print(f"agent without sessions: {idle.resident_kib * 1.024 / 1000:.1f} MB", flush=True)
            print(
                f"{'sessions':>8} {'cores':>7} {'resident':>10} {'p99 lateness':>13} {'of its updates':>15}",
                flush=True,
            )
            for each in measure(bench.client, shell, counts, seconds):
                resident, late = f"{each['resident_mb']} MB", f"{each['p99_ms']} ms"
                print(
                    f"{each['sessions']:8} {each['cores']:7} {resident:>10} {late:>13} {each['share']:15.0%}",
                    flush=True,
                )
                rows.append(each)
            shell.close()
        finally:
            process.kill()
            process.wait()
            bench.close()
    return rows


def main() -> int:
    from benchmark.single_guest import accelerator, enter_network_namespace

    parser = argparse.ArgumentParser(description="Measure how many consoles a booted CPVM carries.")
    parser.add_argument(
        "--sessions", default=",".join(map(str, SESSIONS)), metavar="N,...", help="(default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=10, help="of a measurement (default: %(default)s)")
    options = parser.parse_args()
    counts = [int(text) for text in options.sessions.split(",")]
    enter_network_namespace()
    rows = run(counts, options.seconds)
    carried, in_time = (
        max((each["sessions"] for each in rows if each[key]), default=0)
        for key in ("is_carried", "is_in_time")
    )
    print(f"accelerator: {accelerator()[1]}")
    print(f"carries {carried} sessions; with up to {in_time} of them 99 % of the updates come within 50 ms")
    found = {"accelerator": accelerator()[1], "carried": carried, "in_time": in_time, "rows": rows}
    result_file("console-appliance").write_text(json.dumps(found, indent=1) + "\n")
    return 0 if carried else 1


if __name__ == "__main__":
    sys.exit(main())
