# SPDX-License-Identifier: Apache-2.0
"""`make bench-waiting`: what 10,000 templates that wait cost the daemon and an idle SSVM.

The daemon is a real process with its database; its hypervisor is simulated. First no SSVM is Up. Then one is:
its agent is a real process with a TLS channel to that daemon, beside its fetch, serve and store helper in
network namespaces of this host. Its store has stopped to answer, as behind an NFS server that hangs: its
helper is stopped before the templates are registered.

usage: waiting.py [--templates N] [--seconds N]     needs root; exit code 1 when a limit is exceeded
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.control import Child, configure, free_port  # noqa: E402
from benchmark.download_footprint import row, stopped  # noqa: E402
from benchmark.idle import cpu_s  # noqa: E402
from benchmark.in_reactor import need_root  # noqa: E402
from benchmark.report import report  # noqa: E402

#: Percent of a core.
BAR = 1.0
#: Until the daemon has read its database, and its retries have become as rare as they get.
QUIET_S = 60.0


def cpu_percent(pids: dict[str, list[int]], seconds: float) -> dict[str, float]:
    """Return the percent of a core that each group of processes uses now."""

    def used_s() -> dict[str, float]:
        return {name: sum(map(_cpu_s, group)) for name, group in pids.items()}

    before, begun_s = used_s(), time.monotonic()
    time.sleep(seconds)
    took_s = time.monotonic() - begun_s
    return {name: 100 * (after - before[name]) / took_s for name, after in used_s().items()}


def _cpu_s(pid: int) -> float:
    return cpu_s(Path(f"/proc/{pid}/stat").read_text())


def without_ssvm(directory: Path, templates: int, seconds: float) -> list[dict[str, Any]]:
    """Measure a daemon whose zone has no SSVM that is Up."""
    daemon = start_daemon(directory, free_port(), templates)
    try:
        daemon.wait_for("names")
        daemon.command(register=True)
        daemon.wait_for("registered")
        time.sleep(QUIET_S)
        used = cpu_percent({"daemon": [daemon.process.pid]}, seconds)
    finally:
        daemon.end(signal.SIGTERM)
    return rows(used, f"{templates} templates wait for an SSVM")


def with_idle_ssvm(directory: Path, templates: int, seconds: float) -> list[dict[str, Any]]:
    """Measure daemon and SSVM while the store does not answer."""
    from benchmark.agent_process import AgentProcess
    from integration.ssvm_lab.world import Builder
    from systemvm.rpc.tls.identity import Identity

    port = free_port()
    bundle = directory / "identity.pem"
    daemon = start_daemon(directory, port, templates, str(bundle))
    agent: AgentProcess | None = None
    try:
        [name] = daemon.wait_for("names")["names"]
        identity = Identity.from_pem_bundle(bundle.read_bytes())
        (directory / "world").mkdir()
        with Builder(directory / "world", limits={}) as world:
            agent = AgentProcess(directory, world.paths, port, identity, name=name)
            daemon.wait_for("up")
            with socket.socket(socket.AF_UNIX) as activating:
                activating.connect(str(world.paths.fetch_socket))
            with stopped(world.helper_pids()):
                daemon.command(register=True)
                daemon.wait_for("registered")
                time.sleep(QUIET_S)
                helpers = [*world.fetch_pids(), *world.fork_server_pids(), *world.serve_pids()]
                ssvm = [agent.pid, *helpers, *world.helper_pids()]
                used = cpu_percent({"daemon": [daemon.process.pid], "SSVM": ssvm}, seconds)
                agent.check()
    finally:
        if agent is not None:
            agent.end()
        daemon.end(signal.SIGTERM)
    return rows(used, f"{templates} templates wait for their store")


def start_daemon(directory: Path, port: int, templates: int, *identity: str) -> Child:
    """Start the daemon of a zone whose machines it does not manage."""
    root = directory / "root"
    configure(root, port)
    with (root / "etc/systemvm/zones/bench.yaml").open("a") as zone:
        zone.write("system_vms: {ssvm: {enabled: false}, cpvm: {enabled: false}}\n")
    return Child("waiting_daemon.py", str(root), str(templates), *identity, log=directory / "daemon.log")


def rows(used: dict[str, float], situation: str) -> list[dict[str, Any]]:
    """Return a row for each group of processes, by its percent of a core."""
    return [row(f"{name}, {situation}", percent, BAR, "%") for name, percent in used.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the CPU that waiting templates cost.")
    parser.add_argument("--templates", type=int, default=10_000, help="that wait (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="of each measurement (default: %(default)g)"
    )
    options = parser.parse_args()
    need_root()
    table = []
    measures: list[Callable[[Path, int, float], list[dict[str, Any]]]] = [without_ssvm, with_idle_ssvm]
    for measure in measures:
        print(measure.__name__.replace("_", " "), flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-waiting") as directory:
            table += measure(Path(directory), options.templates, options.seconds)
    return report("waiting", table)


if __name__ == "__main__":
    sys.exit(main())
