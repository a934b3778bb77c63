# SPDX-License-Identifier: Apache-2.0
"""The sandboxes of the appliances' units, tested from inside: a copy of each unit runs a probe.

A unit file lists what is configured; the probe shows what the kernel rejects. It also tries the operations
that the unit needs, because a probe whose every operation fails would prove nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host

from image.built_image import TOP

pytestmark = [pytest.mark.image, pytest.mark.cloud, pytest.mark.netns, pytest.mark.timeout(600)]

PROBE = Path(__file__).with_name("sandbox_probe.py").read_text()
RULES = yaml.safe_load((TOP / "appliances/base/sandbox.yaml").read_text())
DIRECTORY = "/run/systemd/system"
#: Replaces the unit's program and its dependencies on socket and directory; the sandbox is unchanged.
DROP_IN = """[Service]
Type=oneshot
RemainAfterExit=no
WatchdogSec=0
Restart=no
RuntimeDirectoryPreserve=yes
StandardInput=null
StandardOutput=truncate:/run/systemvm-probe.json
ExecStartPre=
ExecStart=
ExecStart=/usr/bin/python3 -IS /run/systemvm-probe.py {arguments}
"""
WRITTEN = (
    "/etc", "/usr", "/opt/systemvm", "/root", "/var", "/var/cache/cloud", "/run", "/run/systemvm-preinit",
    "/mnt/SecStorage", "/dev", "/boot",
)  # fmt: skip
DAEMON, INTERNET, PAGE, STORE, SELF = (
    "169.254.0.1:8250", "203.0.113.10:443", "10.11.0.1:443", "10.12.0.2:2049", "127.0.0.1:3922",
)  # fmt: skip

#: No unit may do these.
NEVER = {
    "read disk", "read memory", "packet socket", "vsock", "trace init", "new user namespace",
    "new mount namespace", "bpf", "set clock", "set host name", "write /etc", "write /usr",
    "write /opt/systemvm", "write /root", "write /boot",
}  # fmt: skip
#: In addition, users other than root must not do these.
NEVER_OF_USERS = NEVER | {
    "read /etc/shadow", "read /var/cache/cloud/cmdline", "read host key", "read authorized keys",
    "read kernel log", "raw socket", "netlink socket", "trace parent", "mount", "become root", "kill init",
    "set-uid file", "write kernel setting", "write /var", "write /var/cache/cloud", "write /run",
    "write /run/systemvm-preinit", "write /mnt/SecStorage", "write /dev",
}  # fmt: skip


def probe(
    guest: Host, unit: str, connect: tuple[str, ...] = (), write: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the probe's result inside the sandbox of `unit`."""
    copy = "systemvm-probe-" + unit.replace("@", "")
    arguments = " ".join([*WRITTEN, *write, "--", *connect])
    steps = [
        f"cat > /run/systemvm-probe.py <<'PROBE'\n{PROBE}\nPROBE",
        "chmod 644 /run/systemvm-probe.py",
        f"cp /usr/lib/systemd/system/{unit} {DIRECTORY}/{copy}",
        f"mkdir -p {DIRECTORY}/{copy}.d",
        f"cat > {DIRECTORY}/{copy}.d/probe.conf <<'DROPIN'\n{DROP_IN.format(arguments=arguments)}DROPIN",
        "systemctl daemon-reload",
        f"systemctl start {copy} || journalctl --no-pager -n 20 -u {copy}",
        "cat /run/systemvm-probe.json",
    ]
    try:
        done = guest.run("\n".join(["set -e", *steps]))
        assert done.rc == 0, done.stdout + done.stderr
        found: dict[str, str] = json.loads(done.stdout)
        return found
    finally:
        guest.run(
            f"rm -rf {DIRECTORY}/{copy} {DIRECTORY}/{copy}.d /run/systemvm-probe.*; systemctl daemon-reload"
        )
        guest.run(f"systemctl reset-failed {copy}; umount /var/spool")


def refused(found: dict[str, str], names: set[str]) -> dict[str, str]:
    """Return the operations of `names` that were not refused."""
    assert names <= set(found)
    return {name: found[name] for name in sorted(names) if found[name] == "allowed"}


@pytest.fixture(params=["ssvm", "cpvm"])
def role(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def guest(role: str, request: pytest.FixtureRequest) -> Host:
    return request.getfixturevalue(f"{role}_ssh")


def test_the_agents_sandbox_allows_only_what_it_needs(guest: Host) -> None:
    """The CPVM's agent also relays consoles, in the same process and sandbox."""
    found = probe(
        guest,
        "systemvm-agent.service",
        (DAEMON, INTERNET, PAGE, STORE, SELF),
        ("/run/systemvm-agent", "/run/systemvm"),
    )
    assert refused(found, NEVER_OF_USERS | {"writable and executable memory"}) == {}
    assert refused(found, {f"connect {address}" for address in (INTERNET, PAGE, STORE, SELF)}) == {}
    assert found["other processes"] == "0"
    allowed = {name for name, outcome in found.items() if outcome == "allowed"}
    assert allowed == {f"connect {DAEMON}", "write /run/systemvm-agent", "write /run/systemvm"}


def test_fetchs_sandbox_allows_only_what_it_needs(ssvm_ssh: Host) -> None:
    found = probe(
        ssvm_ssh,
        "systemvm-fetch.service",
        (INTERNET, DAEMON, PAGE, STORE, SELF),
        ("/run/systemvm-fetch", "/run/systemvm"),
    )
    assert refused(found, NEVER_OF_USERS | {"write /run/systemvm"}) == {}
    assert refused(found, {f"connect {address}" for address in (DAEMON, PAGE, STORE, SELF)}) == {}
    assert found["other processes"] == "0"
    allowed = {name for name, outcome in found.items() if outcome == "allowed"}
    assert allowed == {f"connect {INTERNET}", "write /run/systemvm-fetch", "writable and executable memory"}


def test_serves_sandbox_allows_only_what_it_needs(ssvm_ssh: Host) -> None:
    """Clients connect to it; it connects to nobody, and it cannot read the store."""
    found = probe(
        ssvm_ssh,
        "systemvm-serve.service",
        (INTERNET, DAEMON, PAGE, STORE, SELF),
        ("/run/systemvm-serve", "/run/systemvm"),
    )
    never = NEVER_OF_USERS | {"write /run/systemvm", "writable and executable memory"}
    assert refused(found, never) == {}
    assert found["other processes"] == "0"
    allowed = {name for name, outcome in found.items() if outcome == "allowed"}
    assert allowed == {"write /run/systemvm-serve"}


def test_the_store_helpers_root_is_limited_to_the_store(ssvm_ssh: Host) -> None:
    found = probe(ssvm_ssh, "systemvm-store.service", (DAEMON, INTERNET, STORE, SELF))
    assert (
        refused(found, NEVER | {"raw socket", "mount", "write /var", "write /run", "write /var/cache/cloud"})
        == {}
    )
    assert refused(found, {"netlink socket", "trace parent", "writable and executable memory"}) == {}
    assert refused(found, {f"connect {address}" for address in (DAEMON, INTERNET, STORE, SELF)}) == {}


def test_the_mount_helpers_root_is_limited(ssvm_ssh: Host) -> None:
    """It may mount; it cannot trace, make namespaces, capture packets or set the clock."""
    found = probe(ssvm_ssh, "systemvm-mount.service")
    names = {
        "raw socket",
        "packet socket",
        "vsock",
        "trace init",
        "new user namespace",
        "new mount namespace",
    }
    assert (
        refused(found, names | {"writable and executable memory", "set clock", "set host name", "bpf"}) == {}
    )


def test_every_daemon_on_a_network_is_listed(guest: Host, role: str) -> None:
    """Every service with a network socket, or started by one, is listed in sandbox.yaml."""
    listed = {unit for unit, rule in RULES.items() if role in rule.get("roles", ["ssvm", "cpvm"])}
    listening = guest.check_output("ss -H -lntup; ss -H -ntp state established")
    pids = {part.split(",")[0] for part in listening.split("pid=")[1:]} - {"1"}
    # one that has ended since, such as a session of ssh, has none
    owners = {guest.run("ps -o unit= -p %s", pid).stdout.strip() for pid in sorted(pids)}
    templates = {owner.split("@")[0] + "@.service" if "@" in owner else owner for owner in owners if owner}
    assert "systemvm-agent.service" in templates
    assert templates - listed == set()
