# SPDX-License-Identifier: Apache-2.0
"""The appliance's firewall: the role's rules, and in the same transaction the addresses of this cloud.

The rules are a file of the image (`/etc/systemvm/nftables.conf`). It declares empty named sets, which are
filled from the boot arguments. A set that a role does not declare is not filled. A set contains IPv4
networks, the set of the same name with `6` appended IPv6 networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, collapse_addresses, ip_address, ip_network
from pathlib import Path

from systemvm.guest.boot_argument_error import BootError, boot_argument_error
from systemvm.guest.network_plan import Interface, Network, NetworkPlan
from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.denied_networks import RESERVED, nat64_network, opened_networks, zone_networks
from systemvm.wire.role import Role

#: The port of systemvm-console.socket.
CONSOLE_PORT = 8443
#: The management NIC of the rules.
MANAGEMENT_DEVICE = "eth1"

_BLOCK = re.compile(r"(?:^|(?<=[{;}]))\s*(table|set)\s+(?:(ip|ip6|inet)\s+)?(\w+)\s*\{", re.MULTILINE)


def sets(plan: NetworkPlan, arguments: Mapping[str, str]) -> dict[str, list[Network]]:
    """Return the networks of each set, of both families, with overlaps merged."""
    return {
        "control_cidr": merged(_of(plan.control)),
        "management_cidr": merged([*_of(plan.management), *plan.management_cidrs]),
        "storage_cidr": merged(_of(plan.storage)),
        "nfs_servers": merged(_literal_addresses(arguments.get("secondaryStorageServerAddress", ""))),
        "ntp_servers": merged(_literal_addresses(arguments.get("ntpserverlist", ""))),
        "dns_servers": merged(ip_network(address) for address in plan.name_servers),
        "fetch_denied": merged(fetch_denied(arguments)),
        "fetch_allowed": merged(opened_networks(arguments)),
    }


def fetch_denied(arguments: Mapping[str, str]) -> Iterator[Network]:
    """Yield where fetch must not connect: the networks of its policy, and those reached through NAT64."""
    for network in (*(network for network, _ in RESERVED), *zone_networks(arguments)):
        yield network
        if isinstance(network, IPv4Network):
            yield nat64_network(network)


def script(rules: Path, plan: NetworkPlan, arguments: Mapping[str, str]) -> str:
    """Return the input of one `nft -f -` transaction with rules and elements.

    Raises: BootError when the rules are missing, or `vncport=` is not a port.
    """
    try:
        text = rules.read_text()
    except FileNotFoundError as error:
        raise BootError(
            BootFailure.COMMAND_FAILED, f"firewall rules are missing: {rules}", "build the image again"
        ) from error
    declared = declared_sets(text)
    lines = [_rules(rules, text, plan), *add_elements(declared, sets(plan, arguments))]
    lines += proxy_elements(declared, arguments)
    lines += bucket_elements(declared, arguments)
    lines += _console_port(plan, arguments)
    return "\n".join(lines) + "\n"


def _rules(path: Path, text: str, plan: NetworkPlan) -> str:
    """Return the rules; without a public network, eth2 is the management NIC, and there is no eth1."""
    if plan.management is None or plan.management.device == MANAGEMENT_DEVICE:
        return f'include "{path}"'
    return text.replace(f'"{MANAGEMENT_DEVICE}"', f'"{plan.management.device}"')


def add_elements(declared: Mapping[str, str], filled: Mapping[str, Sequence[Network]]) -> list[str]:
    """Return the commands that fill those of the sets that are declared."""
    lines = []
    for name, networks in filled.items():
        for version, suffix in ((4, ""), (6, "6")):
            elements = [str(network) for network in networks if network.version == version]
            table = declared.get(name + suffix)
            if elements and table:
                lines.append(f"add element {table} {name}{suffix} {{ {', '.join(elements)} }}")
    return lines


def proxy_elements(declared: Mapping[str, str], arguments: Mapping[str, str]) -> list[str]:
    """Open the port of the zone's proxy, even in one of the zone's own networks.

    One that is given by name must be in the public network, as whatever the name resolves to stays blocked.
    """
    text = arguments.get("fetch_proxy", "")
    if not text:
        return []
    # most zones have none, and the parser would cost boot time
    from systemvm.wire.source_access import parse_proxy
    from systemvm.wire.source_url import SourceUrlError

    try:
        proxy = parse_proxy(text)
    except SourceUrlError as error:
        raise boot_argument_error(f"fetch_proxy= is not a proxy: {error.message}") from None
    try:
        address = ip_address(proxy.host)
    except ValueError:
        return []
    if any(address in network for network, _ in RESERVED if network.version == address.version):
        raise boot_argument_error(f"fetch_proxy={proxy.authority} is a reserved address")
    name = "fetch_proxy" if address.version == 4 else "fetch_proxy6"
    return [f"add element {declared[name]} {name} {{ {address} . {proxy.port} }}"] if name in declared else []


def bucket_elements(declared: Mapping[str, str], arguments: Mapping[str, str]) -> list[str]:
    """Open exactly the endpoints of the zone's S3 stores, even in the zone's own networks."""
    lines = []
    for text in filter(None, arguments.get("fetch_stores", "").split(",")):
        host, _, port = text.rpartition(":")
        try:
            address, number = ip_address(host.strip("[]")), int(port)
        except ValueError:
            raise boot_argument_error(f"fetch_stores={text!r} is not ADDRESS:PORT") from None
        if any(address in network for network, _ in RESERVED if network.version == address.version):
            raise boot_argument_error(f"fetch_stores={text} is a reserved address")
        name = "fetch_stores" if address.version == 4 else "fetch_stores6"
        if name in declared and 0 < number < 65536:
            lines.append(f"add element {declared[name]} {name} {{ {address} . {number} }}")
    return lines


def _console_port(plan: NetworkPlan, arguments: Mapping[str, str]) -> list[str]:
    """Redirect another `vncport=` to ours: to listen below 1024 the agent would need a privilege."""
    text = arguments.get("vncport", "")
    if not text or arguments.get("type") != Role.CPVM.boot_type:
        return []
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise boot_argument_error(f"vncport={text!r} is not a port")
    if int(text) == CONSOLE_PORT or plan.public is None:
        return []
    chain = "inet systemvm console_port"
    return [
        f"add chain {chain} {{ type nat hook prerouting priority dstnat; }}",
        f'add rule {chain} iifname "{plan.public.device}" tcp dport {int(text)} redirect to :{CONSOLE_PORT}',
    ]


def declared_sets(rules: str) -> dict[str, str]:
    """Return the names of the sets that the rules declare, each with the family and name of its table."""
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


def merged(networks: Iterable[Network]) -> list[Network]:
    """Return the networks without overlaps."""
    both = list(networks)
    merged: list[Network] = list(collapse_addresses(net for net in both if net.version == 4))
    merged.extend(collapse_addresses(net for net in both if net.version == 6))
    return merged


def _literal_addresses(text: str) -> Iterable[Network]:
    """Yield the addresses in a comma-separated list; host names are skipped and stay blocked."""
    for item in filter(None, text.split(",")):
        try:
            yield ip_network(ip_address(item))
        except ValueError:
            continue
