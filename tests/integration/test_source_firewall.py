# SPDX-License-Identifier: Apache-2.0
"""The guest's real rules, filled at boot and changed by the mount helper while connections are attempted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from systemvm.guest.paths import GuestPaths

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

TOP = Path(__file__).resolve().parents[2]
BOOT = {
    "type": "secstorage", "name": "s-1-VM", "eth0ip": "169.254.10.2", "eth0mask": "255.255.0.0",
    "eth1ip": "10.11.0.100", "eth1mask": "255.255.255.0", "mgmtcidr": "10.11.0.0/24",
    "eth2ip": "203.0.113.100", "eth2mask": "255.255.255.0", "eth3ip": "10.12.0.100",
    "eth3mask": "255.255.255.0", "secondaryStorageServerAddress": "10.12.0.2", "host": "169.254.0.1",
    "public.network.device": "eth2", "private.network.device": "eth1", "fetch_denied": "203.0.113.96/27",
    "fetch_allowed": "10.11.0.5", "fetch_proxy": "10.11.0.8:3128",
}  # fmt: skip
#: In a namespace of its own: load the rules as preinit does, then connect as fetch (user 981), again after
#: each order.
PROGRAM = """
import json, os, socket, subprocess, sys
from pathlib import Path
from systemvm.guest import firewall, network
from systemvm.guest.paths import GuestPaths
from systemvm.ssvm.store.source_firewall import SourceFirewall
from systemvm.ssvm.store_messages import OpenSources, SourceServer

paths, boot = GuestPaths(Path(sys.argv[1])), json.loads(sys.argv[2])
PLACES = [("10.11.0.5", 80), ("10.11.0.50", 80), ("10.11.0.8", 3128), ("10.11.0.8", 3129),
          ("10.11.0.9", 3128), ("203.0.113.120", 443), ("203.0.113.120", 80), ("203.0.113.121", 443)]
for command in ("link set lo up", "link add eth2 type veth peer name wire2", "link set wire2 up",
                "addr add 203.0.113.100/24 dev eth2", "addr add 10.11.0.100/24 dev eth2", "link set eth2 up",
                # nobody answers: a connection that may leave waits
                *(f"neigh add {address} lladdr 02:00:00:00:00:01 dev eth2 nud permanent"
                  for address in sorted({address for address, _ in PLACES}))):
    subprocess.run(["ip", *command.split()], check=True)
text = firewall.script(paths.nftables, network.make_plan(boot), boot)
subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

def is_open(address, port):
    pid = os.fork()
    if pid == 0:
        os.setuid(981)
        with socket.socket() as probe:
            probe.settimeout(0.2)
            try:
                probe.connect((address, port))
            except TimeoutError:
                os._exit(0)
            except OSError:
                os._exit(1)
        os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def seen():
    return [f"{address}:{port}" for address, port in PLACES if is_open(address, port)]

orders = [OpenSources(["10.11.0.50"], "10.11.0.9:3128", [SourceServer("203.0.113.120", 443)]), OpenSources()]
found = [seen()]
for order in orders:
    SourceFirewall(paths).open_sources(0, order)
    found.append(seen())
json.dump(found, sys.stdout)
"""


def test_the_firewall_opens_and_closes_while_the_vm_runs(tmp_path: Path) -> None:
    paths = GuestPaths(tmp_path)
    paths.nftables.parent.mkdir(parents=True)
    paths.nftables.write_text((TOP / "appliances/ssvm/nftables.conf").read_text())
    paths.cache.mkdir(parents=True)
    paths.cmd_line_json.write_text(json.dumps({"cmd_line": BOOT}))
    command = ["unshare", "--net", sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(BOOT)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PYTHONPATH": str(TOP / "agents"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    assert found == [
        ["10.11.0.5:80", "10.11.0.8:3128"],
        ["10.11.0.50:80", "10.11.0.9:3128", "203.0.113.120:443"],
        [],
    ]
