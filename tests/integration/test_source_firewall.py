# SPDX-License-Identifier: Apache-2.0
"""The guest's real rules, filled at boot and changed by the mount helper while connections are attempted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from integration.firewall_probe import environment
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
#: In a namespace of its own: load the rules, then connect as fetch (user 981), again after each order.
PROGRAM = """
import json, sys
from pathlib import Path
from integration.firewall_probe import load_rules, open_places
from systemvm.guest.paths import GuestPaths
from systemvm.ssvm.store.source_firewall import SourceFirewall
from systemvm.ssvm.store_messages import OpenSources, SourceServer

PLACES = [("10.11.0.5", 80), ("10.11.0.50", 80), ("10.11.0.8", 3128), ("10.11.0.8", 3129),
          ("10.11.0.9", 3128), ("203.0.113.120", 443), ("203.0.113.120", 80), ("203.0.113.121", 443)]
paths = GuestPaths(Path(sys.argv[1]))
load_rules(paths, json.loads(sys.argv[2]), ["203.0.113.100", "10.11.0.100"], PLACES)

orders = [OpenSources(["10.11.0.50"], "10.11.0.9:3128", [SourceServer("203.0.113.120", 443)]), OpenSources()]
found = [open_places(981, PLACES)]
for order in orders:
    SourceFirewall(paths).open_sources(0, order)
    found.append(open_places(981, PLACES))
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
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    assert found == [
        ["10.11.0.5:80", "10.11.0.8:3128"],
        ["10.11.0.50:80", "10.11.0.9:3128", "203.0.113.120:443"],
        [],
    ]
