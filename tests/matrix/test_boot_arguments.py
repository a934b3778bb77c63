# SPDX-License-Identifier: Apache-2.0
"""Three deliveries of boot arguments to booted VMs: SMBIOS, fw_cfg, and CloudStack's by qemu-guest-agent.

Each VM reaches Up, and no argv and no log contains a secret. In addition one has only IPv6 on its public NIC,
and one runs the steps of CloudStack's host, and starts with a clock that is months behind.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from matrix.cloudstack_host import CloudStackHostDouble
from matrix.tapped_guest import GUEST6, MACS, PASSWORD, TappedGuest
from systemvm.management.asyncio_bridge import in_twisted
from systemvm.management.hypervisors.guest_agent import GuestAgent
from systemvm.management.hypervisors.guest_agent_session import GuestAgentError
from systemvm.service.slowness import scaled_s
from systemvm.wire import boot_arguments
from systemvm.wire.role import Role

pytestmark = [pytest.mark.image, pytest.mark.netns, pytest.mark.timeout(3600)]

T = TypeVar("T")


def secrets_of(guest: TappedGuest) -> list[str]:
    """Return a part of each secret that its encodings leave unchanged."""
    pem = guest.bundle.decode()
    key = pem[pem.index("-----BEGIN") : pem.index("-----END")].splitlines()[1]
    return [PASSWORD, key, in_cloudstack_encoding(pem.encode())[40:100]]


def in_cloudstack_encoding(pem: bytes) -> str:
    return base64.b64encode(pem.replace(b"\n", b"^").replace(b" ", b"~")).decode()


def assert_no_secret_is_visible(guest: TappedGuest) -> None:
    host_argv = "\n".join(
        path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists()
    )
    assert guest.name in host_argv, "QEMU is not among the examined processes"
    seen = {
        "argv on the host": host_argv,
        "argv in the guest": guest.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        "kernel command line": guest.run("cat /proc/cmdline"),
        "journal": guest.run("journalctl --boot --no-pager --output=cat"),
        "serial log": guest.serial_log.read_text(errors="replace"),
        "cmd_line.json": guest.run("cat /var/cache/cloud/cmd_line.json"),
        "environment": guest.run("cat /proc/[0-9]*/environ | tr '\\0' ' '"),
    }
    for place, text in seen.items():
        assert text.strip() or place == "serial log", f"{place} was not read"
        for secret in secrets_of(guest):
            assert secret not in text, f"a secret is in the {place}"
    assert guest.run("stat -c '%a %U' /var/cache/cloud/cmdline").split() == ["600", "root"]
    for unprivileged in ("systemvm-agent", "nobody"):
        read = guest.ssh(f"setpriv --reuid={unprivileged} --clear-groups cat /var/cache/cloud/cmdline")
        assert "Permission denied" in read.stderr


def test_smbios_credentials_and_the_guest_agent_work(tmp_path: Path) -> None:
    guest = TappedGuest(Role.SSVM, tmp_path, "smbios", {"disable_rp_filter": "true"})
    with guest.running():
        guest.wait_for(f"up {guest.name}")
        assert_no_secret_is_visible(guest)
        assert guest.run("systemctl --failed --no-legend") == ""
        for family, device, name, value in (
            ("ipv6", "eth2", "accept_ra", "0"),
            ("ipv6", "eth0", "accept_redirects", "0"),
            ("ipv4", "eth2", "rp_filter", "0"),
        ):
            path = f"/proc/sys/net/{family}/conf/{device}/{name}"
            assert guest.run(f"cat {path}").strip() == value, path
        assert guest.run("systemctl is-active systemvm-time; true").strip() == "inactive"
        assert_the_guest_agent_works(guest)


def assert_the_guest_agent_works(guest: TappedGuest) -> None:
    agent = GuestAgent.on_socket(guest.name, guest.agent_socket)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        return loop.run_until_complete(in_twisted(coroutine))

    try:
        run(agent.ping(timeout_s=60))
        done = run(agent.run(["/bin/sh", "-c", "cat; echo no >&2; exit 3"], stdin=b"hello"))
        assert (done.exit_code, done.stdout, done.stderr) == (3, b"hello", b"no\n")
        assert run(agent.run(["/usr/bin/seq", "100000"], output_limit_bytes=10)).truncated
        content = bytes(range(256)) * 1000
        run(agent.write_file("/run/from-the-host", content))
        assert guest.run("wc -c < /run/from-the-host").strip() == "256000"
        assert run(agent.read_file("/run/from-the-host")) == content
        with pytest.raises(GuestAgentError, match="No such file"):
            run(agent.read_file("/run/nowhere"))
        with pytest.raises(GuestAgentError, match="did not finish guest-exec-status within 1 s"):
            run(agent.run(["/bin/sleep", "20"], timeout_s=1))
        assert run(agent.os_info())["id"] == "debian"
        nics = {nic.device: nic for nic in run(agent.network_interfaces())}
        assert nics["eth0"].mac == MACS[0]
        assert "169.254.10.2" in [address.address for address in nics["eth0"].addresses]
        run(agent.set_time(time.time() - 3600))
        assert -3660 < run(agent.clock_skew_s()) < -3540
        run(agent.set_time())
        assert abs(run(agent.clock_skew_s())) < 30
        refused = guest.run("systemctl show -P ExecStart qemu-guest-agent")
        assert "guest-set-user-password" in refused
    finally:
        loop.close()


def test_fw_cfg_credentials_and_a_public_nic_with_only_ipv6_work(tmp_path: Path) -> None:
    public = {
        "eth2ip": "0.0.0.0",
        "eth2mask": "0.0.0.0",
        "gateway": "",
        "eth2ip6": GUEST6,
        "eth2ip6prelen": 64,
        "ip6gateway": "2001:db8:2::1",
        "vncport": 8080,
    }
    # QEMU's NICs are in another order than the boot arguments: nic_macs= identifies them
    guest = TappedGuest(Role.CPVM, tmp_path, "fw_cfg", public, order=(2, 0, 1))
    with guest.running():
        guest.wait_for(f"up {guest.name}")
        guest.wait_for(f"console https://[{GUEST6}]:8443")
        for number in range(3):
            assert guest.run(f"cat /sys/class/net/eth{number}/address").strip() == MACS[number]
        assert "inet " not in guest.run("ip address show dev eth2 scope global")
        guest.run("ping -6 -c 1 -W 10 2001:db8:2::1")
        for port in (8443, 8080):
            page = guest.inside(
                "curl", "-gksS", "--max-time", "40", "-o", "/dev/null", "-w", "%{http_code}",
                "--connect-to", f"[{GUEST6}]:8443:[{GUEST6}]:{port}", f"https://[{GUEST6}]:8443/",
            )  # fmt: skip
            assert re.fullmatch(r"[234]\d\d", page.stdout), page.stdout + page.stderr
        closed = guest.inside("curl", "-gsS", "--max-time", "4", f"http://[{GUEST6}]:3922/")
        assert closed.returncode != 0
        assert "via 2001:db8:2::1" in guest.run("ip -6 route show default")
        assert_no_secret_is_visible(guest)


def test_cloudstacks_delivery_and_its_host_steps_work(tmp_path: Path) -> None:
    guest = TappedGuest(Role.SSVM, tmp_path, "agent", {"ntpserverlist": "10.11.0.1"})
    guest.extra = ["-rtc", "base=2026-01-02T03:04:05"]
    key, certificate, *authority = re.findall(
        rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----\n", guest.bundle, re.S
    )
    identity = {"privatekey": key, "certificate": certificate, "cacertificate": b"".join(authority)}
    keys = " ".join(f"{name}={in_cloudstack_encoding(pem)}" for name, pem in identity.items())
    with guest.running():
        CloudStackHostDouble(guest.agent_socket, scaled_s(400.0)).deliver(f" {guest.boot_arguments()} {keys}")
        assert "REASON=awaiting_boot_arguments" in guest.serial_log.read_text(errors="replace")
        guest.wait_for(f"signed {guest.name}")
        # the clock was months behind: TLS works only after the time server has answered
        assert abs(float(guest.run("date +%s")) - time.time()) < 60
        assert guest.run("systemctl is-active systemvm-time").strip() == "active"
        kept = boot_arguments.parse(guest.run("cat /var/cache/cloud/cmdline"))
        assert kept["name"] == guest.name
        assert not set(boot_arguments.IDENTITY_KEYS) & kept.keys()
        assert guest.ssh("test -e /run/systemvm/bootstrap-identity.pem").returncode == 1
        needles = " ".join(f"-e '{secret}'" for secret in secrets_of(guest)[1:])
        found = guest.ssh(f"grep -rlF {needles} /etc /opt /root /run /srv /tmp /var", timeout_s=300)
        assert found.returncode == 1, found.stdout
        assert_no_secret_is_visible(guest)
        run_the_steps_of_cloudstacks_host(guest, tmp_path)


def run_the_steps_of_cloudstacks_host(guest: TappedGuest, work: Path) -> None:
    """Run steps 4 to 6 of (reference 1.6), with scp's old protocol, too, which the Java library uses."""
    for name in ("agent.zip", "cloud-scripts.tgz", "patch-sysvms.sh"):
        file = work / name
        file.write_bytes(b"x" * 3_000_000)
        file.chmod(0o755)
        for protocol in ("-O", "-s"):
            copied = guest.inside(
                "scp", protocol, *guest.ssh_options("-P"), str(file), "root@169.254.10.2:/var/cache/cloud/"
            )
            assert copied.returncode == 0, copied.stderr
    assert guest.run("stat -L -c %t:%T /var/cache/cloud/agent.zip").strip() == "1:3", (
        "an upload must be discarded"
    )
    assert guest.run("stat -c %a /dev/null").strip() == "666"
    listed = guest.run("/bin/bash /opt/cloud/bin/patched.sh /opt/cloud/bin/keystore*")
    assert "/opt/cloud/bin/keystore-setup" in listed
    assert "/opt/cloud/bin/keystore-cert-import" in listed
    assert guest.ssh("/opt/cloud/bin/patched.sh /opt/cloud/bin/nothing").returncode != 0
    version = guest.run("/opt/cloud/bin/get_template_version.sh")
    assert re.fullmatch(r"Cloudstack Release [\d.]+ .*&[0-9a-f]{64}\n", version), version
    assert guest.run("systemctl is-active cloud").strip() == "active"
    refused = guest.ssh("/opt/cloud/bin/keystore-setup /a /b password 365 /c")
    assert refused.returncode == 1
    assert "Java keystores are not supported" in refused.stderr
