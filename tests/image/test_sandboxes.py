# SPDX-License-Identifier: Apache-2.0
"""The sandboxes of the appliances' units, tested from inside: a copy of each unit runs a probe.

A list of settings says what was asked for; the probe says what the kernel then refuses. What a unit needs
for its work is tried too, since a probe that may do nothing at all would prove nothing.
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
#: The unit stays what it is; only its program, and what ties it to its socket and its directory, is another.
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
ExecStart=/usr/bin/python3 -IS /run/systemvm-probe.py {words}
"""
WRITTEN = (
    "/etc", "/usr", "/opt/systemvm", "/root", "/var", "/var/cache/cloud", "/run", "/run/systemvm-preinit",
    "/mnt/SecStorage", "/dev", "/boot",
)  # fmt: skip
DAEMON, STRANGER, PAGE, STORE, SELF = (
    "169.254.0.1:8250", "203.0.113.10:443", "10.11.0.1:443", "10.12.0.2:2049", "127.0.0.1:3922",
)  # fmt: skip

#: Nobody may do these, whatever the unit.
NEVER = {
    "read disk", "read memory", "packet socket", "vsock", "trace init", "new user namespace",
    "new mount namespace", "bpf", "set clock", "set host name", "write /etc", "write /usr",
    "write /opt/systemvm", "write /root", "write /boot",
}  # fmt: skip
#: And those who are not root.
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
    words = " ".join([*WRITTEN, *write, "--", *connect])
    steps = [
        f"cat > /run/systemvm-probe.py <<'PROBE'\n{PROBE}\nPROBE",
        "chmod 644 /run/systemvm-probe.py",
        f"cp /usr/lib/systemd/system/{unit} {DIRECTORY}/{copy}",
        f"mkdir -p {DIRECTORY}/{copy}.d",
        f"cat > {DIRECTORY}/{copy}.d/probe.conf <<'DROPIN'\n{DROP_IN.format(words=words)}DROPIN",
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


def test_the_agents_sandbox_refuses_everything_else(guest: Host) -> None:
    """The CPVM's agent also relays consoles: one process, one sandbox."""
    found = probe(
        guest,
        "systemvm-agent.service",
        (DAEMON, STRANGER, PAGE, STORE, SELF),
        ("/run/systemvm-agent", "/run/systemvm"),
    )
    assert refused(found, NEVER_OF_USERS | {"writable and executable memory"}) == {}
    assert refused(found, {f"connect {address}" for address in (STRANGER, PAGE, STORE, SELF)}) == {}
    assert found["other processes"] == "0"
    allowed = {name for name, word in found.items() if word == "allowed"}
    assert allowed == {f"connect {DAEMON}", "write /run/systemvm-agent", "write /run/systemvm"}


def test_fetchs_sandbox_refuses_everything_else(ssvm_ssh: Host) -> None:
    found = probe(
        ssvm_ssh,
        "systemvm-fetch.service",
        (STRANGER, DAEMON, PAGE, STORE, SELF),
        ("/run/systemvm-fetch", "/run/systemvm"),
    )
    assert refused(found, NEVER_OF_USERS | {"write /run/systemvm"}) == {}
    assert refused(found, {f"connect {address}" for address in (DAEMON, PAGE, STORE, SELF)}) == {}
    assert found["other processes"] == "0"
    allowed = {name for name, word in found.items() if word == "allowed"}
    assert allowed == {f"connect {STRANGER}", "write /run/systemvm-fetch", "writable and executable memory"}


def test_the_store_helper_is_root_only_on_the_store(ssvm_ssh: Host) -> None:
    found = probe(ssvm_ssh, "systemvm-store.service", (DAEMON, STRANGER, STORE, SELF))
    assert (
        refused(found, NEVER | {"raw socket", "mount", "write /var", "write /run", "write /var/cache/cloud"})
        == {}
    )
    assert refused(found, {"netlink socket", "trace parent", "writable and executable memory"}) == {}
    assert refused(found, {f"connect {address}" for address in (DAEMON, STRANGER, STORE, SELF)}) == {}


def test_the_mount_helper_mounts_and_little_else(ssvm_ssh: Host) -> None:
    """It may mount anything; it cannot trace, load modules or capture packets."""
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
    judged = {unit for unit, rule in RULES.items() if role in rule.get("roles", ["ssvm", "cpvm"])}
    listening = guest.check_output("ss -H -lntup; ss -H -ntp state established")
    pids = {word.split(",")[0] for word in listening.split("pid=")[1:]} - {"1"}
    owners = {guest.check_output("ps -o unit= -p %s", pid).strip() for pid in sorted(pids)}
    templates = {owner.split("@")[0] + "@.service" if "@" in owner else owner for owner in owners if owner}
    assert templates - judged == set()
