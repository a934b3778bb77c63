# SPDX-License-Identifier: Apache-2.0
"""`make bench-helper`: CPU time of a call of the store helper, relative to starting an interpreter for it.

The helper is activated like by systemd, on a tmpfs in a mount namespace of this process. The peer does what
the first version did for each call: start Python, import the same module, look up the same template. Both
alternate in one run. CPU time is that of the helper with the children that it has reaped, or that of the
peer's process, from /proc and wait4(2).

The limit is 5 ms on a host. (In the appliance, which is emulated without KVM, it is 150 ms:
tests/system/test_helper_cost.py.)

usage: helper_call.py [--calls N] [--starts N]      needs root; exit code 1 when the limit is exceeded
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.report import report  # noqa: E402

MOUNT_ID = "6f4b3c2a-1111-3222-8333-444455556666"
BAR_MS = 5.0
START_TIMEOUT_S = 60.0
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x00020000, 0x4000, 1 << 18
FIND = {"mount_id": MOUNT_ID, "job_id": "job-1", "account_id": 2, "template_id": 204}
PEER = f"""
import sys
from pathlib import Path
from systemvm.ssvm.store.operations import StoreHelper
from systemvm.ssvm.store_messages import FindRequest
StoreHelper(Path(sys.argv[1])).find(0, FindRequest(**{FIND!r}))
"""


def private_mounts(mount_root: Path) -> None:
    """Mount a store in this process's mount namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    store = mount_root / MOUNT_ID
    store.mkdir(parents=True)
    for failed in (
        libc.unshare(_CLONE_NEWNS),
        libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None),
        libc.mount(b"store", os.fsencode(store), b"tmpfs", 0, None),
    ):
        if failed:
            raise SystemExit(
                f"error: a store cannot be mounted: {os.strerror(ctypes.get_errno())}; run as root"
            )


def start_helper(path: Path, mount_root: Path) -> int:
    """Start the helper, wait until it answers, and return its process id."""
    process = subprocess.Popen(
        ["systemd-socket-activate", "-E", "PYTHONPATH", "-l", str(path),
         sys.executable, "-m", "systemvm.ssvm.store.operations", "--mount-root", str(mount_root)],
        stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(TOP / "agents")},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise SystemExit("error: systemd-socket-activate does not listen")
        time.sleep(0.02)
    call(path)  # the activator becomes the helper at the first connection
    return process.pid


def call(path: Path) -> None:
    """Make one store.find call on a new connection."""
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "store.find", "params": FIND}) + "\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(START_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(line.encode())
        reply = b"".join(iter(lambda: connection.recv(65536), b"")).splitlines()[-1]
    if "result" not in json.loads(reply):
        raise SystemExit(f"error: the helper failed: {reply.decode()}")


def cpu_s(pid: int) -> float:
    """Return utime and stime with those of reaped children (proc(5)); a tick is 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def wait_for_children(pid: int) -> None:
    """Wait until the helper has reaped its children, which it keeps for a moment."""
    while Path(f"/proc/{pid}/task/{pid}/children").read_text():
        time.sleep(0.05)


def peer(mount_root: Path) -> float:
    """Return the CPU seconds of an interpreter that is started for one call."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(TOP / "agents")}
    subprocess.run([sys.executable, "-c", PEER, str(mount_root)], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(calls: int, starts: int) -> dict[str, float]:
    """Return milliseconds for each call: our CPU, the peer's CPU, and our wall time."""
    with tempfile.TemporaryDirectory(prefix="bench-helper") as directory:
        mount_root, path = Path(directory, "mnt"), Path(directory, "store.sock")
        private_mounts(mount_root)
        pid = start_helper(path, mount_root)
        ours_s = clock_s = peer_s = 0.0
        for _ in range(starts):
            before_s, began_s = cpu_s(pid), time.monotonic()
            for _ in range(calls // starts):
                call(path)
            clock_s += time.monotonic() - began_s
            wait_for_children(pid)
            ours_s += cpu_s(pid) - before_s
            peer_s += peer(mount_root)
        os.kill(pid, 15)
        os.waitpid(pid, 0)
        subprocess.run(["umount", str(mount_root / MOUNT_ID)], check=True)
    made = calls // starts * starts
    return {
        "ours": 1000 * ours_s / made,
        "peer": 1000 * peer_s / starts,
        "clock": 1000 * clock_s / made,
    }


def rows(found: dict[str, float]) -> list[dict[str, Any]]:
    ours, other = found["ours"], found["peer"]
    return [
        {
            "metric": "store.find, CPU ms a call", "ours": round(ours, 2), "peer": round(other, 2),
            "ratio": round(ours / other, 3), "bar": BAR_MS, "holds": ours <= BAR_MS,
        },
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the CPU time of a call of the store helper.")
    parser.add_argument("--calls", type=int, default=1000, help="calls of the helper (default: %(default)s)")
    parser.add_argument(
        "--starts", type=int, default=10, help="starts of an interpreter (default: %(default)s)"
    )
    options = parser.parse_args()
    found = measure(options.calls, options.starts)
    print(f"wall time: {found['clock']:.2f} ms a call")
    return report("helper", rows(found), **found)


if __name__ == "__main__":
    sys.exit(main())
