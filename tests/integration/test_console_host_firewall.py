# SPDX-License-Identifier: Apache-2.0
"""The CPVM's real rules, changed by its helper for hosts with consoles of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from integration.firewall_probe import environment
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
#: In a namespace of its own: load the rules, then connect as the agent (user 980), again after each order
#: to the helper.
PROGRAM = """
import io, json, sys
from pathlib import Path
from integration.firewall_probe import load_rules, open_places
from systemvm.cpvm import host_firewall
from systemvm.guest.boot_argument_source import read_stored
from systemvm.guest.paths import GuestPaths

PLACES = [("10.11.0.31", 443), ("10.11.0.31", 80), ("10.11.0.31", 5900), ("198.51.100.4", 443),
          ("198.51.100.4", 22)]
paths = GuestPaths(Path(sys.argv[1]))
load_rules(paths, read_stored(paths), ["203.0.113.100", "10.11.0.100", "198.51.100.100"], PLACES)

def order(addresses):
    answer = io.StringIO()
    host_firewall.main(["--root", sys.argv[1]], io.StringIO(json.dumps(addresses) + "\\n"), answer)
    return json.loads(answer.getvalue())["error"]

found = []
for addresses in (None, ["10.11.0.31", "198.51.100.4"], ["127.0.0.1"], ["10.11.0.31"], []):
    error = "" if addresses is None else order(addresses)
    found.append([bool(error), open_places(980, PLACES)])
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
        command, capture_output=True, text=True, timeout=100, check=False, env=environment()
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
