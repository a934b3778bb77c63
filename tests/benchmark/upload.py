# SPDX-License-Identifier: Apache-2.0
"""`make bench-upload`: uploads by tus and by CloudStack's form, compared with a download of the same file.

The SSVM's own processes run in network namespaces on this host. curl uploads over TLS to serve, and nginx
serves the download over TLS; all three end when the template is Ready, with the same checksum. They alternate
in one run. A ratio is the median of the download's time divided by the upload's over the rounds. CPU seconds
are those of the SSVM's processes.

usage: upload.py [--rounds N] [--mib N]     needs root; exit code 1 when the bar does not hold
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.download_peers import Cost  # noqa: E402
from benchmark.in_reactor import need_root, run  # noqa: E402
from benchmark.report import report  # noqa: E402

MIB = 1 << 20
BAR = 0.75
TIMEOUT_S = 600.0
FILE = "upload.raw"


def ratio_row(metric: str, uploads: list[Cost], downloads: list[Cost]) -> dict[str, Any]:
    """Return a row; the ratio is the median of those of the rounds."""
    ratio = statistics.median(down.wall_s / up.wall_s for down, up in zip(downloads, uploads, strict=True))
    return {
        "metric": metric, "unit": "s",
        "upload": round(statistics.median(cost.wall_s for cost in uploads), 2),
        "download": round(statistics.median(cost.wall_s for cost in downloads), 2),
        "upload_cpu_s": round(statistics.median(cost.cpu_s for cost in uploads), 2),
        "download_cpu_s": round(statistics.median(cost.cpu_s for cost in downloads), 2),
        "ratio": round(ratio, 2), "bar": BAR, "holds": ratio >= BAR,
    }  # fmt: skip


class UploadBench:
    """The ways of one file to the store; its content has `digest`."""

    def __init__(self, bench: Any, world: Any, daemon: Any, ca: Path, file: Path) -> None:
        self._bench = bench
        self._world = world
        self._daemon = daemon
        self._ca = ca
        self._file = file

    async def download(self) -> Cost:
        from systemvm.wire.storage import ImageFormat

        cost: Cost = await self._bench.ours("https", FILE, ImageFormat.RAW)
        return cost

    async def tus(self) -> Cost:
        from integration.ssvm_lab.uploads import header_options

        about = {
            "Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Upload-Length": str(self._file.stat().st_size),
            "Content-Type": "application/offset+octet-stream",
        }  # fmt: skip
        return await self._upload(
            "-X", "PATCH", "-T", str(self._file), "-H", "Expect:", *header_options(about)
        )

    async def form(self) -> Cost:
        return await self._upload("-F", f"file=@{self._file}", "-H", "Expect:")

    async def _upload(self, *arguments: str) -> Cost:
        from twisted.internet.threads import deferToThread

        from integration.ssvm_lab.public_client import Client
        from integration.ssvm_lab.uploads import Uploader, upload_request
        from systemvm.wire.storage import DownloadState, DownloadStatus
        from systemvm.wire.upload import TEMPLATE_UPLOAD

        checksum = self._bench.checksum(FILE)
        order = upload_request(checksum=checksum, max_size_bytes=self._file.stat().st_size)
        begun_s, cpu_s = time.monotonic(), self._bench.cpu_s()
        ended = self._daemon.end_of(order.job_id, TIMEOUT_S)
        await self._daemon.call(TEMPLATE_UPLOAD, order, DownloadStatus)
        uploader = Uploader(Client(self._world, self._ca), order, self._ca.parent)
        code = await deferToThread(self._curl, *arguments, *uploader.signed, order.post_url)
        status = await ended
        if status.state is not DownloadState.DOWNLOADED or code not in ("200", "204"):
            raise SystemExit(f"error: upload failed with {code}: {status.error}")
        cost = Cost(time.monotonic() - begun_s, self._bench.cpu_s() - cpu_s)
        self._bench.clear()
        return cost

    def _curl(self, *arguments: str) -> str:
        command = ["nsenter", f"--net=/run/netns/{self._world.world_namespace}", "curl", "-sS"]
        command += ["--noproxy", "*", "--cacert", str(self._ca), "-o", "/dev/null", "-w", "%{http_code}"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"error: curl: {done.stderr}")
        return done.stdout


async def measure(reactor: Any, rounds: int, mib: int) -> list[dict[str, Any]]:
    import trustme

    from benchmark.download_bench import DownloadBench
    from benchmark.download_peers import run_peer
    from integration.ssvm_lab.public_client import identity
    from integration.ssvm_lab.world import VM, Builder
    from systemvm.wire.acknowledgement import Acknowledgement
    from systemvm.wire.extract import EXTRACT_SETUP

    authority = trustme.CA()
    costs: dict[str, list[Cost]] = {"download": [], "tus": [], "form": []}
    with (
        tempfile.TemporaryDirectory(prefix="bench-upload") as directory,
        Builder(Path(directory), store_size=f"{2 * mib + 64}m", limits={}) as world,
    ):
        file = world.files / FILE
        write_random(file, mib)
        (Path(directory) / "public.pem").write_bytes(authority.cert_pem.bytes())
        bench = await DownloadBench(reactor, Path(directory), world, run_peer).start()
        ways = UploadBench(bench, world, bench.daemon, Path(directory) / "public.pem", file)
        turns: list[tuple[str, Callable[[], Awaitable[Cost]]]] = [
            ("download", ways.download), ("tus", ways.tus), ("form", ways.form),
        ]  # fmt: skip
        try:
            await bench.daemon.call(EXTRACT_SETUP, identity(authority, VM), Acknowledgement)
            for number in range(rounds + 1):
                for name, way in turns[number % 3 :] + turns[: number % 3]:
                    cost = await way()
                    if number:  # the first round only warms up
                        costs[name].append(cost)
        finally:
            await bench.stop()
    return [
        ratio_row(f"{mib} MiB by {name}, TLS 1.3", costs[way], costs["download"])
        for way, name in (("tus", "tus"), ("form", "form"))
    ]


def write_random(path: Path, mib: int) -> None:
    with path.open("wb") as file:
        for _ in range(mib // 16):
            file.write(os.urandom(16 * MIB))


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare uploads with a download of the same file.")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=1024, help="size of the file (default: %(default)s)")
    options = parser.parse_args()
    need_root()
    table = run(lambda reactor: measure(reactor, options.rounds, options.mib))
    return report("upload", table, rounds=options.rounds)


if __name__ == "__main__":
    sys.exit(main())
