# SPDX-License-Identifier: Apache-2.0
"""`make bench-snapshot`: snapshots of a running machine's disk and their restore, compared with qemu-img.

Ours is the daemon's own code: QEMU's backup job writes the snapshot to primary storage, the SSVM's code
writes its pieces to a store, and a volume is made from what is on the store. The peer is
`qemu-img convert; sync FILE` of the same disk while the machine has it. They alternate in one run on the file
system of `build/`; a ratio is the median of the peer's time divided by ours. A snapshot is taken when it is
durable on primary storage: then its volume can be changed again. Its copy to a store is a second one, which
has no bar here; the connection between daemon and SSVM is left out. Then the machine writes, and an increment
is taken: its row has what changed and what was moved.

usage: snapshot.py [--rounds N] [--mib N]     needs qemu-system-x86 and qemu-img; exit code 1 when a bar does
not hold
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.in_reactor import run  # noqa: E402
from benchmark.report import report, result_file  # noqa: E402

MIB = 1 << 20
#: The least ratio to a copy, and the most that an increment moves of what changed.
MIN_RATIO, MAX_MOVED = 0.8, 1.1
CHANGED_MIB = 2


def ratio_row(what: str, ours_s: list[float], peer_s: list[float], mib: int) -> dict[str, Any]:
    """Return a row; its figures are MiB/s, and its ratio the median of those of the rounds."""
    ratio = statistics.median(peer / ours for peer, ours in zip(peer_s, ours_s, strict=True))
    return {
        "metric": f"{what} of {mib} MiB (MiB/s), ratio of qemu-img convert",
        "ours": round(mib / statistics.median(ours_s), 1),
        "peer": round(mib / statistics.median(peer_s), 1),
        "ratio": round(ratio, 2), "bar": MIN_RATIO, "holds": ratio >= MIN_RATIO,
    }  # fmt: skip


def copied_row(ours_s: list[float], peer_s: list[float], mib: int) -> dict[str, Any]:
    """Return the row of the second copy, to secondary storage, which has no bar: its volume can be used."""
    row = ratio_row("its copy to a store", ours_s, peer_s, mib)
    return row | {"bar": None, "holds": True}


def moved_row(moved_bytes: int, changed_bytes: int) -> dict[str, Any]:
    """Return the row of an increment; its figures are KiB."""
    ratio = moved_bytes / changed_bytes
    return {
        "metric": "increment (KiB): moved, of what changed",
        "ours": moved_bytes // 1024, "peer": changed_bytes // 1024,
        "ratio": round(ratio, 3), "bar": MAX_MOVED, "holds": ratio <= MAX_MOVED,
    }  # fmt: skip


def fill(path: Path, mib: int) -> None:
    """Write a qcow2 whose clusters all have data."""
    raw = path.with_suffix(".raw")
    with raw.open("wb") as file:
        for _ in range(mib // 16):
            file.write(os.urandom(16 * MIB))
    subprocess.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", str(raw), str(path)], check=True)
    raw.unlink()


def copy(source: Path, target: Path) -> None:
    """Do what the peer does."""
    words = ["qemu-img", "convert", "-q", "-U", "-f", "qcow2", "-O", "qcow2", str(source), str(target)]
    subprocess.run(words, check=True)
    subprocess.run(["sync", str(target)], check=True)
    target.unlink()


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    os.sync()  # what was written before is no burden
    begun_s = time.monotonic()
    await work()
    return time.monotonic() - begun_s


async def measure(rounds: int, mib: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="snapshot", dir=result_file("snapshot").parent) as name:
        directory = Path(name)
        lab = await Lab.start(directory, mib)
        restored, copies = [], []
        try:
            for number in range(rounds):
                copies.append(await timed(lab.copy))
                os.sync()
                await lab.take_whole()
                restored.append(await timed(lab.restore))
                if number < rounds - 1:
                    await lab.delete()
            changed = CHANGED_MIB * MIB
            moved = await lab.take_increment(changed)
        finally:
            await lab.stop()
    return [
        ratio_row("snapshot", lab.taken_s[:rounds], copies, mib),
        ratio_row("restore", restored, copies, mib),
        copied_row(lab.copied_s[:rounds], copies, mib),
        moved_row(moved, changed),
    ]


class Lab:
    """A small cloud with one VM, whose machine and disk are real."""

    def __init__(self, cloud: Any, driver: Any, directory: Path) -> None:
        from twisted.internet.threads import deferToThread

        from integration.test_volume_snapshots import Lab as SnapshotLab
        from systemvm.wire.snapshot import SNAPSHOT_WRITE

        self.in_thread = deferToThread
        self._lab = SnapshotLab(cloud, driver, directory)
        self._taken: Any = None
        self.taken_s: list[float] = []  # until a snapshot is durable on primary storage
        self.copied_s: list[float] = []  # from there to the store
        self._begun_s = 0.0
        self._moved_bytes = 0
        upload = self._lab.service._files.upload

        async def timed_upload(snapshot: Any, path: Path, report: Any) -> int:
            await deferToThread(subprocess.run, ["sync", str(path)], check=True)
            at_s = time.monotonic()
            self.taken_s.append(at_s - self._begun_s)
            moved = await upload(snapshot, path, report)
            self.copied_s.append(time.monotonic() - at_s)
            return moved

        self._lab.service._files.upload = timed_upload  # type: ignore[method-assign]
        peer = cloud.ssvm_peer
        write = peer.answers[SNAPSHOT_WRITE]

        def write_and_forget(piece: Any) -> Any:
            peer.calls.pop()  # with the pieces of a whole disk, memory was what was measured
            self._moved_bytes += len(piece.data)
            return write(piece)

        peer.answers[SNAPSHOT_WRITE] = write_and_forget

    @property
    def disk(self) -> Path:
        path: Path = self._lab.primary.volume_path(self._lab.volume.uuid)
        return path

    @classmethod
    async def start(cls, directory: Path, mib: int) -> Lab:
        from integration.qemu_lab import NoTaps
        from small_cloud import make
        from small_cloud.rows import fill as fill_rows
        from systemvm.host.accelerator import Accelerator
        from systemvm.management.hypervisors.qemu import QemuHypervisor

        (directory / "rows").mkdir()
        cloud = make(directory, fill_rows(directory / "rows"))
        # the paths of QEMU's sockets are short
        driver = QemuHypervisor(Path(tempfile.mkdtemp(prefix="qmp")), NoTaps(), Accelerator.TCG)
        lab = cls(cloud, driver, directory)
        await lab._lab.start(lambda base: fill(base, mib), mib * MIB)
        return lab

    async def copy(self) -> None:
        await self.in_thread(copy, self.disk, self._lab.directory / "peer.qcow2")

    async def take_whole(self) -> None:
        self._begun_s = time.monotonic()
        self._taken = await self._lab.take()
        assert self._taken.parent_id is None

    async def take_increment(self, changed_bytes: int) -> int:
        await self._lab.write("16M", str(changed_bytes))
        before = self._moved_bytes
        taken = await self._lab.take()
        assert taken.parent_id == self._taken.id
        return self._moved_bytes - before

    async def restore(self) -> None:
        chain = await self._lab.service._files.chain(self._taken)
        await self._lab.primary.restore_volume(str(uuid.uuid4()), chain, self._taken.size_bytes)

    async def delete(self) -> None:
        await self._lab.service.delete(self._taken.id)
        for path in self.disk.parent.iterdir():
            if path != self.disk:
                path.unlink()

    async def stop(self) -> None:
        await self._lab.driver.stop(self._lab.vm.instance_name, forced=True)
        await self._lab.driver.close()
        self._lab.cloud.jobs.stop()
        self._lab.cloud.database.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare snapshots and restores with qemu-img convert.")
    parser.add_argument("--rounds", type=int, default=5, help="of each (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=1024, help="size of the disk (default: %(default)s)")
    options = parser.parse_args()
    table = run(lambda reactor: measure(options.rounds, options.mib), "asyncio")
    return report("snapshot", table, rounds=options.rounds)


if __name__ == "__main__":
    sys.exit(main())
