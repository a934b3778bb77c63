# SPDX-License-Identifier: Apache-2.0
"""A unit that logs continuously affects neither the agent, nor ssh, nor the VM's memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from testinfra.host import Host

if TYPE_CHECKING:
    from booted_cloud import BootedCloud

pytestmark = [pytest.mark.image, pytest.mark.cloud, pytest.mark.netns, pytest.mark.timeout(400)]

FLOOD_S = 60
JOURNAL_MAX_BYTES = 16 << 20  # appliances/base/overlay/etc/systemd/journald.conf.d/systemvm.conf
FLOOD = "exec yes 'a line of a unit that logs continuously, about as long as the lines of most programs are'"


def journal_bytes(guest: Host) -> int:
    return int(guest.check_output("du -sb /run/log/journal").split()[0])


def test_a_unit_that_logs_for_a_minute_does_not_affect_the_vm(cloud: BootedCloud, cpvm_ssh: Host) -> None:
    """Run on the smaller VM, which has one processor."""
    name = cloud.system_vm("consoleproxy")["name"]
    started = cpvm_ssh.check_output("systemctl show -P ActiveEnterTimestampMonotonic systemvm-agent")
    boot_id = cpvm_ssh.file("/proc/sys/kernel/random/boot_id").content_string
    began_s = time.monotonic()
    cpvm_ssh.check_output(
        "systemd-run --quiet --unit=flood -p RuntimeMaxSec=%s -p StandardOutput=journal sh -c %s",
        str(20 * FLOOD_S),  # it is stopped below
        FLOOD,
    )
    try:
        checks = 0
        while checks < 3 or time.monotonic() - began_s < FLOOD_S:
            assert cloud.system_vm("consoleproxy").get("agentstate") == "Up"
            # a new connection, like that of an operator who examines the fault
            assert cloud.ssh(name, "systemctl is-active systemvm-agent").strip() == "active"
            checks += 1
    finally:
        cpvm_ssh.run("systemctl stop flood; systemctl reset-failed flood")
    assert journal_bytes(cpvm_ssh) <= JOURNAL_MAX_BYTES
    journald = cpvm_ssh.check_output("journalctl --no-pager -u systemd-journald -n 200")
    assert "Suppressed" in journald
    assert cpvm_ssh.check_output("systemctl show -P ActiveEnterTimestampMonotonic systemvm-agent") == started
    assert cpvm_ssh.file("/proc/sys/kernel/random/boot_id").content_string == boot_id
    assert "Out of memory" not in cpvm_ssh.check_output("dmesg")
