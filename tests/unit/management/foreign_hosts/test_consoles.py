# SPDX-License-Identifier: Apache-2.0
"""Consoles of VMs on XenServer and VMware hosts, as protocol peers of their APIs answer."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from foreign_host_peers import HOST_ADDRESS, PASSWORD, USERNAME, VcenterPeer, XapiPeer
from systemvm.management.foreign_hosts.access import (
    ApiReply,
    ForeignHostError,
    ForeignHypervisor,
    HostAccess,
)
from systemvm.management.foreign_hosts.vcenter import VcenterConsoles
from systemvm.management.foreign_hosts.xapi import XapiConsoles
from systemvm.wire.console import TargetTls, TargetTransport

TLS = TargetTls(ca_pem="CA")
XEN = HostAccess(ForeignHypervisor.XENSERVER, "https://xen.example.test", USERNAME, PASSWORD, TLS)
VMWARE = HostAccess(ForeignHypervisor.VMWARE, "https://vcenter.example.test", USERNAME, PASSWORD, TLS)


def test_a_console_of_xapi_is_reached_by_connect_with_its_session() -> None:
    peer = XapiPeer()
    target = XapiConsoles(XEN, peer).target("i-2-7-VM")
    assert (target.host, target.port, target.transport) == (HOST_ADDRESS, 443, TargetTransport.HTTP_CONNECT)
    assert target.path == "/console?ref=OpaqueRef:con-7", "the text console is not a screen"
    assert target.session_id == peer.sessions[-1]
    assert target.transport_tls == TLS
    assert target.session_id not in repr(target)


def test_a_session_of_xapi_is_kept_and_replaced_when_it_has_ended() -> None:
    peer = XapiPeer()
    consoles = XapiConsoles(XEN, peer)
    consoles.target("i-2-7-VM")
    consoles.target("i-2-7-VM")
    assert peer.calls.count("session.login_with_password") == 1
    peer.sessions.clear()
    assert consoles.target("i-2-7-VM").session_id == peer.sessions[0]
    assert peer.calls.count("session.login_with_password") == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"vms": {}},
        {"vms": {"i-2-7-VM": ["OpaqueRef:vm-7", "OpaqueRef:vm-8"]}},
        {"consoles": {"OpaqueRef:con-text": "vt100"}},
        {"location": f"http://{HOST_ADDRESS}/console?ref=OpaqueRef:con-7"},
        {"location": "console"},
    ],
)
def test_without_one_screen_on_xapi_there_is_no_target(changes: dict[str, Any]) -> None:
    peer = XapiPeer()
    for name, value in changes.items():
        setattr(peer, name, value)
    with pytest.raises(ForeignHostError):
        XapiConsoles(XEN, peer).target("i-2-7-VM")


def test_a_refused_login_names_no_password() -> None:
    for consoles in (
        XapiConsoles(evolve(XEN, password="wr0ng one"), XapiPeer()),
        VcenterConsoles(evolve(VMWARE, password="wr0ng one"), VcenterPeer()),
    ):
        with pytest.raises(ForeignHostError) as refused:
            consoles.target("i-2-7-VM")
        assert "wr0ng" not in f"{refused.value!r} {refused.value} {refused.value.hint}"
    assert PASSWORD not in f"{XEN!r}{VMWARE!r}"


@pytest.mark.parametrize(
    "body", [None, [], "ok", {}, {"result": None}, {"result": 3}, {"error": "x"}, {"error": {}}]
)
def test_what_is_no_answer_of_xapi_is_an_error(body: object) -> None:
    with pytest.raises(ForeignHostError):
        XapiConsoles(XEN, lambda *request, **more: ApiReply(200, body)).target("i-2-7-VM")


def test_each_console_of_vmware_has_a_ticket_of_its_own() -> None:
    consoles = VcenterConsoles(VMWARE, VcenterPeer())
    first, second = consoles.target("i-2-7-VM"), consoles.target("i-2-7-VM")
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
    consoles = VcenterConsoles(VMWARE, peer)
    consoles.target("i-2-7-VM")
    consoles.target("i-2-7-VM")
    assert len(peer.sessions) == 1
    peer.sessions.clear()
    consoles.target("i-2-7-VM")
    assert len(peer.sessions) == 1


def test_without_a_ticket_there_is_no_target() -> None:
    peer = VcenterPeer()
    with pytest.raises(ForeignHostError):
        VcenterConsoles(VMWARE, peer).target("i-2-8-VM")
    peer.is_on = False
    with pytest.raises(ForeignHostError):
        VcenterConsoles(VMWARE, peer).target("i-2-7-VM")


@pytest.mark.parametrize("body", [None, [], {}, {"ticket": None}, {"ticket": "ws://h/ticket/a"}, [{"vm": 3}]])
def test_what_is_no_answer_of_vcenter_is_an_error(body: object) -> None:
    def answer(
        method: str, path: str, body_sent: object = None, headers: dict[str, str] | None = None
    ) -> ApiReply:
        if path == "/api/session":
            return ApiReply(201, "session")
        return ApiReply(200, body if path.endswith("tickets") or isinstance(body, list) else [{"vm": "vm-1"}])

    with pytest.raises(ForeignHostError):
        VcenterConsoles(VMWARE, answer).target("i-2-7-VM")
