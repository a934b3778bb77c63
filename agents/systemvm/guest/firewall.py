# SPDX-License-Identifier: Apache-2.0
"""The appliance's firewall: the role's own rules, and in the same transaction the addresses of this cloud.

The rules are a file of the image (`/etc/systemvm/nftables.conf`); it declares empty named sets, which only
the boot arguments can fill. A set that a role does not declare is not filled, so that each file says all of
what it uses. A set holds IPv4; the same name with `6` behind it holds IPv6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, collapse_addresses, ip_address, ip_network
from pathlib import Path

from systemvm.guest.boot_argument_error import BootError, boot_argument_error
from systemvm.guest.network import Interface, Network, NetworkPlan
from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.denied_networks import RESERVED, of_zone, through_nat64
from systemvm.wire.role import Role

#: Where the consoles are (systemvm-console.socket).
CONSOLE_PORT = 8443

_BLOCK = re.compile(r"(?:^|(?<=[{;}]))\s*(table|set)\s+(?:(ip|ip6|inet)\s+)?(\w+)\s*\{", re.MULTILINE)


def sets(plan: NetworkPlan, arguments: Mapping[str, str]) -> dict[str, list[Network]]:
    """What each set must hold: networks of both families, overlaps merged."""
    return {
        "control_cidr": _merged(_of(plan.control)),
        "management_cidr": _merged([*_of(plan.management), *plan.management_cidrs]),
        "storage_cidr": _merged(_of(plan.storage)),
        "nfs_servers": _merged(_literal_addresses(arguments.get("secondaryStorageServerAddress", ""))),
        "ntp_servers": _merged(_literal_addresses(arguments.get("ntpserverlist", ""))),
        "dns_servers": _merged(ip_network(address) for address in plan.name_servers),
        "fetch_denied": _merged(fetch_denied(arguments)),
    }


def fetch_denied(arguments: Mapping[str, str]) -> Iterator[Network]:
    """Where fetch may not connect: the networks of its own policy, and the ways to them through NAT64."""
    for network in (*(network for network, _ in RESERVED), *of_zone(arguments)):
        yield network
        if isinstance(network, IPv4Network):
            yield through_nat64(network)


def script(rules: Path, plan: NetworkPlan, arguments: Mapping[str, str]) -> str:
    """One `nft -f -` transaction: rules and elements together, so there is no moment between them."""
    try:
        declared = declared_sets(rules.read_text())
    except FileNotFoundError as error:
        raise BootError(
            BootFailure.COMMAND_FAILED, f"the firewall rules {rules} are missing", "the image is not complete"
        ) from error
    lines = [f'include "{rules}"']
    for name, networks in sets(plan, arguments).items():
        for version, suffix in ((4, ""), (6, "6")):
            elements = [str(network) for network in networks if network.version == version]
            table = declared.get(name + suffix)
            if elements and table:
                lines.append(f"add element {table} {name}{suffix} {{ {', '.join(elements)} }}")
    lines += _console_port(plan, arguments)
    return "\n".join(lines) + "\n"


def _console_port(plan: NetworkPlan, arguments: Mapping[str, str]) -> list[str]:
    """Another `vncport=` than ours leads to ours: a port below 1024 would need a privilege."""
    text = arguments.get("vncport", "")
    if not text or arguments.get("type") != Role.CPVM.boot_type:
        return []
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise boot_argument_error(f"vncport={text!r} is no port")
    if int(text) == CONSOLE_PORT or plan.public is None:
        return []
    chain = "inet systemvm console_port"
    return [
        f"add chain {chain} {{ type nat hook prerouting priority dstnat; }}",
        f'add rule {chain} iifname "{plan.public.device}" tcp dport {int(text)} redirect to :{CONSOLE_PORT}',
    ]


def declared_sets(rules: str) -> dict[str, str]:
    """Names of the sets a rules file declares, each with the family and name of its table."""
    found: dict[str, str] = {}
    table = ""
    for kind, family, name in _BLOCK.findall(rules):
        if kind == "table":
            table = f"{family or 'ip'} {name}"
        else:
            found[name] = table
    return found


def _of(nic: Interface | None) -> list[Network]:
    return nic.networks() if nic else []


def _merged(networks: Iterable[Network]) -> list[Network]:
    both = list(networks)
    merged: list[Network] = list(collapse_addresses(net for net in both if net.version == 4))
    merged.extend(collapse_addresses(net for net in both if net.version == 6))
    return merged


def _literal_addresses(text: str) -> Iterable[Network]:
    """The addresses of a csv; a host name in it cannot be a firewall element and stays closed."""
    for word in filter(None, text.split(",")):
        try:
            yield ip_network(ip_address(word))
        except ValueError:
            continue
