# SPDX-License-Identifier: Apache-2.0
"""The CPU time of a call of the store helper in the appliance, compared with a start of Python."""

from __future__ import annotations

import json
import sys

import pytest

from booted_cloud import BootedCloud

pytestmark = pytest.mark.cloud

#: Runs in the guest, as root, which is permitted the agent's calls. The unit's cgroup has the CPU time.
MEASURE = r"""
import json, os, resource, socket, subprocess, sys
from pathlib import Path

CALLS, STARTS = 20, 3
MOUNT_ID = next(Path("/mnt/SecStorage").iterdir()).name
LINE = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "store.find", "params":
    {"mount_id": MOUNT_ID, "job_id": "none", "account_id": 1, "template_id": 1}}).encode() + b"\n"

def call():
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("/run/systemvm/store.sock")
        connection.sendall(LINE)
        lines = b"".join(iter(lambda: connection.recv(65536), b"")).splitlines()
    assert "result" in json.loads(lines[-1]), lines

def unit_cpu_s():
    stat = Path("/sys/fs/cgroup/system.slice/systemvm-store.service/cpu.stat").read_text()
    return int(stat.split()[1]) / 1e6

def main_pid():
    return subprocess.check_output(["systemctl", "show", "-P", "MainPID", "systemvm-store.service"]).strip()

call()
before, pid = unit_cpu_s(), main_pid()
for _ in range(CALLS):
    call()
call_s = (unit_cpu_s() - before) / CALLS
assert main_pid() == pid != b"0"
before = resource.getrusage(resource.RUSAGE_CHILDREN)
for _ in range(STARTS):
    code = f"import sys; sys.path.append('{sys.argv[1]}'); import systemvm.ssvm.store.operations"
    subprocess.run([sys.executable, "-IS", "-c", code], check=True)
after = resource.getrusage(resource.RUSAGE_CHILDREN)
start_s = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / STARTS
print(json.dumps({"call_s": call_s, "start_s": start_s}))
"""


def test_a_store_call_costs_a_fork_and_not_an_interpreter(cloud: BootedCloud) -> None:
    """The limit is 150 ms on an idle machine, and the start of an interpreter on a busy one."""
    name = cloud.wait_up("secondarystoragevm")["name"]
    command = f"python3 -IS - /opt/systemvm/current/lib <<'MEASURE'\n{MEASURE}\nMEASURE"
    cost = json.loads(cloud.ssh(name, command, timeout_s=600.0).splitlines()[-1])
    sys.stdout.write(
        f"store.find: {cost['call_s'] * 1000:.0f} ms, start of Python: {cost['start_s'] * 1000:.0f} ms\n"
    )
    assert cost["call_s"] < 0.15 or cost["call_s"] < cost["start_s"] / 10, cost
