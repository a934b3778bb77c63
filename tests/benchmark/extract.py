# SPDX-License-Identifier: Apache-2.0
"""`make bench-extract`: a link to an image without TLS, compared with nginx and its sendfile.

Ours is the SSVM's own process that serves links, with the store's helper, in a network namespace on this
host. nginx runs in the same namespace and sends the same file of the same tmpfs. One curl downloads from each
alternately in one run. A ratio is the median of nginx's time divided by ours over the rounds. CPU seconds are
those of the servers.

usage: extract.py [--rounds N] [--mib N]     needs root; exit code 1 when the bar does not hold
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

import msgspec  # noqa: E402
from attrs import frozen  # noqa: E402

from benchmark.in_reactor import need_root  # noqa: E402
from benchmark.report import report  # noqa: E402
from integration.ssvm_lab.world import STORE, VM, Builder, World  # noqa: E402
from systemvm.wire.extract import (  # noqa: E402
    EXTRACT_LINKS,
    EXTRACT_SETUP,
    ExtractLink,
    ExtractLinks,
    ExtractSetup,
)

BAR = 0.95
NGINX_PORT = 8081
START_TIMEOUT_S = 60.0
_PROPERTIES = (
    "id=204\nuniquename=204-2-bench\nfilename=image.raw\nraw=true\nraw.filename=image.raw\nraw.size={0}\n"
    "raw.virtualsize={0}\nsize={0}\nvirtualsize={0}\npublic=true\nhvm=true\ndescription=bench\nchecksum=\n"
)


@frozen
class ServerCost:
    """Wall-clock seconds of the client, and CPU seconds of the server."""

    wall_s: float
    cpu_s: float


def publish(world: World, mib: int) -> Path:
    """Write a template to the store; return its file."""
    directory = world.store / "template/tmpl/2/204"
    directory.mkdir(parents=True)
    image = directory / "image.raw"
    piece = os.urandom(1 << 20)
    with image.open("wb") as file:
        for _ in range(mib):
            file.write(piece)
    (directory / "template.properties").write_text(_PROPERTIES.format(mib << 20))
    return image


def serve(world: World) -> tuple[socket.socket, str]:
    """Have serve serve a link; return the connection, which must stay open, and the URL."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(START_TIMEOUT_S)
    connection.connect(str(world.paths.serve_socket))
    link = ExtractLink(str(uuid.uuid4()), "image.raw", STORE, 2, 204, time.time() + 3600)
    orders: list[tuple[str, Any]] = [
        (EXTRACT_SETUP, ExtractSetup(f"http://{VM}:443", "", "")),
        (EXTRACT_LINKS, ExtractLinks([link])),
    ]
    for number, (method, params) in enumerate(orders, 1):
        call = {"jsonrpc": "2.0", "id": number, "method": method, "params": msgspec.to_builtins(params)}
        connection.sendall(json.dumps(call).encode() + b"\n")
        answer = json.loads(connection.recv(65536).splitlines()[-1])
        if "result" not in answer:
            raise SystemExit(f"error: serve answers {answer}")
    return connection, f"http://{VM}:443{link.path}"


def start_nginx(world: World, directory: Path) -> int:
    """Return the process id of an nginx with one worker that sends the store's files."""
    (directory / "bench.conf").write_text(
        f"user root; worker_processes 1; pid {directory}/bench.pid; error_log {directory}/bench.log;\n"
        "events {} http { access_log off; sendfile on; tcp_nopush on; default_type x/image;\n"
        f"server {{ listen {VM}:{NGINX_PORT}; root {world.store}; }} }}\n"
    )
    world.in_vm("nginx", "-c", str(directory / "bench.conf"), "-e", str(directory / "bench.log"))
    return int((directory / "bench.pid").read_text())


def fetch(world: World, url: str, pids: list[int], size_bytes: int) -> ServerCost:
    """Download once, and check how many bytes came."""
    before_s = sum(map(cpu_s, pids))
    begun_s = time.monotonic()
    done = world.in_world("curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w", "%{size_download}", url)
    wall_s = time.monotonic() - begun_s
    if done.returncode or int(done.stdout) != size_bytes:
        raise SystemExit(f"error: {url}: {done.stderr.decode()} {done.stdout.decode()}")
    return ServerCost(wall_s, sum(map(cpu_s, pids)) - before_s)


def cpu_s(pid: int) -> float:
    """utime and stime, with those of children that were waited for (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def row(ours: list[ServerCost], theirs: list[ServerCost], mib: int) -> dict[str, Any]:
    """Return the result; the ratio is the median of those of the rounds."""
    ratio = statistics.median(peer.wall_s / mine.wall_s for peer, mine in zip(theirs, ours, strict=True))
    return {
        "metric": f"link to an image of {mib} MiB, plain HTTP", "peer": "nginx, sendfile on", "unit": "s",
        "ours": round(statistics.median(cost.wall_s for cost in ours), 3),
        "theirs": round(statistics.median(cost.wall_s for cost in theirs), 3),
        "ours_cpu_s": round(statistics.median(cost.cpu_s for cost in ours), 2),
        "theirs_cpu_s": round(statistics.median(cost.cpu_s for cost in theirs), 2),
        "ratio": round(ratio, 2), "bar": BAR, "holds": ratio >= BAR,
    }  # fmt: skip


def measure(rounds: int, mib: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="bench-extract") as directory,
        Builder(Path(directory), store_size=f"{mib + 64}m") as world,
    ):
        image = publish(world, mib)
        connection, url = serve(world)
        master = start_nginx(world, Path(directory))
        peer_url = f"http://{VM}:{NGINX_PORT}/{image.relative_to(world.store)}"
        ours: list[ServerCost] = []
        theirs: list[ServerCost] = []
        try:
            mine, peers = [*world.serve_pids(), *world.helper_pids()], [master, *children(master)]
            for number in range(rounds + 1):
                turns = [(ours, url, mine), (theirs, peer_url, peers)]
                for costs, address, pids in turns if number % 2 else reversed(turns):
                    costs.append(fetch(world, address, pids, mib << 20))
        finally:
            world.in_vm("nginx", "-c", str(Path(directory) / "bench.conf"), "-s", "stop")
            connection.close()
        return row(ours[1:], theirs[1:], mib)  # the first round only warms up


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a link to an image with nginx.")
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=2048, help="size of the image (default: %(default)s)")
    options = parser.parse_args()
    need_root()
    return report("extract", [measure(options.rounds, options.mib)])


if __name__ == "__main__":
    sys.exit(main())
