# SPDX-License-Identifier: Apache-2.0
"""`make bench-api`: signed requests of the API beside 100,000 templates, 10,000 VMs and 1,000,000 events.

Site, signatures and database are the daemon's (`api_daemon.py`), the client is wrk. Each list is asked for in
two ways. "again": its first pages, over and over, while nothing changes, as pages and dashboards do.
"changing": the same while a template's download reports its progress every 50 ms, so that no answer that
contains templates can be sent twice: the clients ask for more pages than they get between two reports, and a
row does not hold otherwise. Each page is read once before it is measured: what many clients wait for are
pages of rows that the daemon has read already. "cold": beside that download, 32 clients ask for the pages of
all templates in a random order, so that nearly all rows are read for the first time. The growth compares the
sizes of the database in this run.

A second table has a polite client, which asks for one page of 20 after another: alone, and beside a greedy
client of another account, which asks for pages of 500 from 16 connections without a pause.

usage: api.py [--seconds N] [--templates N] [--machines N] [--events N] [--only-fairness]
exit code 1 when a bar is not met
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from attrs import frozen  # noqa: E402

from benchmark.report import report, result_file  # noqa: E402

SMALL = 1_000
PAGES = 50
#: While a download changes: none is asked for twice between two changes.
MANY_PAGES = 250
COLD_CLIENTS = 32
#: The bars of a page of 20 at 32 clients, a page of 500 and a look-up by id, in milliseconds.
PAGE_P99_MS, LONG_PAGE_P50_MS, BY_ID_P50_MS = 50.0, 50.0, 5.0
GROWTH_BAR = 1.3
GREEDY_CONNECTIONS = 16

_LATENCY = re.compile(r"^\s*(50|99)%\s+([\d.]+)(us|ms|s|m)\s*$", re.M)
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)\s*$", re.M)
_MS = {"us": 0.001, "ms": 1.0, "s": 1_000.0, "m": 60_000.0}
_FAILED = re.compile(r"Non-2xx|Socket errors")


@frozen
class Measured:
    """What wrk measured of one kind of request."""

    per_s: float
    p50_ms: float
    p99_ms: float


def parse(report: str) -> Measured:
    """Parse wrk's report.

    Raises: ValueError when it has no latencies, or requests failed.
    """
    latency = {part: float(value) * _MS[unit] for part, value, unit in _LATENCY.findall(report)}
    rate = _RATE.search(report)
    if rate is None or set(latency) != {"50", "99"} or _FAILED.search(report):
        raise ValueError(f"wrk measured nothing that can be used:\n{report}")
    return Measured(float(rate[1]), latency["50"], latency["99"])


def target(command: str, keys: tuple[str, str] | None = None, **parameters: str) -> str:
    """Return path and query of a request signed by these keys; without any, by the administrator's."""
    from small_cloud.rows import API_KEY, SECRET_KEY
    from systemvm.management.api.signature import sign

    api_key, secret_key = keys or (API_KEY, SECRET_KEY)
    given = {"command": command, "apiKey": api_key, "response": "json", **parameters}
    given["signature"] = sign(given, secret_key)
    return f"/client/api?{urlencode(given, quote_via=quote)}"


def pages(
    command: str,
    parameters: dict[str, str],
    size: int = 20,
    count: int = PAGES,
    keys: tuple[str, str] | None = None,
) -> list[str]:
    return [
        target(command, keys, listall="true", page=str(number), pagesize=str(size), **parameters)
        for number in range(1, count + 1)
    ]


def cold(templates: int) -> list[str]:
    """Return requests for all pages of so many templates, in an order that is the same in each run."""
    targets = pages("listTemplates", {"templatefilter": "all"}, count=1 + templates // 20)
    random.Random(templates).shuffle(targets)
    return targets


@contextmanager
def daemon(*sizes: int, changing: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Run an API with so many templates, machines and events; yield its origin and UUIDs of templates."""
    with tempfile.TemporaryDirectory(prefix="api", dir=result_file("api").parent) as directory:
        argv = [sys.executable, str(Path(__file__).with_name("api_daemon.py")), directory, *map(str, sizes)]
        if changing:
            argv.append("--changing")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                ready = json.loads(process.stdout.readline())
                yield f"http://127.0.0.1:{ready['port']}", ready["templates"]
            finally:
                process.kill()


def load(origin: str, targets: list[str], clients: int, seconds: int) -> Measured:
    """Send the requests in turn, each client as fast as it is answered."""
    with loading(origin, targets, clients, seconds) as process:
        report, _ = process.communicate()
    if process.returncode:
        raise ValueError(f"wrk ended with {process.returncode}")
    return parse(report)


@contextmanager
def loading(origin: str, targets: list[str], clients: int, seconds: int) -> Iterator[subprocess.Popen[str]]:
    """Run wrk with these requests; it is ended on exit."""
    quoted = ",".join(json.dumps(each) for each in targets)
    script = (
        f"local targets, n = {{{quoted}}}, 0\n"
        "request = function() n = n + 1; return wrk.format('GET', targets[n % #targets + 1]) end\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        argv = [
            *("wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "60s"),
            *("-s", file.name, origin),
        ]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


def measure_fairness(sizes: tuple[int, int, int], seconds: int) -> list[dict[str, Any]]:
    """Measure a polite client alone, and beside a greedy one of another account."""
    from benchmark.api_daemon import GREEDY_KEYS

    polite = pages("listTemplates", {"templatefilter": "all"})
    greedy = pages("listTemplates", {"templatefilter": "executable"}, 500, 10, GREEDY_KEYS)
    with daemon(*sizes, changing=True) as (origin, _):
        load(origin, polite, 1, 1)
        alone = load(origin, polite, 1, seconds)
        with loading(origin, greedy, GREEDY_CONNECTIONS, seconds + 60) as others:
            load(origin, polite, 1, 1)  # until all of the greedy connections wait
            beside = load(origin, polite, 1, seconds)
            if others.poll() is not None:
                raise ValueError(f"greedy client ended with {others.returncode} during the measurement")
    return [
        fairness_row("20 templates, one polite client", alone, alone),
        fairness_row(f"the same beside {GREEDY_CONNECTIONS} greedy connections", beside, alone),
    ]


def fairness_row(metric: str, found: Measured, alone: Measured) -> dict[str, Any]:
    """Return the row of a client, with its latencies relative to those that it has alone; it has no bar."""
    return {
        "metric": metric, "clients": 1, "per_s": round(found.per_s),
        "p50_ms": round(found.p50_ms, 2), "p99_ms": round(found.p99_ms, 2),
        "p50_ratio": round(found.p50_ms / alone.p50_ms, 2),
        "p99_ratio": round(found.p99_ms / alone.p99_ms, 2), "holds": True,
    }  # fmt: skip


def repeats(found: Measured, count: int) -> bool:
    """Return whether one of so many requests was sent again before the next report of a download."""
    from benchmark.api_daemon import REPORT_INTERVAL_S

    return found.per_s * REPORT_INTERVAL_S > count


def measure(sizes: tuple[int, int, int], seconds: int) -> list[dict[str, Any]]:
    """Measure all kinds of requests, and return a row for each."""
    table: list[dict[str, Any]] = []
    of_small: dict[str, float] = {}

    def add(
        metric: str,
        clients: int,
        found: Measured,
        bar: tuple[str, float] | None = None,
        growth: float | None = None,
        *,
        repeats: bool = False,
    ) -> None:
        holds = not repeats and (bar is None or getattr(found, bar[0]) <= bar[1])
        table.append(
            {
                "metric": metric, "clients": clients, "per_s": round(found.per_s),
                "p50_ms": round(found.p50_ms, 2), "p99_ms": round(found.p99_ms, 2),
                "bar": f"{bar[0]} <= {bar[1]:g}" if bar else "", "growth": growth and round(growth, 2),
                "holds": holds and (growth is None or growth <= GROWTH_BAR),
            }
        )  # fmt: skip

    lists = {
        "templates": ("listTemplates", {"templatefilter": "all"}),
        "VMs": ("listVirtualMachines", {}),
        "events": ("listEvents", {}),
    }
    for changing in (False, True):
        way = "changing" if changing else "again"
        for size in (tuple(min(SMALL, each) for each in sizes), sizes):
            is_small = size != sizes
            with daemon(*size, changing=changing) as (origin, uuids):
                for noun, (command, parameters) in lists.items():
                    # the small database has no more: a page that is sent again only makes growth worse
                    count = MANY_PAGES if changing and not is_small else PAGES
                    targets = pages(command, parameters, count=count)
                    load(origin, targets, 1, 2)  # what is read for the first time is not the subject
                    one = load(origin, targets, 1, seconds)
                    key = f"20 {noun}, {way}"
                    if is_small:
                        of_small[key] = one.p50_ms
                        continue
                    growth = one.p50_ms / of_small[key] if changing else None
                    add(key, 1, one, growth=growth, repeats=changing and repeats(one, len(targets)))
                    if noun == "templates" or not changing:
                        for clients in (32, 256):
                            found = load(origin, targets, clients, seconds)
                            bar = ("p99_ms", PAGE_P99_MS) if clients == 32 else None
                            add(key, clients, found, bar, repeats=changing and repeats(found, len(targets)))
                if is_small:
                    continue
                if changing:
                    add(
                        "20 templates, cold",
                        COLD_CLIENTS,
                        load(origin, cold(sizes[0]), COLD_CLIENTS, seconds),
                    )
                long = pages("listTemplates", {"templatefilter": "all"}, 500, 10)
                add(f"500 templates, {way}", 1, load(origin, long, 1, seconds), ("p50_ms", LONG_PAGE_P50_MS))
                by_id = [target("listTemplates", templatefilter="all", id=uuid) for uuid in uuids]
                add(f"by id, {way}", 1, load(origin, by_id, 1, seconds), ("p50_ms", BY_ID_P50_MS))
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure signed requests of the API beside many objects.")
    parser.add_argument(
        "--seconds", type=int, default=8, help="for each kind of request (default: %(default)d)"
    )
    parser.add_argument("--templates", type=int, default=100_000, help="(default: %(default)d)")
    parser.add_argument("--machines", type=int, default=10_000, help="(default: %(default)d)")
    parser.add_argument("--events", type=int, default=1_000_000, help="(default: %(default)d)")
    parser.add_argument(
        "--only-fairness",
        action="store_true",
        help="measure the second table only, for build/bench/api-fairness.json",
    )
    options = parser.parse_args()
    sizes = (options.templates, options.machines, options.events)
    if options.only_fairness:  # it has no bar, and does not replace the table that has some
        return report("api-fairness", measure_fairness(sizes, options.seconds))
    return report("api", [*measure(sizes, options.seconds), *measure_fairness(sizes, options.seconds)])


if __name__ == "__main__":
    sys.exit(main())
