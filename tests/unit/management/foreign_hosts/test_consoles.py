# SPDX-License-Identifier: Apache-2.0
"""Consoles and VMs of XenServer and VMware hosts, as protocol peers of their APIs answer."""

from __future__ import annotations

import hashlib
import socket
import ssl
from threading import Event
from typing import Any

import pytest
import trustme
from attrs import evolve

from foreign_host_peers import HOST_ADDRESS, PASSWORD, USERNAME, XEN_VM, VcenterPeer, XapiPeer, xapi_vm
from systemvm.management.foreign_hosts import connections
from systemvm.management.foreign_hosts.access import ApiReply, HostAccess
from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError
from systemvm.management.foreign_hosts.hypervisors import ForeignHypervisor
from systemvm.management.foreign_hosts.inventory import HostMachine, HostPower
from systemvm.management.foreign_hosts.vcenter import VcenterHost
from systemvm.management.foreign_hosts.xapi import XapiHost
from systemvm.wire.console import TargetTls, TargetTransport

TLS = TargetTls(ca_pem="CA")
XEN = HostAccess(ForeignHypervisor.XENSERVER, "https://xen.example.test", USERNAME, PASSWORD, TLS)
VMWARE = HostAccess(ForeignHypervisor.VMWARE, "https://vcenter.example.test", USERNAME, PASSWORD, TLS)


def test_vms_and_addresses_of_a_pool_are_listed() -> None:
    peer = XapiPeer()
    peer.hosts["OpaqueRef:host-2"] = "10.11.0.32"
    other = XEN_VM.replace("4", "5")
    peer.vms |= {
        "OpaqueRef:vm-8": xapi_vm(other, "a\n\x1b[31mb", "Suspended") | {"VCPUs_max": "many"},
        "OpaqueRef:vm-9": xapi_vm(XEN_VM, "a snapshot") | {"is_a_snapshot": True},
        "OpaqueRef:vm-10": {"uuid": "../etc"},
    }
    found = XapiHost(XEN, peer).inventory()
    assert found.machines == [
        HostMachine(XEN_VM, "web-1", HostPower.ON, 2, 2048),
        HostMachine(other, "a  [31mb", HostPower.SUSPENDED, 0, 2048),
    ]
    assert (found.addresses, found.version) == ([HOST_ADDRESS, "10.11.0.32"], "XCP-ng 8.3.0")


def test_vms_and_addresses_of_a_vcenter_are_listed() -> None:
    peer = VcenterPeer()
    peer.vms.append({"vm": "vm-43", "name": "", "power_state": "POWERED_OFF", "memory_size_MiB": 512})
    found = VcenterHost(VMWARE, peer).inventory()
    assert found.machines == [
        HostMachine("vm-42", "db-1", HostPower.ON, 1, 0),
        HostMachine("vm-43", "vm-43", HostPower.OFF, 0, 512),
    ]
    assert found.addresses == ["esxi-3.example.test"]


def test_a_slave_of_a_pool_names_its_master() -> None:
    peer = XapiPeer()
    peer.master = "10.11.0.30"
    with pytest.raises(ForeignHostError) as refused:
        XapiHost(XEN, peer).inventory()
    assert refused.value.fault is ApiFault.NOT_THE_MASTER
    assert "10.11.0.30" in refused.value.hint


def test_each_host_of_a_pool_is_verified_by_its_own_certificate() -> None:
    peer = XapiPeer()
    pem = trustme.CA().issue_cert("xen-1").cert_chain_pems[0].bytes().decode()
    peer.certificates["OpaqueRef:host-1"] = pem
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    assert XapiHost(XEN, peer).target(XEN_VM).transport_tls == TargetTls(fingerprint=digest)


def test_a_console_of_xapi_is_reached_by_connect_with_its_session() -> None:
    peer = XapiPeer()
    target = XapiHost(XEN, peer).target(XEN_VM)
    assert (target.host, target.port, target.transport) == (HOST_ADDRESS, 443, TargetTransport.HTTP_CONNECT)
    assert target.path == "/console?ref=OpaqueRef:con-7", "the text console is not a screen"
    assert target.session_id == peer.sessions[-1]
    assert target.transport_tls == TLS
    assert target.session_id not in repr(target)


def test_a_session_of_xapi_is_kept_and_replaced_when_it_has_ended() -> None:
    peer = XapiPeer()
    consoles = XapiHost(XEN, peer)
    consoles.target(XEN_VM)
    consoles.target(XEN_VM)
    assert peer.calls.count("session.login_with_password") == 1
    peer.sessions.clear()
    assert consoles.target(XEN_VM).session_id == peer.sessions[0]
    assert peer.calls.count("session.login_with_password") == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"vms": {}},
        {"consoles": {"OpaqueRef:con-text": "vt100"}},
        {"location": f"http://{HOST_ADDRESS}/console?ref=OpaqueRef:con-7"},
        {"location": "console"},
        {"location": "https://[::1/console"},
    ],
)
def test_without_one_screen_on_xapi_there_is_no_target(changes: dict[str, Any]) -> None:
    peer = XapiPeer()
    for name, value in changes.items():
        setattr(peer, name, value)
    with pytest.raises(ForeignHostError):
        XapiHost(XEN, peer).target(XEN_VM)


def test_a_refused_login_names_no_password() -> None:
    for consoles in (
        XapiHost(evolve(XEN, password="wr0ng one"), XapiPeer()),
        VcenterHost(evolve(VMWARE, password="wr0ng one"), VcenterPeer()),
    ):
        with pytest.raises(ForeignHostError) as refused:
            consoles.inventory()
        assert refused.value.fault is ApiFault.LOGIN_REFUSED
        assert "wr0ng" not in f"{refused.value!r} {refused.value} {refused.value.hint}"
    assert PASSWORD not in f"{XEN!r}{VMWARE!r}"


@pytest.mark.parametrize(
    "body", [None, [], "ok", {}, {"result": None}, {"result": 3}, {"error": "x"}, {"error": {}}]
)
def test_what_is_no_answer_of_xapi_is_an_error(body: object) -> None:
    with pytest.raises(ForeignHostError):
        XapiHost(XEN, lambda *request, **more: ApiReply(200, body)).target(XEN_VM)


def test_each_console_of_vmware_has_a_ticket_of_its_own() -> None:
    consoles = VcenterHost(VMWARE, VcenterPeer())
    first, second = consoles.target("vm-42"), consoles.target("vm-42")
    assert (first.host, first.port, first.transport) == (
        "esxi-3.example.test",
        443,
        TargetTransport.WEBSOCKET,
    )
    assert (first.path, second.path) == ("/ticket/cst-VCT-1", "/ticket/cst-VCT-2")
    assert (first.transport_tls, first.session_id) == (TLS, None)
    assert "cst-VCT" not in repr(first)


def test_a_session_of_vcenter_is_replaced_when_it_has_ended() -> None:
    peer = VcenterPeer()
    consoles = VcenterHost(VMWARE, peer)
    consoles.target("vm-42")
    consoles.target("vm-42")
    assert len(peer.sessions) == 1
    peer.sessions.clear()
    consoles.target("vm-42")
    assert len(peer.sessions) == 1


def test_without_a_ticket_there_is_no_target() -> None:
    peer = VcenterPeer()
    with pytest.raises(ForeignHostError):
        VcenterHost(VMWARE, peer).target("vm-43")
    peer.is_on = False
    with pytest.raises(ForeignHostError):
        VcenterHost(VMWARE, peer).target("vm-42")


@pytest.mark.parametrize("body", [None, [], {}, {"ticket": None}, {"ticket": "ws://h/ticket/a"}, "x"])
def test_what_is_no_answer_of_vcenter_is_an_error(body: object) -> None:
    def answer(
        method: str, path: str, body_sent: object = None, headers: dict[str, str] | None = None
    ) -> ApiReply:
        if path == "/api/session":
            return ApiReply(201, "session")
        return ApiReply(200, body)

    with pytest.raises(ForeignHostError):
        VcenterHost(VMWARE, answer).target("vm-42")


def test_a_name_server_that_is_silent_holds_no_call_to_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer = Event()

    def look_up(*_: Any, **__: Any) -> list[Any]:
        may_answer.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(connections, "scaled_s", lambda timeout_s: 0.0)
    try:
        with pytest.raises(TimeoutError):
            connections.resolved("xen.example.test")
    finally:
        may_answer.set()
