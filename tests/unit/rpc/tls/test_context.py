# SPDX-License-Identifier: Apache-2.0
"""Names and key usages of peer certificates; integration tests verify chains in real handshakes."""

from __future__ import annotations

import pytest
from cryptography import x509

from rpc_pki import CLIENT, SERVER, TestAuthority
from systemvm.rpc.core.method import Caller
from systemvm.rpc.tls.context import agent_options
from systemvm.rpc.tls.identity import Identity
from systemvm.rpc.tls.peer_certificate import IdentityRefused, check_agent, check_daemon

AUTHORITY = TestAuthority()
MANAGEMENT = ["host-1.management.systemvm", "management.systemvm"]


def _certificate(names: list[str], usages: list[x509.ObjectIdentifier]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(AUTHORITY.issue(names, usages).certificate_pem)


@pytest.mark.parametrize(
    "name,caller",
    [
        ("s-1-VM.ssvm.systemvm", Caller("s-1-VM", "ssvm")),
        ("s-1-vm.ssvm.systemvm", Caller("s-1-VM", "ssvm")),
        ("V-22-VM.CPVM.SYSTEMVM", Caller("v-22-VM", "cpvm")),
        ("other.cpvm.systemvm", Caller("other", "cpvm")),
    ],
)
def test_an_agent_is_identified_by_its_name_without_case(name: str, caller: Caller) -> None:
    assert check_agent(_certificate([name], [CLIENT])) == caller


@pytest.mark.parametrize(
    "names",
    [
        [],
        MANAGEMENT,
        ["management.systemvm"],
        ["host-1.management.systemvm"],
        ["ssvm.systemvm"],
        ["s-1-vm.ssvm.systemvm.example"],
        ["a.b.ssvm.systemvm"],
        ["s-1-vm.ssvm.systemvm", "v-2-vm.cpvm.systemvm"],
        ["*.ssvm.systemvm"],
        ["s-1-vm.router.systemvm"],
        ["-s.ssvm.systemvm"],
        ["s-1-vm.ssvm.systemvm\n"],
        ["s-1-vm.ssvm.systemvm\x00.example"],
    ],
)
def test_other_names_do_not_identify_an_agent(names: list[str]) -> None:
    with pytest.raises(IdentityRefused, match="names"):
        check_agent(_certificate(names, [CLIENT]))


@pytest.mark.parametrize("usages", [[], [SERVER], [CLIENT, SERVER], [x509.ObjectIdentifier("2.5.29.37.0")]])
def test_the_key_of_an_agent_is_only_for_clients(usages: list[x509.ObjectIdentifier]) -> None:
    with pytest.raises(IdentityRefused, match="clientAuth"):
        check_agent(_certificate(["s-1-vm.ssvm.systemvm"], usages))


def test_a_daemon_of_any_host_is_accepted() -> None:
    assert check_daemon(_certificate(MANAGEMENT, [SERVER])) == Caller("host-1", "management")
    assert check_daemon(_certificate(["Management.SystemVM"], [SERVER])) == Caller("management", "management")


@pytest.mark.parametrize(
    "names", [[], ["host-1.management.systemvm"], ["s-1-vm.ssvm.systemvm"], ["management.systemvm.example"]]
)
def test_a_daemon_must_have_the_management_name(names: list[str]) -> None:
    with pytest.raises(IdentityRefused, match=r"without management\.systemvm"):
        check_daemon(_certificate(names, [SERVER]))


@pytest.mark.parametrize("usages", [[], [CLIENT], [SERVER, CLIENT]])
def test_the_key_of_a_daemon_is_only_for_servers(usages: list[x509.ObjectIdentifier]) -> None:
    with pytest.raises(IdentityRefused, match="serverAuth"):
        check_daemon(_certificate(MANAGEMENT, usages))


def test_an_identity_whose_parts_do_not_match_is_rejected() -> None:
    one, two = AUTHORITY.agent(), AUTHORITY.agent()
    for bad in (
        Identity(one.private_key_pem, two.certificate_pem, one.ca_pem),
        Identity(b"nonsense", one.certificate_pem, one.ca_pem),
        Identity(one.private_key_pem, b"nonsense", one.ca_pem),
        Identity(one.private_key_pem, one.certificate_pem, b""),
    ):
        with pytest.raises(ValueError, match="identity is unusable"):
            agent_options(bad)
