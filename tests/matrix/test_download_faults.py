# SPDX-License-Identifier: Apache-2.0
"""Downloads by the appliance over NFS: what one writes, and that it ends Ready after faults in its middle.

nginx's log counts what it has sent. The file is larger than twice what a fault may cost, so a download that
began anew would be noticed.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen

from booted_cloud import BootedCloud, wait_for
from systemvm.lab.plan import SOURCE
from systemvm.lab.waiting import WaitState

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1200)]

SSVM = "secondarystoragevm"
MIB = 1 << 20
SIZE_BYTES = 150 * MIB
#: Of the file, when the fault happens: beginning anew would send as much again.
BEFORE_FAULT_BYTES = 80 * MIB
MAX_SENT_AGAIN_BYTES = 64 * MIB
#: Of the image, with journals and properties; and what the helpers read of properties.
MAX_WRITTEN, MAX_READ_BYTES = 1.001, 64 * 1024
#: Longer than a minute, after which the mount returns errors.
OUTAGE_S = 90.0
KILL_A_MOVER = """
for process in $(cat /sys/fs/cgroup/system.slice/systemvm-fetch.service/cgroup.procs); do
    if [ "$(cat /proc/$process/comm)" = mover ]; then kill -9 $process && echo killed; fi
done
"""


@frozen
class Source:
    """A file that nginx serves over a slow line."""

    path: Path
    url: str
    sha256: str


@pytest.fixture(scope="module")
def source(cloud: BootedCloud) -> Iterator[Source]:
    path = cloud.plan.source_pages / "faults.raw"
    path.write_bytes(os.urandom(SIZE_BYTES))
    yield Source(
        path, f"{cloud.plan.source_url}/slow/faults.raw", hashlib.sha256(path.read_bytes()).hexdigest()
    )
    path.unlink()


def kill_a_mover(cloud: BootedCloud, name: str) -> None:
    assert "killed" in cloud.ssh(name, KILL_A_MOVER)


def kill_the_agent(cloud: BootedCloud, name: str) -> None:
    cloud.ssh(name, "kill -9 $(systemctl show -P MainPID systemvm-agent.service)")


def cut_the_power(cloud: BootedCloud, name: str) -> None:
    pid_file = cloud.plan.layout.run / "qemu" / f"{name}.pid"
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGKILL)

    def has_another() -> bool:
        try:
            return int(pid_file.read_text()) != pid
        except (FileNotFoundError, ValueError):
            return False

    def look() -> WaitState[bool]:
        vm = cloud.system_vm(SSVM)
        states = (vm["state"], vm.get("agentstate"), vm.get("reason"))
        return WaitState(f"another QEMU of {name}: {states}", has_another() or None, progress=states)

    cloud.lab.wait(look, lambda: cloud.lab.why(SSVM))


def stop_the_nfs_server(cloud: BootedCloud, name: str) -> None:
    cloud.lab.stop_storage()
    time.sleep(OUTAGE_S)  # the outage itself
    cloud.lab.start_storage()


def test_an_image_is_written_once_and_not_read_back(
    cloud: BootedCloud, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel counts what it exchanges with the NFS server; journals and properties are small."""
    name = cloud.wait_up(SSVM)["name"]
    # the agent can be Up before sshd listens
    wait_for("ssh", lambda: cloud.cli("ssh", name, "--", "true", check=False).returncode == 0)
    read_before, written_before = exchanged_bytes(cloud, name)
    url = f"{cloud.plan.source_url}/{source.path.name}"
    row = cloud.register("written once", url, "RAW", checksum=f"{{SHA-256}}{source.sha256}")
    settled = cloud.wait_settled(row["id"])
    assert settled["isready"], settled["status"]
    read, written = exchanged_bytes(cloud, name)
    share = (written - written_before) / SIZE_BYTES
    found = f"{share:.5f} of the image written to the NFS server, {read - read_before} bytes read from it"
    with capsys.disabled():
        sys.stdout.write(f"\n{found}; the bars are {MAX_WRITTEN} and {MAX_READ_BYTES}\n")
    assert 1.0 <= share <= MAX_WRITTEN
    assert read - read_before <= MAX_READ_BYTES
    cloud.delete_template(row["id"])


@pytest.mark.parametrize(
    "fault",
    [kill_a_mover, kill_the_agent, stop_the_nfs_server, cut_the_power],
    ids=lambda each: each.__name__,
)
def test_a_download_survives(
    cloud: BootedCloud, source: Source, fault: Callable[[BootedCloud, str], None]
) -> None:
    name = cloud.wait_up(SSVM)["name"]
    before_bytes = sent_bytes(cloud)
    row = cloud.register(fault.__name__, source.url, "RAW", checksum=f"{{SHA-256}}{source.sha256}")
    wait_for("the middle of the file", lambda: received_bytes(cloud, row["id"]) >= BEFORE_FAULT_BYTES)
    assert received_bytes(cloud, row["id"]) < SIZE_BYTES, "the fault comes too late"
    fault(cloud, name)
    settled = cloud.wait_settled(row["id"])
    assert settled["isready"], settled["status"]
    assert digests_of_store(cloud, SIZE_BYTES) == [source.sha256]
    wait_for("nginx to log all transfers", lambda: not open_connections(cloud))
    sent = sent_bytes(cloud) - before_bytes
    assert sent >= SIZE_BYTES, "the log is incomplete"
    assert sent <= SIZE_BYTES + MAX_SENT_AGAIN_BYTES
    cloud.wait_up(SSVM)
    cloud.delete_template(row["id"])


def test_a_store_is_mounted_read_only_and_for_writing_again(cloud: BootedCloud) -> None:
    name = cloud.wait_up(SSVM)["name"]
    store = cloud.api.listImageStores()["imagestore"][0]["id"]
    try:
        cloud.api.updateImageStore(id=store, readonly="true")
        wait_for("a read-only mount", lambda: "ro" in mount_options(cloud, name))
    finally:
        cloud.api.updateImageStore(id=store, readonly="false")
    wait_for("a mount for writing", lambda: "rw" in mount_options(cloud, name))
    row = cloud.register("after read-only", f"{cloud.plan.source_url}/tiny.qcow2")
    assert cloud.wait_settled(row["id"])["isready"]
    cloud.delete_template(row["id"])


def received_bytes(cloud: BootedCloud, template_id: str) -> int:
    row = cloud.template(template_id)
    assert row is not None
    assert "DOWNLOAD_ERROR" not in str(row.get("downloaddetails")), row
    return max((detail.get("receivedbytes") or 0 for detail in row.get("downloaddetails", [])), default=0)


def sent_bytes(cloud: BootedCloud) -> int:
    """Return the bytes of bodies that nginx has sent of the file, in all requests that have ended."""
    log = (cloud.plan.logs / "nginx.access.log").read_text()
    return sum(int(size) for size in re.findall(r'"GET /slow/faults\.raw [^"]*" \d+ (\d+) ', log))


def exchanged_bytes(cloud: BootedCloud, name: str) -> tuple[int, int]:
    """Return the bytes read from the NFS server and written to it (nfsstat(8), /proc/self/mountstats)."""
    stats = re.findall(r"^\s*bytes:\s+(.*)$", cloud.ssh(name, "cat /proc/self/mountstats"), re.MULTILINE)
    counts = [[int(count) for count in line.split()] for line in stats]
    return sum(line[4] for line in counts), sum(line[5] for line in counts)


def open_connections(cloud: BootedCloud) -> str:
    """Return nginx's connections; one to a machine without power ends after its timeout."""
    command = ["ip", "netns", "exec", cloud.plan.namespace_of(SOURCE), "ss", "-Htn", "sport", "=", ":443"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def digests_of_store(cloud: BootedCloud, size_bytes: int) -> list[str]:
    """Return the digests of all files of this size."""
    files = [cloud.plan.secondary / name for name in cloud.store_files()]
    same = [file for file in files if file.stat().st_size == size_bytes]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in same]


def mount_options(cloud: BootedCloud, name: str) -> list[str]:
    text = cloud.ssh(name, "findmnt -n -t nfs4 -o VFS-OPTIONS")
    return text.strip().split(",")
