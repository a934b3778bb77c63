# SPDX-License-Identifier: Apache-2.0
"""The API of a host by HTTPS: its certificate is verified before a password is sent."""

from __future__ import annotations

import hashlib
import ssl

import pytest
import trustme

from foreign_host_peers import PASSWORD, USERNAME, XEN_VM, VcenterPeer, XapiPeer, served
from systemvm.management.foreign_hosts import access
from systemvm.management.foreign_hosts.access import HostAccess, exchange_with, read_fingerprint
from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError
from systemvm.management.foreign_hosts.hypervisors import ForeignHypervisor
from systemvm.management.foreign_hosts.vcenter import VcenterHost
from systemvm.management.foreign_hosts.xapi import XapiHost
from systemvm.wire.console import TargetTls

pytestmark = pytest.mark.timeout(60)

CA = trustme.CA()
ISSUED = CA.issue_cert("127.0.0.1")
CA_PEM = CA.cert_pem.bytes().decode()


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ISSUED.configure_cert(context)
    return context


def fingerprint() -> str:
    der = ssl.PEM_cert_to_DER_cert(ISSUED.cert_chain_pems[0].bytes().decode())
    text = hashlib.sha256(der).hexdigest().upper()
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2))


def host(kind: ForeignHypervisor, port: int, tls: TargetTls) -> HostAccess:
    return HostAccess(kind, f"https://127.0.0.1:{port}", USERNAME, PASSWORD, tls)


def test_both_apis_are_reached_by_https() -> None:
    xapi, vcenter = XapiPeer(), VcenterPeer()
    with served(xapi, server_context()) as port:
        of_xen = host(ForeignHypervisor.XENSERVER, port, TargetTls(ca_pem=CA_PEM))
        assert XapiHost(of_xen, exchange_with(of_xen)).target(XEN_VM).session_id == xapi.sessions[0]
    with served(vcenter, server_context()) as port:
        of_vmware = host(ForeignHypervisor.VMWARE, port, TargetTls(fingerprint=fingerprint()))
        consoles = VcenterHost(of_vmware, exchange_with(of_vmware))
        assert consoles.target("vm-42").path == "/ticket/cst-VCT-1"
        assert consoles.target("vm-42").path == "/ticket/cst-VCT-2"
    with pytest.raises(ForeignHostError) as gone:
        consoles.target("vm-42")
    assert gone.value.fault is ApiFault.UNREACHABLE


def test_a_fingerprint_is_shown_before_anything_is_sent() -> None:
    peer = XapiPeer()
    with served(peer, server_context()) as port:
        assert read_fingerprint("127.0.0.1", port) == fingerprint()
    assert peer.calls == []


@pytest.mark.parametrize(
    "tls",
    [
        TargetTls(ca_pem=trustme.CA().cert_pem.bytes().decode()),
        TargetTls(fingerprint=fingerprint()[:-2] + "00"),
        TargetTls(fingerprint="AB:CD"),
        TargetTls(),
        TargetTls(ca_pem=CA_PEM, fingerprint="00" * 32),
    ],
)
def test_an_unverified_host_gets_no_password(tls: TargetTls) -> None:
    peer = XapiPeer()
    with served(peer, server_context()) as port:
        wrong = host(ForeignHypervisor.XENSERVER, port, tls)
        with pytest.raises(ForeignHostError) as refused:
            XapiHost(wrong, exchange_with(wrong)).target(XEN_VM)
    assert refused.value.fault is ApiFault.UNTRUSTED
    assert peer.calls == []


def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_ANSWER_BYTES", 10)
    peer = XapiPeer()
    with served(peer, server_context()) as port:
        of_xen = host(ForeignHypervisor.XENSERVER, port, TargetTls(ca_pem=CA_PEM))
        with pytest.raises(ForeignHostError, match="too long"):
            XapiHost(of_xen, exchange_with(of_xen)).target(XEN_VM)
