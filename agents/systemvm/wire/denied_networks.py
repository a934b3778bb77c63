# SPDX-License-Identifier: Apache-2.0
"""Networks that no image is fetched from: one table for fetch's policy and for the guest's firewall.

`ipaddress.is_global` is not used, because it accepts NAT64 and 6to4. Sources: IANA's special-purpose address
registries (RFC 6890). Only Python's own library is imported, because systemvm-preinit uses this at each boot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

#: Networks without image servers, in any zone.
RESERVED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "this host"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.88.99.0/24", "6to4 relays"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "an IPv4 address embedded in IPv6"),
        ("::ffff:0:0:0/96", "an IPv4 address embedded in IPv6"),
        ("::/96", "an IPv4 address embedded in IPv6"),
        ("64:ff9b:1::/48", "local-use NAT64"),
        ("100::/64", "discard-only"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "benchmarking"),
        ("2001:10::/28", "ORCHID"),
        ("2001:20::/28", "ORCHID"),
        ("2002::/16", "6to4"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

#: RFC 6052's prefix, legitimate in networks without IPv4: the embedded IPv4 address decides.
NAT64 = IPv6Network("64:ff9b::/96")

#: In messages to users, for public addresses of hypervisors and of system VMs.
OWN_ADDRESS = "an address of this cloud's own"

CONTROL_NETWORK = "the control network"
MANAGEMENT_NETWORK = "the management network"
MANAGEMENT_GATEWAY = "the management network's gateway"
STORAGE_NETWORK = "the storage network"
THIS_VM = "this VM itself"
MANAGEMENT_SERVER = "a management server"
STORAGE_SERVER = "a storage server"
#: What no setting opens: these are this system's own parts, and none of them serves images.
_NEVER_OPENED = frozenset({CONTROL_NETWORK, THIS_VM, MANAGEMENT_SERVER, STORAGE_SERVER})

_NICS = range(8)


def embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a NAT64 translator connects to for `address`; None outside its prefix."""
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None


def nat64_network(network: IPv4Network) -> IPv6Network:
    """The IPv6 addresses by which a NAT64 translator reaches `network`."""
    first = int(NAT64.network_address) | int(network.network_address)
    return IPv6Network((first, NAT64.prefixlen + network.prefixlen))


@lru_cache(maxsize=256)  # the same ones are parsed for each download
def _parse(cidr: str) -> Network | None:
    try:
        return ip_network(cidr, strict=False)
    except ValueError:
        return None


def zone_networks(boot: Mapping[str, str]) -> dict[Network, str]:
    """Return the zone's own networks from the boot arguments, each with a description.

    These are the control, management and storage networks, the stores' servers, gateways, this VM's public
    addresses, and those of `fetch_denied=`: the cloud's own public addresses.
    """
    found: dict[Network, str] = {}
    for cidr, what in _named(boot):
        network = _parse(cidr)
        # an absent NIC has no address; preinit has refused what is broken
        if network is not None and network.prefixlen:
            found.setdefault(network, what)
    return found


def opened_networks(boot: Mapping[str, str]) -> list[Network]:
    """Return exactly what `fetch_allowed=` opens for fetch in the zone's own networks.

    These are CloudStack's `secstorage.allowed.internal.sites`, without reserved networks and without
    this system's own parts. An invalid one opens nothing.
    """
    closed = [network for network, _ in RESERVED]
    closed += [network for network, what in zone_networks(boot).items() if what in _NEVER_OPENED]
    opened: list[Network] = []
    for text in boot.get("fetch_allowed", "").split(","):
        network = _parse(text.strip())
        if network is not None and network.prefixlen:
            opened += _without(network, closed)
    return opened


def why_not_an_ssvm(boot: Mapping[str, str], address: IPv4Address | IPv6Address) -> str | None:
    """Return why an address cannot be the public one of another SSVM of this cloud; None when it can."""
    for network, why in (*RESERVED, *zone_networks(boot).items()):
        if why != OWN_ADDRESS and address.version == network.version and address in network:
            return why
    return None


def why_not_a_bucket(boot: Mapping[str, str], address: IPv4Address | IPv6Address) -> str | None:
    """Return why an S3 server cannot have this address; None when it can: on the storage network, too."""
    for network, why in (*RESERVED, *zone_networks(boot).items()):
        is_closed = why not in (OWN_ADDRESS, STORAGE_NETWORK, STORAGE_SERVER)
        if is_closed and address.version == network.version and address in network:
            return why
    return None


def why_not_a_host(boot: Mapping[str, str], address: IPv4Address | IPv6Address) -> str | None:
    """Return why a hypervisor host cannot have this address; None when it can: on the management network."""
    for network, why in (*RESERVED, *zone_networks(boot).items()):
        if why != MANAGEMENT_NETWORK and address.version == network.version and address in network:
            return why
    return None


def _without(network: Network, closed: Iterable[Network]) -> list[Network]:
    left = [network]
    for taken in closed:
        left = [rest for part in left for rest in _difference(part, taken)]
    return left


def _difference(network: Network, taken: Network) -> list[Network]:
    if network.version != taken.version or not network.overlaps(taken):
        return [network]
    if network.prefixlen >= taken.prefixlen:
        return []
    return [*network.address_exclude(taken)]  # type: ignore[arg-type]  # both are of one version


def _named(boot: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    public = boot.get("public.network.device", "eth2")
    management = boot.get("private.network.device", "eth1")
    for cidr in boot.get("mgmtcidr", "").split(","):
        yield cidr.strip(), MANAGEMENT_NETWORK
    yield f"{boot.get('storageip', '')}/{boot.get('storagenetmask', '')}", STORAGE_NETWORK
    for number in _NICS:
        device = f"eth{number}"
        for address_key, length_key in (("ip", "mask"), ("ip6", "ip6prelen")):
            address, length = boot.get(device + address_key, ""), boot.get(device + length_key, "")
            if device == public:
                yield address, THIS_VM
            elif number == 0:
                yield f"{address}/{length}", CONTROL_NETWORK
            elif device == management:
                yield f"{address}/{length}", MANAGEMENT_NETWORK
            else:
                yield f"{address}/{length}", STORAGE_NETWORK
    for cidr in boot.get("fetch_denied", "").split(","):
        yield cidr.strip(), OWN_ADDRESS
    for key, what in (
        ("host", MANAGEMENT_SERVER),
        ("secondaryStorageServerAddress", STORAGE_SERVER),
        ("localgw", MANAGEMENT_GATEWAY),
        ("storagegateway", "the storage network's gateway"),
    ):
        for text in boot.get(key, "").split(","):
            if _is_address(text.strip()):
                yield text.strip(), what


def _is_address(text: str) -> bool:
    try:
        return not ip_address(text).is_unspecified
    except ValueError:
        return False
