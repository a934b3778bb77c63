# SPDX-License-Identifier: Apache-2.0
"""preinit as a process in its own namespaces: real NICs, addresses, routes and firewall sets."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ssvm_boot import NICS
from systemvm.guest.paths import GuestPaths
from systemvm.wire import boot_arguments

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]

TOP = Path(__file__).resolve().parents[2]
NAMESPACES = ["unshare", "--net", "--mount", "--uts", "--"]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ operator@host"
SSVM = {
    "template": "domP",
    "type": "secstorage",
    "host": "169.254.0.1",
    "port": "8250",
    "name": "s-1-VM",
    **NICS,
    "private.network.device": "eth1",
    "public.network.device": "eth2",
    "storageip": "10.12.0.100",
    "storagenetmask": "255.255.255.0",
    "storagegateway": "10.12.0.1",
    "mtu": "1400",
    "internaldns1": "203.0.113.10",
    "dns1": "203.0.113.53",
    "secondaryStorageServerAddress": "10.12.0.2",
    "authorized_key": base64.b64encode(KEY.encode()).decode(),
    "vmpassword": "hunter2",
}
CPVM = {
    key: value for key, value in SSVM.items() if not key.startswith(("eth3", "storage", "secondary", "mtu"))
} | {"type": "consoleproxy", "name": "v-2-VM", "guid": "Proxy.2", "vncport": "8443"}

#: Runs inside the namespaces: creates NICs, runs preinit once or twice, prints the machine's state as JSON.
INSIDE = """
import json, os, socket, subprocess, sys

def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

nics, runs, credentials, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
# as systemd leaves it: the file system can be written, its mount point is read-only
os.makedirs(credentials)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", credentials], check=True)
with open(credentials + "/systemvm.identity", "w") as file:
    file.write("THE KEY")
subprocess.run(["mount", "-o", "remount,bind,ro", credentials], check=True)
subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
for number in range(nics):
    subprocess.run(
        ["ip", "link", "add", f"eth{number}", "type", "veth", "peer", "name", f"wire{number}"], check=True
    )
    subprocess.run(["ip", "link", "set", f"eth{number}", "address", f"02:00:00:00:00:0{number}"], check=True)
    subprocess.run(["ip", "link", "set", f"wire{number}", "up"], check=True)
for _ in range(runs):
    done = subprocess.run(program, capture_output=True, text=True)
links = {link["ifname"]: link for link in json.loads(output_of("ip", "-json", "address"))}
nft = json.loads(output_of("nft", "-j", "list", "ruleset"))["nftables"]
routes = [route for family in ("-4", "-6") for route in json.loads(output_of("ip", "-json", family, "route"))]
json.dump(
    {
        "code": done.returncode,
        "output": done.stdout + done.stderr,
        "credentials": os.listdir(credentials),
        "host_name": socket.gethostname(),
        "links": links,
        "routes": routes,
        "sets": {i["set"]["name"]: i["set"].get("elem", []) for i in nft if "set" in i},
        "policies": {i["chain"]["name"]: i["chain"].get("policy") for i in nft if "chain" in i},
    },
    sys.stdout,
)
"""


class Result:
    """The state of the machine after preinit."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.code: int = facts["code"]
        self.output: str = facts["output"]
        self.credentials: list[str] = facts["credentials"]
        self.host_name: str = facts["host_name"]
        self.links: dict[str, Any] = facts["links"]
        self.policies: dict[str, str | None] = facts["policies"]
        self.sets = {name: {_element(element) for element in found} for name, found in facts["sets"].items()}
        self.gateways = {
            (route["dst"], route["gateway"], route["dev"]) for route in facts["routes"] if "gateway" in route
        }

    def addresses(self, device: str) -> set[str]:
        found = self.links[device]["addr_info"]
        return {f"{each['local']}/{each['prefixlen']}" for each in found if each["scope"] == "global"}


def _element(element: Any) -> str:
    if isinstance(element, dict):
        prefix = element["prefix"]
        return f"{prefix['addr']}/{prefix['len']}"
    return str(element)


def preinit(
    root: Path, arguments: dict[str, str], *, nics: int, role: str = "ssvm", runs: int = 1, rules: str = ""
) -> Result:
    """Run preinit on a machine with `nics` NICs and its files below `root`, and return the result."""
    etc = root / "etc/systemvm"
    etc.mkdir(parents=True)
    (etc / "image.json").write_text(json.dumps({"role": role, "version": "1"}))
    if rules:
        (etc / "nftables.conf").write_text(rules)
    else:
        shutil.copy(TOP / "appliances" / role / "nftables.conf", etc)
    credentials = root / "credentials"
    credentials.mkdir()
    (credentials / boot_arguments.CMDLINE_CREDENTIAL).write_text(boot_arguments.format(arguments))
    paths = GuestPaths(root)
    program = [sys.executable, "-m", "systemvm.guest.preinit", "--root", str(root)]
    done = subprocess.run(
        [
            *NAMESPACES,
            sys.executable,
            "-c",
            INSIDE,
            str(nics),
            str(runs),
            str(paths.system_identity.parent),
            *program,
        ],
        env={**os.environ, "PYTHONPATH": str(TOP / "agents"), "CREDENTIALS_DIRECTORY": str(credentials)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Result(json.loads(done.stdout))


@pytest.mark.parametrize("runs", [1, 2])
def test_a_secondary_storage_vm(tmp_path: Path, runs: int) -> None:
    """A second run, as after a restart of the unit, changes nothing."""
    before = socket.gethostname()
    result = preinit(tmp_path, SSVM, nics=4, runs=runs)
    assert result.code == 0, result.output
    assert "s-1-VM is a ssvm: eth0 169.254.3.4/16" in result.output
    assert result.host_name == "s-1-VM"
    assert socket.gethostname() == before
    assert result.credentials == [], "a credential is still there: only the agent may have this start's key"
    assert GuestPaths(tmp_path).bootstrap_identity.read_text() == "THE KEY"
    assert [result.addresses(f"eth{n}") for n in range(4)] == [
        {"169.254.3.4/16"},
        {"10.11.0.101/24"},
        {"203.0.113.101/24"},
        {"10.12.0.100/24"},
    ]
    assert all("UP" in result.links[f"eth{n}"]["flags"] for n in range(4))
    assert result.links["eth3"]["mtu"] == 1400
    assert "UP" in result.links["lo"]["flags"]
    assert result.gateways == {
        ("default", "203.0.113.1", "eth2"),
        ("10.96.0.0/16", "10.11.0.1", "eth1"),
    }
    assert result.sets["control_cidr"] == {"169.254.0.0/16"}
    assert result.sets["storage_cidr"] == {"10.12.0.0/24"}
    assert result.sets["nfs_servers"] == {"10.12.0.2"}
    assert result.sets["dns_servers"] == {"203.0.113.10", "203.0.113.53"}
    assert {"10.11.0.0/24", "127.0.0.0/8", "192.88.99.0/24"} <= result.sets["fetch_denied"]
    assert {"2002::/16", "fe80::/9", "64:ff9b:1::/48", "64:ff9b::7f00:0/104"} <= result.sets["fetch_denied6"]
    assert (result.policies["input"], result.policies["forward"]) == ("drop", "drop")

    cache = tmp_path / "var/cache/cloud"
    assert stat.S_IMODE((cache / "cmdline").stat().st_mode) == 0o600
    assert boot_arguments.parse((cache / "cmdline").read_text()) == SSVM
    assert "hunter2" not in (cache / "cmd_line.json").read_text()
    assert (cache / "boot_up_done").exists()
    assert (tmp_path / "run/systemvm-preinit/root-ssh/authorized_keys").read_text() == KEY + "\n"
    assert (
        (tmp_path / "run/systemvm-preinit/resolv.conf")
        .read_text()
        .startswith("nameserver 203.0.113.10\nnameserver 203.0.113.53\n")
    )
    assert "203.0.113.101 s-1-VM" in (tmp_path / "run/systemvm-preinit/hosts").read_text()
    private = tmp_path / "run/systemvm-preinit/ssh_host_ed25519_key"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")
    listen = (tmp_path / "run/systemvm-preinit/sshd-listen.conf").read_text()
    assert listen == "ListenAddress 169.254.3.4:3922\n"


def test_a_console_proxy_vm(tmp_path: Path) -> None:
    result = preinit(tmp_path, CPVM, nics=3, role="cpvm")
    assert result.code == 0, result.output
    assert result.host_name == "v-2-VM"
    assert result.gateways == {("default", "203.0.113.1", "eth2"), ("10.96.0.0/16", "10.11.0.1", "eth1")}
    assert result.sets["management_cidr"] == {"10.11.0.0/24", "10.96.0.0/16"}
    assert result.policies["input"] == "drop"


def test_both_families(tmp_path: Path) -> None:
    arguments = SSVM | {
        "eth0ip6": "fd00:a9fe::4", "eth0ip6prelen": "64",
        "eth2ip6": "2001:db8::5", "eth2ip6prelen": "64",
        "ip6gateway": "2001:db8::1", "ip6dns1": "2001:db8::53",
    }  # fmt: skip
    result = preinit(tmp_path, arguments, nics=4)
    assert result.code == 0, result.output
    assert result.addresses("eth2") == {"203.0.113.101/24", "2001:db8::5/64"}
    assert ("default", "2001:db8::1", "eth2") in result.gateways
    assert result.sets["control_cidr6"] == {"fd00:a9fe::/64"}
    assert result.sets["dns_servers6"] == {"2001:db8::53"}


def test_an_absent_nic_is_an_error_and_nothing_is_up(tmp_path: Path) -> None:
    result = preinit(tmp_path, SSVM, nics=3)
    assert result.code == 12
    assert "eth3 of the boot arguments does not exist" in result.output
    assert "give the VM a NIC for every ethNip=" in result.output
    assert all(result.addresses(f"eth{n}") == set() for n in range(3))
    assert not (tmp_path / "var/cache/cloud/boot_up_done").exists()


def test_a_bad_address_is_named(tmp_path: Path) -> None:
    result = preinit(tmp_path, SSVM | {"eth1ip": "10.11.0.999"}, nics=4)
    assert result.code == 11
    assert "eth1ip=10.11.0.999" in result.output
    assert "hunter2" not in result.output


def test_without_a_firewall_no_address_comes_up(tmp_path: Path) -> None:
    result = preinit(tmp_path, SSVM, nics=4, rules="table inet systemvm { nonsense }\n")
    assert result.code == 13
    assert "nft -f - failed" in result.output
    assert "nonsense" in result.output
    assert all(result.addresses(f"eth{n}") == set() for n in range(4))


def test_an_ipv6_only_console_proxy_vm_with_nics_in_another_order(tmp_path: Path) -> None:
    arguments = CPVM | {
        "eth2ip": "0.0.0.0",
        "eth2mask": "0.0.0.0",
        "eth2ip6": "2001:db8:2::5",
        "eth2ip6prelen": "64",
        "ip6gateway": "2001:db8:2::1",
        "ip6dns1": "2001:db8:2::53",
        "ntpserverlist": "2001:db8:2::7b,10.11.0.1,ntp.example",
        "nic_macs": "02:00:00:00:00:01|02:00:00:00:00:02|02:00:00:00:00:00",
        "vncport": "8080",
    }
    del arguments["gateway"]
    result = preinit(tmp_path, arguments, nics=3, role="cpvm")
    assert result.code == 0, result.output
    assert [result.links[f"eth{n}"]["address"] for n in range(3)] == arguments["nic_macs"].split("|")
    assert result.addresses("eth2") == {"2001:db8:2::5/64"}
    assert ("default", "2001:db8:2::1", "eth2") in result.gateways
    assert result.sets["dns_servers6"] == {"2001:db8:2::53"}
    assert (result.sets["ntp_servers"], result.sets["ntp_servers6"]) == ({"10.11.0.1"}, {"2001:db8:2::7b"})
    assert "console_port" in result.policies, "8080 leads to 8443"
    servers = (tmp_path / "run/systemd/timesyncd.conf.d/systemvm.conf").read_text()
    assert "NTP=2001:db8:2::7b 10.11.0.1 ntp.example\n" in servers
