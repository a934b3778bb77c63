# SPDX-License-Identifier: Apache-2.0
"""The status of a lab's system VMs, from the answers of `listSystemVms`."""

from __future__ import annotations

from typing import Any

#: The zone needs one of each (`systemvmtype`).
REQUIRED_TYPES = frozenset({"secondarystoragevm", "consoleproxy"})


def is_up(vm: dict[str, Any]) -> bool:
    """Return whether the VM is Running and its agent is Up."""
    return vm.get("state") == "Running" and vm.get("agentstate") == "Up"


def types_up(vms: list[dict[str, Any]]) -> frozenset[str]:
    """Return the types of which a VM is Up."""
    return frozenset(vm["systemvmtype"] for vm in vms if is_up(vm))


def describe(vms: list[dict[str, Any]]) -> str:
    """Return the states of all VMs and agents in one line."""
    return ", ".join(f"{vm['name']} {vm.get('state')}, agent {vm.get('agentstate', '-')}" for vm in vms)
