# SPDX-License-Identifier: Apache-2.0
"""The CPVM's real rules, changed by its helper for hosts with consoles of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from systemvm.guest.boot_argument_source import store
from systemvm.guest.paths import GuestPaths
from systemvm.wire import boot_arguments

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

TOP = Path(__file__).resolve().parents[2]
BOOT = (
    "type=consoleproxy name=v-2-VM host=169.254.0.1 port=8250 eth0ip=169.254.10.2 eth0mask=255.255.0.0"
    " eth1ip=10.11.0.100 eth1mask=255.255.255.0 mgmtcidr=10.11.0.0/24 eth2ip=203.0.113.100"
    " eth2mask=255.255.255.0 public.network.device=eth2 private.network.device=eth1"
)
#: In a namespace of its own: load the rules as preinit does, then connect as the agent (user 980), again
#: after each order to the helper.
PROGRAM = """
import io, json, os, socket, subprocess, sys
from pathlib import Path
from systemvm.cpvm import host_firewall
from systemvm.guest import firewall, network
from systemvm.guest.boot_argument_source import read_stored
from systemvm.guest.paths import GuestPaths

paths = GuestPaths(Path(sys.argv[1]))
boot = read_stored(paths)
PLACES = [("10.11.0.31", 443), ("10.11.0.31", 80), ("10.11.0.31", 5900), ("198.51.100.4", 443),
          ("198.51.100.4", 22)]
for command in ("link set lo up", "link add eth2 type veth peer name wire2", "link set wire2 up",
                "addr add 203.0.113.100/24 dev eth2", "addr add 10.11.0.100/24 dev eth2",
                "addr add 198.51.100.100/24 dev eth2", "link set eth2 up",
                # nobody answers: a connection that may leave waits
                *(f"neigh add {address} lladdr 02:00:00:00:00:01 dev eth2 nud permanent"
                  for address in sorted({address for address, _ in PLACES}))):
    subprocess.run(["ip", *command.split()], check=True)
text = firewall.script(paths.nftables, network.make_plan(boot), boot)
subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

def is_open(address, port):
    pid = os.fork()
    if pid == 0:
        os.setuid(980)
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

def order(addresses):
    answer = io.StringIO()
    host_firewall.main(["--root", sys.argv[1]], io.StringIO(json.dumps(addresses) + "\\n"), answer)
    return json.loads(answer.getvalue())["error"]

found = []
for addresses in (None, ["10.11.0.31", "198.51.100.4"], ["127.0.0.1"], ["10.11.0.31"], []):
    error = "" if addresses is None else order(addresses)
    found.append([bool(error), [f"{address}:{port}" for address, port in PLACES if is_open(address, port)]])
json.dump(found, sys.stdout)
"""


def test_the_agent_reaches_exactly_registered_hosts_at_their_port(tmp_path: Path) -> None:
    paths = GuestPaths(tmp_path)
    paths.nftables.parent.mkdir(parents=True)
    paths.nftables.write_text((TOP / "appliances/cpvm/nftables.conf").read_text())
    paths.cache.mkdir(parents=True)
    store(BOOT, boot_arguments.parse(BOOT), paths)
    command = ["unshare", "--net", sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, cwd=TOP / "agents"
    )
    assert done.returncode == 0, done.stderr
    vnc, xen, other = "10.11.0.31:5900", "10.11.0.31:443", "198.51.100.4:443"
    assert json.loads(done.stdout) == [
        [False, [vnc]],
        [False, [xen, vnc, other]],
        [True, [xen, vnc, other]],
        [False, [xen, vnc]],
        [False, [vnc]],
    ]
