# SPDX-License-Identifier: Apache-2.0
"""`make bench-control`: one real daemon with 1,000 agents on real sockets with mutual TLS.

It measures memory, CPU while agents only ping, the time until all are Up after a kill and a restart, and a
call's round trip relative to the same call over HTTPS with a client certificate: kept-alive connections,
Twisted at both ends, alternately in one run.

Limits: a call must cost no more than over plain HTTPS, otherwise the channel would not be worth its code.
An agent may cost 256 KiB, so that the daemon of a small host has room for 1,000. Pings and health of 1,000
agents may take a quarter of one core. After a kill everything must be Up in 45 s, although agents and daemon
share this machine's cores.

usage: control.py [--agents N] [--calls N]      exit code 1 when a limit is exceeded
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.report import report  # noqa: E402
from systemvm.management.pki.control import ControlAuthority  # noqa: E402
from systemvm.rpc.tls.identity import Identity  # noqa: E402
from systemvm.wire.role import Role  # noqa: E402

HERE = Path(__file__).parent
PROCESSES = 4
PING_INTERVAL_S = 10.0
IDLE_S = 30.0
CALLS_S = 45.0
EVENT_TIMEOUT_S = 120.0
BAR_AGENT_KIB = 256.0
BAR_CPU = 0.25
BAR_LISTENING_S = 20.0
BAR_RECONCILE_S = 45.0
BAR_P50 = 1.0
BAR_P99 = 1.25  # the tail of a few thousand calls contains other work of this machine

ZONE = """
name: bench
networks:
  control: {bridge: cloud0, cidr: 127.0.0.0/8, host_address: 127.0.0.1}
  management: {bridge: cloudbr1, cidr: 10.11.0.0/24, host_address: 10.11.0.1}
  public: {bridge: cloudbr0, cidr: 203.0.113.0/24, host_address: 203.0.113.1}
dns: [203.0.113.1]
image_stores:
  - {name: store, url: "nfs://10.12.0.2/export/secondary"}
"""


class Child:
    """A process that prints events on stdout, one JSON object on each line."""

    def __init__(self, script: str, *arguments: str, log: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{TOP / 'agents'}:{TOP / 'tests'}"}
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / script), *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
            )  # fmt: skip
        self._log = log

    def command(self, **fields: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(fields).encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, *keys: str) -> dict[str, Any]:
        """Return the next event with these keys.

        Raises: SystemExit when there is none in time.
        """
        alarm = signal.signal(signal.SIGALRM, self._time_out)
        signal.alarm(int(EVENT_TIMEOUT_S))
        try:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                event: dict[str, Any] = json.loads(line)
                if "error" in event:
                    raise SystemExit(f"error: {event['error']}")
                if all(key in event for key in keys):
                    return event
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, alarm)
        raise SystemExit(f"error: a child ended; see {self._log}:\n{self._log.read_text()[-3000:]}")

    def _time_out(self, number: int, frame: object) -> None:
        raise SystemExit(f"error: no event within {EVENT_TIMEOUT_S:.0f} s:\n{self._log.read_text()[-3000:]}")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_kib(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise SystemExit("error: /proc shows no memory of the daemon")

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(EVENT_TIMEOUT_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def configure(root: Path, port: int) -> None:
    etc = root / "etc/systemvm"
    (etc / "zones").mkdir(parents=True)
    (etc / "zones/bench.yaml").write_text(ZONE)
    (etc / "managementd.yaml").write_text(
        f"control: {{address: 127.0.0.1, port: {port}, ping_interval_s: {PING_INTERVAL_S}}}\n"
        "page: {listen: 'tcp:0:interface=127.0.0.1'}\n"
        "hypervisor: {accelerator: tcg}\n"
    )


def write_identity(path: Path, identity: Identity) -> None:
    path.write_bytes(identity.private_key_pem + identity.certificate_pem + identity.ca_pem)


def distribute_identities(root: Path, identities: Path, work: Path) -> list[Path]:
    """Move the identities of the agents to the directories of their processes, and add that of HTTPS."""
    authority = ControlAuthority.open(root / "var/lib/systemvm/pki")
    directories = [work / f"agents-{number}" for number in range(PROCESSES)]
    for directory in directories:
        directory.mkdir()
        write_identity(directory / "https.pem", authority.daemon_identity("https"))
    write_identity(work / "caller.pem", authority.bootstrap("s-1-VM", Role.SSVM))
    for number, path in enumerate(sorted(identities.iterdir())):
        path.rename(directories[number % PROCESSES] / path.name)
    return directories


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(agents: int, calls: int, work: Path) -> dict[str, Any]:
    root, log, port = work / "root", work / "log", free_port()
    configure(root, port)
    identities = work / "identities"
    identities.mkdir()
    children: list[Child] = []

    def start_daemon() -> Child:
        child = Child("control_daemon.py", str(root), str(agents), str(identities), log=log)
        children.append(child)
        return child

    try:
        daemon = start_daemon()
        daemon.wait_for("names")
        empty_kib = daemon.rss_kib()
        directories = distribute_identities(root, identities, work)
        began_s = time.monotonic()
        fleet = [Child("control_agents.py", str(port), str(path), log=log) for path in directories]
        children += fleet
        https = [child.wait_for("https")["https"] for child in fleet]
        daemon.wait_for("all_up_s")
        first_s = time.monotonic() - began_s
        print(f"bench: {agents} agents Up {first_s:.1f} s after they were started", flush=True)
        time.sleep(PING_INTERVAL_S)  # until the agents only ping
        cpu_s = daemon.cpu_s()
        time.sleep(IDLE_S)
        cpu = (daemon.cpu_s() - cpu_s) / IDLE_S
        full_kib = daemon.rss_kib()
        print(f"bench: {full_kib} KiB, {cpu:.3f} of a core; now {calls} calls each way", flush=True)
        into = work / "took.json"
        caller = str(work / "caller.pem")
        daemon.command(measure=calls, at_most_s=CALLS_S, https=https, identity=caller, into=str(into))
        daemon.wait_for("measured")
        took = json.loads(into.read_text())
        daemon.end()
        killed_s = time.monotonic()
        daemon = start_daemon()
        listening_s = daemon.wait_for("names")["listening_s"]
        again = daemon.wait_for("all_up_s")
        reconcile_s = time.monotonic() - killed_s
        stopping_s = time.monotonic()
        daemon.end(signal.SIGTERM)
        stop_s = time.monotonic() - stopping_s
    finally:
        for child in children:
            if child.process.poll() is None:
                child.end()
    return {
        "agents": agents,
        "empty_kib": empty_kib,
        "full_kib": full_kib,
        "cpu": cpu,
        "first_s": first_s,
        "listening_s": listening_s,
        "reconcile_s": reconcile_s,
        "stop_s": stop_s,
        "reconcile_cpu_s": again["cpu_s"],
        "took": took,
    }


def rows(measured: dict[str, Any]) -> list[dict[str, Any]]:
    agent_kib = (measured["full_kib"] - measured["empty_kib"]) / measured["agents"]
    table = [
        {"metric": "memory of an agent, KiB", "ours": agent_kib, "bar": BAR_AGENT_KIB},
        {"metric": "daemon at rest, cores", "ours": measured["cpu"], "bar": BAR_CPU},
        {"metric": "kill -9 to listening again, s", "ours": measured["listening_s"], "bar": BAR_LISTENING_S},
        {"metric": "kill -9 to all Up, s", "ours": measured["reconcile_s"], "bar": BAR_RECONCILE_S},
    ]
    for row in table:
        row |= {"https": None, "ratio": None, "holds": row["ours"] <= row["bar"]}
    for name, share, bar in (("p50", 0.50, BAR_P50), ("p99", 0.99, BAR_P99)):
        ours, https = (1000 * percentile(measured["took"][end], share) for end in ("ours", "https"))
        table.append(
            {"metric": f"a call's round trip {name}, ms", "ours": ours, "https": https, "ratio": ours / https,
             "bar": bar, "holds": ours / https <= bar}
        )  # fmt: skip
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measure the daemon and its control channel with many agents."
    )
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=3000)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 2 * options.agents + 256:
        raise SystemExit(f"error: at most {hard} files can be open here; raise the limit with ulimit -Hn")
    with tempfile.TemporaryDirectory(prefix="systemvm-bench-") as name:
        measured = measure(options.agents, options.calls, Path(name))
    table = rows(measured)
    took = measured.pop("took")
    measured["mean_ms"] = {end: 1000 * statistics.fmean(each) for end, each in took.items()}
    print(f"\n{options.agents} agents, {PROCESSES} processes of them, {os.cpu_count()} cores for all")
    return report("control", table, measured=measured)


if __name__ == "__main__":
    sys.exit(main())
