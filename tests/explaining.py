# SPDX-License-Identifier: Apache-2.0
"""Reasons of a system VM that is not Up, on the booted cloud, and a network fault that causes one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from booted_cloud import BootedCloud, wait_for

SSVM, CPVM = "secondarystoragevm", "consoleproxy"
TABLE = "explained"


def wait_for_reason(cloud: BootedCloud, kind: str, reason: str) -> dict[str, Any]:
    """Wait until the VM's reason contains the text in both lists of the API, and return the row."""

    def row() -> dict[str, Any] | None:
        vm = cloud.system_vm(kind)
        [host] = cloud.api.listHosts(name=vm["name"])["host"]
        if reason not in vm.get("reason", "") or _explanation(cloud.system_vm(kind)) != _explanation(vm):
            return None  # or it has changed between the answers
        assert (host["state"], host["reason"], host["hint"]) == _explanation(vm)
        return vm

    vm: dict[str, Any] = wait_for(f"{reason!r} of {cloud.system_vm(kind)}", row, 300)
    assert (vm["state"], vm["agentstate"]) == ("Running", "Alert")
    shown = " ".join(cloud.cli("system-vm", "list").stdout.split())
    assert reason in shown
    return vm


def _explanation(vm: dict[str, Any]) -> tuple[str | None, ...]:
    return vm.get("agentstate"), vm.get("reason"), vm.get("hint")


def reasons_of(vm: dict[str, Any]) -> list[str]:
    """Return the reasons of a VM in an answer of the API or of `why`, without the load of a busy machine.

    A busy host adds that load to the reasons of an agent that is Up; it is not a fault.
    """
    reasons = (vm.get("reason") or "").removeprefix("Its agent ").split("; ")
    return [reason for reason in reasons if reason and not reason.startswith("is busy: ")]


@contextmanager
def filtered(cloud: BootedCloud, address: str, port: int, verdict: str) -> Iterator[None]:
    """Apply nftables' `verdict` to packets from this address to the host's port."""
    inside = ["ip", "netns", "exec", cloud.plan.host_namespace, "nft"]
    rules = f"""table inet {TABLE} {{ chain input {{
        type filter hook input priority -300;
        ip saddr {address} tcp dport {port} {verdict}
    }}; }}"""
    subprocess.run([*inside, "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "delete", "table", "inet", TABLE], check=True)
