# SPDX-License-Identifier: Apache-2.0
"""`systemvm host`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from fake_daemon import FakeDaemon
from systemvm.rpc.core.errors import RpcError

XEN = {
    "id": "h-1", "name": "xen-1", "hypervisor": "XenServer", "zonename": "zone1", "url": "https://10.11.0.31",
    "state": "Up", "type": "Routing", "virtualmachines": 3, "consoleaddresses": ["10.11.0.31", "10.11.0.32"],
}  # fmt: skip
OWN = {
    "id": "h-0", "name": "host-1", "hypervisor": "KVM", "state": "Up", "type": "Routing",
    "ipaddress": "10.11.0.1",
}  # fmt: skip


def test_hosts_are_listed_and_a_fault_is_named(run: Callable[..., Result]) -> None:
    lost = XEN | {"state": "Alert", "reason": "it cannot be reached", "hint": "start it"}
    result = run(FakeDaemon(listHosts={"host": [OWN, lost]}), "host", "list")
    assert result.exit_code == 0, result.output
    assert "10.11.0.31 10.11.0.32" in result.output
    assert result.output.splitlines()[-1] == "xen-1: it cannot be reached; start it"


def test_a_host_is_registered_and_its_password_is_in_no_argument(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    fake = FakeDaemon(addHost={"host": [XEN]})
    result = run(
        fake, "host", "add", "https://10.11.0.31", "--username", "systemvm", "--password-file", str(password),
        "--fingerprint", "AB:CD",
    )  # fmt: skip
    assert result.output == "xen-1 is Up: 3 VMs, consoles at 10.11.0.31, 10.11.0.32.\n"
    assert fake.calls == [("addHost", {
        "hypervisor": "XenServer", "url": "https://10.11.0.31", "username": "systemvm", "password": "s3cret",
        "fingerprint": "AB:CD",
    })]  # fmt: skip


def test_a_host_of_kvm_joins_a_cluster(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(addHost={"host": [OWN]}, listPods={"pod": [{"id": "p-1", "name": "pod1"}]})
    assert (
        run(fake, "host", "add", "host-1", "--hypervisor", "kvm", "--pod", "pod1").output == "host-1 is Up.\n"
    )
    assert fake.calls[-1] == ("addHost", {"hypervisor": "KVM", "url": "host-1", "podid": "p-1"})


def test_a_refusal_shows_the_fingerprint(run: Callable[..., Result], tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    why = RpcError(-32602, "its SHA-256 fingerprint is AB:CD", {"hint": "compare it on the host itself"})
    arguments = ("add", "https://xen", "--username", "a", "--password-file", str(password))
    result = run(FakeDaemon(addHost=why), "host", *arguments)
    assert result.exit_code == 1
    assert "AB:CD" in result.output
    assert "compare it" in result.output


def test_a_host_is_changed_listed_and_removed(run: Callable[..., Result]) -> None:
    ended = {"jobstatus": 1, "jobresult": {"host": XEN}}
    fake = FakeDaemon(
        listHosts={"host": [XEN]}, updateHost={"host": XEN}, reconnectHost={"jobid": "j"},
        queryAsyncJobResult=ended, deleteHost={"success": True},
    )  # fmt: skip
    assert run(fake, "host", "set", "xen-1", "--name", "b").output == "xen-1 is Up.\n"
    assert fake.calls[-1] == ("updateHost", {"id": "h-1", "name": "b"})
    assert run(fake, "host", "refresh", "xen-1").output == "xen-1 is Up: 3 VMs.\n"
    assert run(fake, "host", "remove", "xen-1").output == "xen-1 is removed.\n"
    assert fake.calls[-1] == ("deleteHost", {"id": "h-1"})
