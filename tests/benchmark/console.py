# SPDX-License-Identifier: Apache-2.0
"""`make bench-console`: consoles through the CPVM's agent, compared with nginx and websockify.

Ours is the agent as its unit starts it, on this host, without a VM: TLS, HTTP, WebSocket, a token that a
double of the daemon checks over the real RPC, and the RFB handshake. nginx only ends TLS and passes on what
is in it. websockify does TLS and WebSocket, and looks up a token in a file. All have the same certificate,
cipher, VNC server and browsers (both C programs of this directory), and alternate in one run over loopback.
CPU and memory are those of all processes of a proxy, while its sessions are open. A ratio is ours divided by
theirs, the median over the rounds. The rows of `filtered` are sessions of the same agent whose messages it
reads, as those that are recorded or limited.

usage: console.py [--rounds N] [--seconds S] [--only TEXT] [--before TREE]

A new session of ours is a TLS handshake, an HTTP request, a token that the daemon checks, and an RFB
handshake with each side; nginx's is a TLS handshake, and it passes the rest on. Two bars did not hold where
this was last measured. nginx itself opens only 6 to 10 times as many sessions as websockify, whose bar is 8.
And TLS and the kernel take nine tenths of the CPU of 50 sessions, which is more than half of websockify's:
its bar of 0.5 needs TLS in the kernel, which that machine does not have.

The exit code is 1 when a bar does not hold. With --before the agent of another source tree is measured in the
same run; its rows have no bar.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from attrs import evolve, field, frozen  # noqa: E402

from benchmark.console_peers import DESCRIPTORS, Bench, Proxy  # noqa: E402
from benchmark.report import report  # noqa: E402

MANY = 1000
STALLED = 50
RECORDED = 50
#: However busy the machine is, a proxy closes the sessions of browsers that have left.
CLOSED_WITHIN_S = 120.0
AGENT, NGINX, WEBSOCKIFY, BEFORE = "agent", "nginx", "websockify", "before"


@frozen
class Run:
    """One measurement: CPU seconds and memory of the proxy, and what the browsers counted."""

    cpu_s: float
    resident_kb: float
    counted: dict[str, float]
    relay_ms: float  # of the first process alone, to the nanosecond
    tree_ms: float  # of all processes that ran from beginning to end

    @property
    def mb_per_s(self) -> float:
        return self.counted["bytes"] / 1e6 / self.counted["seconds"]

    @property
    def cpu_ms_per_mb(self) -> float:
        return 1000 * self.cpu_s / (self.counted["bytes"] / 1e6)

    @property
    def relay_ms_per_mb(self) -> float:
        return self.relay_ms / (self.counted["bytes"] / 1e6)

    @property
    def tree_ms_per_mb(self) -> float:
        return self.tree_ms / (self.counted["bytes"] / 1e6)

    @property
    def p50_us(self) -> float:
        return self.counted["p50_us"]

    @property
    def opened_per_s(self) -> float:
        return self.counted["opened"] / self.counted["seconds"]


@frozen
class Comparison:
    """A load, the figure that is compared, and the least or greatest ratio to each peer."""

    metric: str
    unit: str
    mode: str
    sessions: int
    figure: Callable[[Run], float]
    bars: dict[str, float]
    is_least: bool = True  # a bar is the least ratio that holds; otherwise the greatest
    filtered_bars: dict[str, float] = field(factory=dict)  # of sessions whose messages are read


COMPARISONS = (
    Comparison(
        "throughput of 1 session", "MB/s", "flood", 1,
        lambda run: run.mb_per_s, {NGINX: 1.0, WEBSOCKIFY: 1.25},
    ),
    Comparison(
        "CPU at 50 sessions", "ms/MB", "flood", 50,
        lambda run: run.cpu_ms_per_mb, {NGINX: 1.15, WEBSOCKIFY: 0.5}, is_least=False,
        filtered_bars={AGENT: 1.1},
    ),
    Comparison(
        "round trip of a key, p50", "us", "echo", 1,
        lambda run: run.p50_us, {NGINX: 2.0, WEBSOCKIFY: 1.0}, is_least=False,
    ),
    Comparison(
        "new sessions, one after another", "/s", "connect", 1,
        lambda run: run.opened_per_s, {NGINX: 0.5, WEBSOCKIFY: 8.0},
    ),
    Comparison(
        "new sessions, 8 at a time", "/s", "connect", 8, lambda run: run.opened_per_s, {},
    ),
)  # fmt: skip


class Browsers:
    """Runs the client; each run has tokens of its own."""

    def __init__(self, program: Path, seconds: float) -> None:
        self._program = program
        self._seconds = seconds
        self._runs = 0

    def run(self, proxy: Proxy, mode: str, sessions: int, seconds: float = 0) -> Run:
        """Open sessions and measure for a time."""
        with self._client(proxy, mode, sessions, seconds or self._seconds) as client:
            before_s, relay_ms, tree_ms = proxy.cpu_s(), proxy.own_cpu_ms(), proxy.tree_cpu_ms()
            word, _, counted = _line(client).partition(" ")
            relay_ms, tree_ms = proxy.own_cpu_ms() - relay_ms, proxy.tree_cpu_ms() - tree_ms
            cpu_s, resident_kb = proxy.cpu_s() - before_s, proxy.resident_kb()
            if word != "end":
                raise SystemExit(f"error: {mode} with {sessions} sessions of {proxy.name} breaks off")
        return Run(cpu_s, resident_kb, json.loads(counted), relay_ms, tree_ms)

    def start_recorder(self, recorded: Proxy) -> None:
        """Open a session that is recorded, and wait until the process that records it has settled."""
        self._runs += 1
        client = subprocess.Popen(
            [self._program, "updates", str(recorded.port), recorded.path.format(run=self._runs), "1", "60"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with client:
            if _line(client) != "begin":
                raise SystemExit("error: a recorded session does not begin")
            while len(recorded.pids()) == 1:
                time.sleep(0.1)
            client.terminate()
        before, now = -1, recorded.descriptors()
        while before != now:
            time.sleep(self._seconds)
            before, now = now, recorded.descriptors()

    def memory_kb(self, proxy: Proxy, mode: str, sessions: int) -> list[float]:
        """Open sessions; return the proxy's memory after a while, and after three times as long."""
        found = []
        with self._client(proxy, mode, sessions, 60.0):
            for wait_s in (self._seconds, 2 * self._seconds):
                time.sleep(wait_s)
                found.append(proxy.proportional_kb())
        return found

    @contextmanager
    def _client(
        self, proxy: Proxy, mode: str, sessions: int, seconds: float
    ) -> Iterator[subprocess.Popen[str]]:
        self._runs += 1
        path = proxy.path.format(run=self._runs)
        idle_descriptors = proxy.descriptors()
        client = subprocess.Popen(
            [self._program, mode, str(proxy.port), path, str(sessions), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with client:
            if _line(client) != "begin":
                raise SystemExit(f"error: {mode} with {sessions} sessions of {proxy.name} does not begin")
            yield client
            assert client.stdin is not None
            client.stdin.close()
        # The sessions that were closed must not take the places of the next ones.
        closed_by_s = time.monotonic() + CLOSED_WITHIN_S
        while proxy.descriptors() > idle_descriptors:
            if time.monotonic() > closed_by_s:
                raise SystemExit(f"error: {proxy.name} leaves sessions open after {mode}")
            time.sleep(0.05)


def _line(client: subprocess.Popen[str]) -> str:
    assert client.stdout is not None
    return client.stdout.readline().rstrip("\n")


def compare(
    browsers: Browsers, proxies: list[Proxy], filtered: Proxy, comparison: Comparison, rounds: int
) -> list[dict[str, Any]]:
    """Run all proxies in turn; return a row for each peer, and those of the agent's filtered sessions."""
    runs: dict[str, list[Run]] = {proxy.name: [] for proxy in (*proxies, filtered)}
    for number in range(rounds):
        first = number % len(proxies)
        for proxy in (*proxies[first:], *proxies[:first], filtered):
            runs[proxy.name].append(browsers.run(proxy, comparison.mode, comparison.sessions))
    ours, peers = proxies[0].name, [proxy.name for proxy in proxies[1:]]
    rows = [row(comparison, runs[ours], name, runs[name]) for name in peers]
    of_filtered = evolve(
        comparison, metric=f"{filtered.name}: {comparison.metric}", bars=comparison.filtered_bars
    )
    return rows + [row(of_filtered, runs[filtered.name], name, runs[name]) for name in (ours, *peers)]


def row(comparison: Comparison, ours: list[Run], name: str, peer: list[Run]) -> dict[str, Any]:
    """Return a row; a peer without a bar is only shown."""
    figure, bar = comparison.figure, comparison.bars.get(name)
    ratio = statistics.median(figure(mine) / figure(theirs) for mine, theirs in zip(ours, peer, strict=True))
    return {
        "metric": comparison.metric, "peer": name, "unit": comparison.unit,
        "ours": round(statistics.median(map(figure, ours)), 2),
        "theirs": round(statistics.median(map(figure, peer)), 2),
        "ratio": round(ratio, 2), "bar": "" if bar is None else bar,
        "bound": "" if bar is None else ">=" if comparison.is_least else "<=",
        "holds": bar is None or (ratio >= bar if comparison.is_least else ratio <= bar),
    }  # fmt: skip


def limit_row(metric: str, unit: str, ours: float, limit: float, peer: str, theirs: float) -> dict[str, Any]:
    """Return the row of a figure that has a limit of its own; the peer's is only shown beside it."""
    return {
        "metric": metric, "peer": peer, "unit": unit, "ours": round(ours, 2), "theirs": round(theirs, 2),
        "ratio": "", "bar": limit, "bound": "<=", "holds": ours <= limit,
    }  # fmt: skip


def idle_sessions(browsers: Browsers, fresh: Proxy, nginx: Proxy) -> list[dict[str, Any]]:
    """Measure what a session that is open adds to a proxy that has had none but one."""
    added_kb = []
    for proxy in (fresh, nginx):
        browsers.run(proxy, "idle", 1, 1)
        before_kb = proxy.proportional_kb()
        added_kb.append((browsers.memory_kb(proxy, "idle", MANY)[-1] - before_kb) / MANY)
    return [limit_row(f"an idle session, of {MANY}", "kB", added_kb[0], 20.0, NGINX, added_kb[1])]


def stalled_sessions(browsers: Browsers, fresh: Proxy, nginx: Proxy) -> list[dict[str, Any]]:
    """Measure what browsers that read nothing add, at once and after a while."""
    added_kb = []
    for proxy in (fresh, nginx):
        browsers.run(proxy, "flood", 1, 1)
        before_kb = proxy.proportional_kb()
        found = browsers.memory_kb(proxy, "stalled", STALLED)
        added_kb.append([(each - before_kb) / STALLED for each in found])
    ours, theirs = added_kb
    return [
        limit_row("a browser that reads nothing", "kB", max(ours), 512.0, NGINX, max(theirs)),
        limit_row("what it adds later", "kB", ours[-1] - ours[0], 1.0, NGINX, theirs[-1] - theirs[0]),
    ]


def many_sessions(browsers: Browsers, proxies: list[Proxy], rounds: int) -> list[dict[str, Any]]:
    """Measure sessions that get 4 kB five times a second."""
    runs: dict[str, list[Run]] = {proxy.name: [] for proxy in proxies}
    for _ in range(rounds):
        for proxy in proxies:
            runs[proxy.name].append(browsers.run(proxy, "updates", MANY, 5))
    rows = []
    figures: list[tuple[str, str, float, Callable[[Run], float]]] = [
        ("CPU", "cores", 0.30, lambda run: run.cpu_s / run.counted["seconds"]),
        ("resident memory", "MB", 80.0, lambda run: run.resident_kb / 1000),
        ("lateness, p99", "ms", 50.0, lambda run: run.counted["p99_us"] / 1000),
    ]
    for name, unit, limit, figure in figures:
        ours, *others = (statistics.median(map(figure, runs[proxy.name])) for proxy in proxies)
        for proxy, theirs in zip(proxies[1:], others, strict=True):
            rows.append(limit_row(f"{MANY} sessions, {name}", unit, ours, limit, proxy.name, theirs))
    return rows


def recorded_sessions(
    browsers: Browsers, agent: Proxy, filtered: Proxy, recorded: Proxy, rounds: int
) -> list[dict[str, Any]]:
    """Measure what sessions with ordinary screens cost the process that relays, and all of its processes.

    The recorder's process, which makes the recordings and delivers them, runs from the beginning.
    """
    browsers.start_recorder(recorded)
    runs: dict[str, list[Run]] = {proxy.name: [] for proxy in (agent, filtered, recorded)}
    for _ in range(rounds):
        for proxy in (agent, filtered, recorded):
            runs[proxy.name].append(browsers.run(proxy, "updates", RECORDED, 6))
    ours = runs[recorded.name]
    relay = Comparison(
        f"{RECORDED} recorded sessions, relay's CPU", "ms/MB", "updates", RECORDED,
        lambda run: run.relay_ms_per_mb, {agent.name: 1.3, filtered.name: 1.1}, is_least=False,
    )  # fmt: skip
    whole = evolve(
        relay, metric=f"{RECORDED} recorded sessions, all CPU", figure=lambda run: run.tree_ms_per_mb, bars={}
    )
    peers = (agent.name, filtered.name)
    return [row(each, ours, name, runs[name]) for each in (relay, whole) for name in peers]


def measure(rounds: int, seconds: float, only: str, before: Path | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bench-console") as directory:
        bench = Bench(Path(directory))
        browsers = Browsers(bench.client, seconds)
        try:
            if only in "idle":
                rows += idle_sessions(browsers, bench.start_agent(), bench.start_nginx())
            if only in "stalled":
                rows += stalled_sessions(browsers, bench.start_agent(), bench.start_nginx())
            if only in "recorded":
                fresh = bench.start_agent()
                filtered, recorded = bench.filtered(fresh), bench.recorded(fresh)
                rows += recorded_sessions(browsers, fresh, filtered, recorded, rounds)
            proxies = [bench.start_agent(), bench.start_nginx(), bench.start_websockify()]
            if before is not None:
                proxies.append(bench.start_agent(BEFORE, before))
            if only in "many":
                rows += many_sessions(browsers, [proxies[0], proxies[1], *proxies[3:]], rounds)
            for comparison in COMPARISONS:
                if only in comparison.metric:
                    print(f"{comparison.metric}: {rounds} rounds", flush=True)
                    filtered = bench.filtered(proxies[0])
                    rows += compare(browsers, proxies, filtered, comparison, rounds)
        finally:
            bench.close()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare consoles with nginx and websockify.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="of a measurement (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="metrics whose name contains this")
    parser.add_argument(
        "--before", type=Path, metavar="TREE", help="also measure the agent of this source tree"
    )
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        raise SystemExit(f"error: too few descriptors: {hard}, at least {DESCRIPTORS} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    begun_s = time.monotonic()
    rows = measure(options.rounds, options.seconds, options.only, options.before)
    print(f"{time.monotonic() - begun_s:.0f} s")
    return report("console", rows, rounds=options.rounds)


if __name__ == "__main__":
    sys.exit(main())
