# SPDX-License-Identifier: Apache-2.0
"""The booted appliances over ssh: units, ports, firewall, sandbox, memory."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from testinfra.host import Host

from image.built_image import TOP

pytestmark = [pytest.mark.image, pytest.mark.cloud, pytest.mark.netns, pytest.mark.timeout(600)]

MIB = 1 << 20


@pytest.fixture(params=["ssvm", "cpvm"])
def role(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def guest(role: str, request: pytest.FixtureRequest) -> Host:
    return request.getfixturevalue(f"{role}_ssh")


@pytest.fixture
def facts(role: str) -> dict[str, Any]:
    """The role's appliance.yaml."""
    found: dict[str, Any] = yaml.safe_load((TOP / "appliances" / role / "appliance.yaml").read_text())
    return found


def main_pid(guest: Host, unit: str) -> str:
    pid = guest.check_output("systemctl show -P MainPID %s", unit).strip()
    assert pid not in ("", "0"), f"{unit} does not run"
    found: str = pid
    return found


def resident_bytes(guest: Host, pid: str) -> int:
    status = guest.check_output(f"cat /proc/{pid}/status")
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None, status
    return 1024 * int(found[1])


# ---- units, ports and files ----
def test_no_unit_failed(guest: Host) -> None:
    assert guest.check_output("systemctl list-units --state=failed --plain --no-legend --no-pager") == ""


def test_a_boot_may_take_half_an_hour(guest: Host) -> None:
    shown = guest.check_output("systemctl show -P DefaultDeviceTimeoutUSec -P DefaultTimeoutStartUSec")
    assert shown.split() == ["30min", "30min"]
    assert "event_timeout=1800" in guest.check_output("systemd-analyze cat-config udev/udev.conf")


def test_the_agent_also_runs_under_cloudstacks_name(guest: Host) -> None:
    assert guest.check_output("systemctl is-active cloud") == "active"
    status = guest.check_output("systemctl show -P StatusText systemvm-agent")
    assert status.startswith("Up"), status
    shown = guest.check_output("systemctl show -P Type -P WatchdogUSec systemvm-agent")
    kind, watchdog = shown.splitlines()
    assert kind == "notify"
    # a minute, or more while the machine is slow: the agent adjusts it with each watchdog notification
    assert re.match(r"[1-9][0-9]*min", watchdog), watchdog
    assert guest.check_output("systemctl show -P NRestarts systemvm-agent") == "0"


def test_only_the_listed_ports_listen(guest: Host, facts: dict[str, Any]) -> None:
    expected = {(rule["protocol"], rule["interface"], rule["port"]) for rule in facts["ports"]}
    found = set()
    for line in guest.check_output("ss -H -lntu").splitlines():
        protocol, _, _, _, local = line.split()[:5]
        address, port = local.rsplit(":", 1)
        if address.startswith("127.") or address == "[::1]":
            continue
        found.add((protocol, address.partition("%")[2], int(port)))
    assert found == expected


def test_names_and_files_match_cloudstack(guest: Host, role: str) -> None:
    name = guest.check_output("hostname")
    assert re.fullmatch(r"[sv]-\d+-VM", name)
    assert guest.file("/var/cache/cloud/cmdline").mode == 0o600
    arguments = json.loads(guest.file("/var/cache/cloud/cmd_line.json").content_string)["cmd_line"]
    assert arguments["type"] == {"ssvm": "secstorage", "cpvm": "consoleproxy"}[role]
    assert not {"certificate", "cacertificate", "privatekey", "keystore_password", "vmpassword"} & set(
        arguments
    )
    assert guest.file("/var/cache/cloud/boot_up_done").exists
    assert guest.file("/etc/cloudstack-release").content_string.startswith(
        "Cloudstack Release 4.22.0 systemvm "
    )
    assert guest.file("/etc/systemvm/image.json").content_string.count(f'"{role}"') == 1


def test_nics_are_on_their_networks(guest: Host, role: str) -> None:
    shown = json.loads(guest.check_output("ip -json -4 address show"))
    addresses = {nic["ifname"]: nic["addr_info"][0]["local"] for nic in shown if nic["ifname"] != "lo"}
    arguments = json.loads(guest.file("/var/cache/cloud/cmd_line.json").content_string)["cmd_line"]
    assert set(addresses) == {f"eth{n}" for n in range(4 if role == "ssvm" else 3)}
    assert all(arguments[f"{nic}ip"] == address for nic, address in addresses.items())
    control = addresses["eth0"].split(".")
    mac = guest.file("/sys/class/net/eth0/address").content_string.strip()
    assert mac == "0e:00:" + ":".join(f"{int(part):02x}" for part in control)
    default = json.loads(guest.check_output("ip -json route show default"))
    assert [route["dev"] for route in default] == ["eth2"]


SETTINGS = TOP / "appliances/base/overlay/etc/sysctl.d/60-systemvm.conf"


def settings() -> dict[str, str]:
    """Return the kernel settings of sysctl.d by name."""
    lines = (line.partition("=") for line in SETTINGS.read_text().splitlines() if not line.startswith("#"))
    return {name.strip(): value.strip() for name, equals, value in lines if equals}


def test_every_kernel_setting_is_applied(guest: Host) -> None:
    expected = settings()
    arguments = json.loads(guest.file("/var/cache/cloud/cmd_line.json").content_string)["cmd_line"]
    if arguments.get("disable_rp_filter") == "true":
        expected |= {f"net.ipv4.conf.{nic}.rp_filter": "0" for nic in ("all", "default")}
    shown = guest.check_output(f"sysctl {' '.join(sorted(expected))}")
    found = dict(line.split(" = ", 1) for line in shown.splitlines())
    assert {name: " ".join(value.split()) for name, value in found.items()} == expected


def test_the_kernel_settings_harden_the_machine() -> None:
    expected = {
        "kernel.kptr_restrict": "2", "kernel.dmesg_restrict": "1", "kernel.unprivileged_bpf_disabled": "1",
        "kernel.yama.ptrace_scope": "2", "net.core.bpf_jit_harden": "2", "net.ipv4.conf.all.rp_filter": "1",
        "net.ipv4.conf.all.accept_redirects": "0", "net.ipv6.conf.all.accept_redirects": "0",
        "net.ipv4.conf.all.send_redirects": "0", "net.ipv4.ip_forward": "0", "fs.suid_dumpable": "0",
        "kernel.io_uring_disabled": "2", "kernel.unprivileged_userns_clone": "0",
        "kernel.kexec_load_disabled": "1",
    }  # fmt: skip
    assert expected.items() <= settings().items()


def test_nothing_is_forwarded_between_networks(guest: Host) -> None:
    assert guest.sysctl("net.ipv4.ip_forward") == 0
    assert guest.sysctl("net.ipv6.conf.all.forwarding") == 0


# ---- the root file system ----
def mounts(guest: Host) -> dict[str, tuple[str, set[str]]]:
    """Return type and options by mount point; the last of several mounts counts."""
    lines = [line.split() for line in guest.check_output("cat /proc/self/mounts").splitlines()]
    return {point: (kind, set(options.split(","))) for _, point, kind, options, *_ in lines}


def test_the_root_is_read_only_and_changing_files_are_in_memory(guest: Host) -> None:
    found = mounts(guest)
    kind, options = found["/"]
    assert (kind, "ro" in options) == ("ext4", True)
    for place in ("/etc", "/usr", "/opt/systemvm", "/root", "/boot", "/var/lib/dpkg"):
        assert "Read-only file system" in guest.run("touch %s/probe", place).stderr, place
    for place in ("/var", "/tmp", "/run", *(["/mnt/SecStorage"] if "/mnt/SecStorage" in found else [])):
        kind, options = found[place]
        assert kind == "tmpfs", place
        assert {"nosuid", "nodev"} <= options, place
        assert [option for option in options if option.startswith("size=")], f"{place} has no limit"
    assert (
        int(guest.check_output("findmnt -bno SIZE /var"))
        == int(guest.check_output("findmnt -bno SIZE /tmp"))
        == 32 * MIB
    )


def test_a_full_var_does_not_affect_the_agent(guest: Host) -> None:
    """Writing fails at the limit, and the agent and new ssh sessions still work."""
    try:
        for place in ("/var", "/tmp"):
            filled = guest.run("dd if=/dev/zero of=%s/fill bs=1M count=100", place)
            assert "No space left on device" in filled.stderr, filled.stderr
        assert guest.check_output("systemctl is-active systemvm-agent") == "active"
        assert guest.check_output("systemctl show -P StatusText systemvm-agent").startswith("Up")
    finally:
        guest.run("rm -f /var/fill /tmp/fill")


def test_the_package_database_can_be_read(guest: Host) -> None:
    assert guest.check_output("dpkg-query -W -f '${Status}' openssh-server") == "install ok installed"
    assert guest.check_output("dpkg-query -S /usr/sbin/sshd") == "openssh-server: /usr/sbin/sshd"


# ---- ssh ----
def test_each_appliance_has_its_own_host_keys(ssvm_ssh: Host, cpvm_ssh: Host) -> None:
    keys = [host.file("/etc/ssh/ssh_host_ed25519_key.pub").content_string for host in (ssvm_ssh, cpvm_ssh)]
    assert keys[0] != keys[1]
    assert all(len(host.check_output("ls /etc/ssh/ssh_host_*").split()) == 2 for host in (ssvm_ssh, cpvm_ssh))
    assert all(
        host.file("/etc/ssh/ssh_host_ed25519_key").linked_to.startswith("/run/")
        for host in (ssvm_ssh, cpvm_ssh)
    )
    machine_ids = [host.file("/etc/machine-id").content_string.strip() for host in (ssvm_ssh, cpvm_ssh)]
    assert machine_ids[0] != machine_ids[1]


def test_ssh_accepts_only_keys(guest: Host) -> None:
    settings = guest.check_output("/usr/sbin/sshd -T").splitlines()
    for line in (
        "authenticationmethods publickey", "passwordauthentication no", "kbdinteractiveauthentication no",
        "allowusers root", "x11forwarding no", "allowtcpforwarding no",
    ):  # fmt: skip
        assert line in settings, line


# ---- firewall ----
def chains(guest: Host) -> dict[str, dict[str, Any]]:
    objects = json.loads(guest.check_output("nft -j list ruleset"))["nftables"]
    return {item["chain"]["name"]: item["chain"] for item in objects if "chain" in item}


def test_everything_without_a_rule_is_dropped(guest: Host) -> None:
    found = chains(guest)
    for hook in ("input", "forward", "output"):
        assert (found[hook]["hook"], found[hook]["policy"]) == (hook, "drop")


def test_sets_contain_this_clouds_networks(guest: Host, role: str) -> None:
    names_by_role = {
        "ssvm": ["storage_cidr", "nfs_servers", "fetch_denied", "fetch_denied6"],
        "cpvm": ["management_cidr"],
    }
    names = ["control_cidr", *names_by_role[role]]
    for name in names:
        shown = guest.check_output(f"nft list set inet systemvm {name}")
        assert "elements" in shown, shown
    assert "169.254.0.0/16" in guest.check_output("nft list set inet systemvm control_cidr")


CONNECT = (
    "import socket, sys\n"
    "try:\n"
    "    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20).close()\n"
    "    print('connected')\n"
    "except OSError as error:\n"
    "    print(type(error).__name__, error.errno)\n"
)


def connect_as(guest: Host, user: str, address: str, port: int) -> str:
    found: str = guest.check_output(
        "setpriv --reuid=%s --regid=systemvm --clear-groups python3 -ISc %s %s %s",
        user, CONNECT, address, str(port),
    )  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("address", "port"),
    [
        ("127.0.0.1", 3922), ("169.254.0.1", 8250), ("10.11.0.1", 443), ("10.12.0.2", 2049),
        ("192.88.99.1", 443), ("192.0.0.9", 443),
    ],
)  # fmt: skip
def test_fetch_reaches_none_of_our_networks(ssvm_ssh: Host, address: str, port: int) -> None:
    """The connection fails at once instead of after a timeout, so that users see an error for such a URL."""
    result = connect_as(ssvm_ssh, "systemvm-fetch", address, port)
    assert result != "connected"
    assert not result.startswith("TimeoutError"), result


def test_fetch_reaches_the_public_network(ssvm_ssh: Host) -> None:
    assert connect_as(ssvm_ssh, "systemvm-fetch", "203.0.113.10", 443) == "connected"


def test_the_agent_reaches_only_the_daemon(guest: Host) -> None:
    assert connect_as(guest, "systemvm-agent", "169.254.0.1", 8250) == "connected"
    assert connect_as(guest, "systemvm-agent", "203.0.113.10", 443) != "connected"


def test_other_users_reach_nothing(guest: Host) -> None:
    result = guest.check_output(
        "setpriv --reuid=nobody --regid=nogroup --clear-groups python3 -ISc %s 203.0.113.10 443", CONNECT
    )
    assert result != "connected"


# ---- sandbox ----
def test_the_agent_is_sandboxed(guest: Host) -> None:
    expected = {
        "User": "systemvm-agent", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
        "PrivateDevices": "yes", "PrivateUsers": "yes", "PrivateTmp": "yes", "RestrictNamespaces": "yes",
        "CapabilityBoundingSet": "", "MemoryDenyWriteExecute": "yes",
    }  # fmt: skip
    for name, value in expected.items():
        assert guest.check_output("systemctl show -P %s systemvm-agent", name) == value, name
    status = guest.check_output(f"cat /proc/{main_pid(guest, 'systemvm-agent')}/status")
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)


def test_the_agents_user_cannot_read_secrets(guest: Host) -> None:
    for path in ("/etc/shadow", "/var/cache/cloud/cmdline", "/etc/ssh/ssh_host_ed25519_key"):
        done = guest.run("setpriv --reuid=systemvm-agent --regid=systemvm --clear-groups cat %s", path)
        assert done.rc != 0, path


def test_the_bootstrap_identity_is_erased_when_the_agent_has_its_own(guest: Host) -> None:
    """/run contains only the agent's key and the ssh host key, and no systemd credential contains a key."""
    found = guest.check_output("grep -rlsa --exclude-dir=udev -e '-----BEGIN .*PRIVATE KEY' /run").split()
    assert set(found) == {
        "/run/systemvm-agent/identity.pem", "/run/systemvm-preinit/ssh_host_ed25519_key"
    }  # fmt: skip
    assert not guest.run("ls /run/credentials/*/systemvm.identity").stdout


# ---- memory ----
def test_the_agents_memory_is_within_its_limit(guest: Host, facts: dict[str, Any]) -> None:
    assert resident_bytes(guest, main_pid(guest, "systemvm-agent")) <= facts["budget"]["agent_rss_bytes"]


def test_the_vm_runs_within_its_memory(guest: Host, facts: dict[str, Any]) -> None:
    """The VM has at most the memory of appliance.yaml, and a quarter of it is available."""
    meminfo = dict(
        re.findall(r"^(\w+):\s+(\d+) kB", guest.file("/proc/meminfo").content_string, re.MULTILINE)
    )
    total, available = 1024 * int(meminfo["MemTotal"]), 1024 * int(meminfo["MemAvailable"])
    expected = facts["budget"]["memory_mib"] * MIB
    assert total <= expected
    assert available >= expected / 4
    assert "Out of memory" not in guest.check_output("dmesg")


def test_the_journal_is_in_memory(guest: Host) -> None:
    assert not guest.file("/var/log/journal").exists
    assert guest.file("/run/log/journal").is_directory
