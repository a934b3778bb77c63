# SPDX-License-Identifier: Apache-2.0
"""The addresses that the lab's forwarders follow."""

from __future__ import annotations

from systemvm.lab.public_forwarder import CONSOLE, STORAGE, addresses, hosts


def vm(vm_type: str, address: str | None, agent_state: str = "Up") -> dict[str, object]:
    row: dict[str, object] = {"systemvmtype": vm_type, "state": "Running", "agentstate": agent_state}
    return row if address is None else {**row, "publicip": address}


def test_each_service_has_the_address_of_its_system_vm() -> None:
    listed = [vm("consoleproxy", "203.0.113.100"), vm("secondarystoragevm", "203.0.113.101")]
    assert addresses(listed) == {CONSOLE: "203.0.113.100", STORAGE: "203.0.113.101"}


def test_a_system_vm_that_is_not_up_has_no_address() -> None:
    listed = [vm("consoleproxy", "203.0.113.100", "Alert"), vm("secondarystoragevm", None)]
    assert addresses(listed) == {}


def test_names_resolve_only_to_known_addresses() -> None:
    assert hosts({}) == "127.0.0.1 localhost\n"
    assert hosts({STORAGE: "203.0.113.101"}).endswith("\n203.0.113.101 storage.systemvm.internal\n")
