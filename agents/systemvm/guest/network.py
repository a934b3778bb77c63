# SPDX-License-Identifier: Apache-2.0
"""From boot arguments to addresses and routes: a pure function, and the one `ip -batch` that applies it.

CloudStack's NICs are eth0 control (link-local), eth1 management, eth2 public with the default route, eth3
storage; without a storage NIC the management NIC carries storage.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import NamedTuple

from systemvm.guest.boot_argument_error import BootError, boot_argument_error
from systemvm.wire.boot_failure import BootFailure

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
InterfaceAddress = IPv4Interface | IPv6Interface

_NIC_KEY = re.compile(r"eth(\d+)(?:ip|mask|ip6|ip6prelen)")
_DEVICE = re.compile(r"eth\d+")
_MTU_MIN, _MTU_MAX = 576, 65535


class Interface(NamedTuple):
    """One NIC as the boot arguments name it."""

    device: str
    addresses: tuple[InterfaceAddress, ...]
    mtu: int | None = None
    mac: str | None = None

    def networks(self) -> list[Network]:
        return [address.network for address in self.addresses]

    def reaches(self, address: Address) -> bool:
        return any(address in network for network in self.networks())


class Route(NamedTuple):
    """`destination` None is the default route."""

    destination: Network | None
    gateway: Address
    device: str


class NetworkPlan(NamedTuple):
    """The whole network of an appliance."""

    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    management_cidrs: tuple[Network, ...]
    name_servers: tuple[Address, ...]
    control: Interface
    management: Interface | None
    public: Interface | None
    storage: Interface | None

    def ip_batch(self) -> str:
        """Lines for `ip -batch -`: every address before any route, so that gateways are reachable."""
        lines = ["link set dev lo up"]
        for nic in self.interfaces:
            lines.append(f"address flush dev {nic.device} scope global")
            for address in nic.addresses:
                # duplicate detection would keep a v6 address tentative for a second; the host allots it alone
                extra = " nodad" if address.version == 6 else " broadcast +"
                lines.append(f"address replace {address.with_prefixlen} dev {nic.device}{extra}")
            mtu = f" mtu {nic.mtu}" if nic.mtu else ""
            lines.append(f"link set dev {nic.device}{mtu} up")
        for route in self.routes:
            destination = "default" if route.destination is None else str(route.destination)
            lines.append(f"route replace {destination} via {route.gateway} dev {route.device}")
        return "\n".join(lines) + "\n"

    def renaming(self, present: Mapping[str, str]) -> str:
        """Lines for `ip -batch -` that put the NICs into the order of nic_macs=; empty when they are.

        By two steps, because two NICs may have each other's name. One that nic_macs= does not name and that
        is in the way gets a name that falls free.
        """
        by_mac = {mac.lower(): device for device, mac in present.items() if _DEVICE.fullmatch(device)}
        moves = {
            by_mac[nic.mac]: nic.device
            for nic in self.interfaces
            if nic.mac in by_mac and by_mac[nic.mac] != nic.device
        }
        free = sorted(set(moves) - set(moves.values()))
        for device in sorted(set(moves.values()) - set(moves)):
            if device in present:
                moves[device] = free.pop(0)
        lines = [f"link set dev {device} name was-{device}" for device in moves]
        lines += [f"link set dev was-{device} name {name}" for device, name in moves.items()]
        return "\n".join(lines) + "\n" if lines else ""

    def check_devices(self, present: Mapping[str, str]) -> None:
        """Every NIC named must be there now (`present`: device to MAC): waiting would hide the mistake."""
        for nic in self.interfaces:
            if nic.device not in present:
                raise BootError(
                    BootFailure.NIC_ABSENT,
                    f"the boot arguments name {nic.device}, but this machine has no such NIC",
                    f"it has {', '.join(sorted(present)) or 'none'}; give the VM a NIC for every ethNip=",
                )
            if nic.mac and nic.mac != present[nic.device].lower():
                raise BootError(
                    BootFailure.NIC_ABSENT,
                    f"{nic.device} has the MAC {present[nic.device]}, nic_macs= says {nic.mac}",
                    "no NIC of this machine has that MAC: is nic_macs= of another one?",
                )


def plan(arguments: Mapping[str, str]) -> NetworkPlan:
    """The network that the boot arguments describe; BootError when they cannot be right."""
    wanted = _with_storage_keys(arguments)
    numbers = sorted({int(match[1]) for key in wanted if (match := _NIC_KEY.fullmatch(key))})
    _refuse_dhcp(wanted, numbers)
    if 0 not in numbers:
        raise boot_argument_error(
            "the boot arguments have no eth0ip=", "eth0 is the control NIC, 169.254.x.y"
        )
    management_device = _device(wanted, "private.network.device", "eth1")
    public_device = _device(wanted, "public.network.device", "eth2")
    macs = [mac.lower() for mac in wanted.get("nic_macs", "").split("|") if mac]
    addresses = {f"eth{number}": _addresses(wanted, number) for number in numbers}
    storage_device = "eth3" if addresses.get("eth3") else management_device
    mtus = {
        management_device: _mtu(wanted, "privateMtu"),
        public_device: _mtu(wanted, "publicMtu"),
    }
    mtus[storage_device] = _mtu(wanted, "mtu") or mtus.get(storage_device)
    nics = {
        device: Interface(device, given, mtus.get(device), macs[number] if number < len(macs) else None)
        for number, (device, given) in zip(numbers, addresses.items(), strict=True)
    }
    management, public = nics.get(management_device), nics.get(public_device)
    cidrs = tuple(_networks(wanted, "mgmtcidr"))
    return NetworkPlan(
        interfaces=tuple(nics.values()),
        routes=(
            *_default_routes(wanted, public, nics.values()),
            *_management_routes(wanted, cidrs, management, nics.values()),
            *_storage_routes(wanted, nics.values(), nics.get(storage_device)),
        ),
        management_cidrs=cidrs,
        name_servers=tuple(_name_servers(wanted)),
        control=nics["eth0"],
        management=management,
        public=public,
        storage=nics.get(storage_device),
    )


def _with_storage_keys(arguments: Mapping[str, str]) -> dict[str, str]:
    """`storageip=` describes eth3 too; CloudStack gives one or both, and they must agree."""
    wanted = dict(arguments)
    address = wanted.get("storageip", "")
    if not address:
        return wanted
    if wanted.setdefault("eth3ip", address) != address:
        raise boot_argument_error(f"storageip={address} and eth3ip={wanted['eth3ip']} differ")
    wanted.setdefault("eth3mask", wanted.get("storagenetmask", ""))
    return wanted


def _device(arguments: Mapping[str, str], key: str, default: str) -> str:
    device = arguments.get(key) or default
    if not _DEVICE.fullmatch(device):
        raise boot_argument_error(f"{key}={device!r} is not a device like {default}")
    return device


def _mtu(arguments: Mapping[str, str], key: str) -> int | None:
    text = arguments.get(key, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not _MTU_MIN <= int(text) <= _MTU_MAX:
        raise boot_argument_error(f"{key}={text!r} is not an MTU between {_MTU_MIN} and {_MTU_MAX}")
    return int(text)


def _addresses(arguments: Mapping[str, str], number: int) -> tuple[InterfaceAddress, ...]:
    found: list[InterfaceAddress] = []
    for address_key, length_key, version in (
        (f"eth{number}ip", f"eth{number}mask", 4),
        (f"eth{number}ip6", f"eth{number}ip6prelen", 6),
    ):
        address, length = arguments.get(address_key, ""), arguments.get(length_key, "")
        if not address or address in ("0.0.0.0", "::"):  # noqa: S104 - CloudStack's "this NIC has none"
            continue
        if not length:
            raise boot_argument_error(f"{address_key}={address} has no {length_key}=")
        try:
            interface = ip_interface(f"{address}/{length}")
        except ValueError as error:
            raise boot_argument_error(f"{address_key}={address} {length_key}={length}: {error}") from error
        if interface.version != version:
            raise boot_argument_error(f"{address_key}={address} is not an IPv{version} address")
        if version == 4 and length not in (str(interface.netmask), str(interface.network.prefixlen)):
            raise boot_argument_error(f"{length_key}={length} is not a netmask")
        network = interface.network
        if version == 4 and network.prefixlen < 31 and interface.ip in (network[0], network[-1]):
            raise boot_argument_error(
                f"{address_key}={address} is the network's own or its broadcast address ({network})"
            )
        found.append(interface)
    return tuple(found)


def _address(arguments: Mapping[str, str], key: str) -> Address | None:
    text = arguments.get(key, "")
    if not text or text == "0.0.0.0":  # noqa: S104 - CloudStack's "there is none"
        return None
    try:
        return ip_address(text)
    except ValueError as error:
        raise boot_argument_error(f"{key}={text!r} is not an address") from error


def _networks(arguments: Mapping[str, str], key: str) -> Iterable[Network]:
    for text in filter(None, arguments.get(key, "").split(",")):
        try:
            yield ip_network(text, strict=False)
        except ValueError as error:
            raise boot_argument_error(f"{key}={arguments[key]}: {error}") from error


def _refuse_dhcp(arguments: Mapping[str, str], numbers: Iterable[int]) -> None:
    """An outer allocator's addresses come by DHCP; an appliance takes only those it is told."""
    if arguments.get("bootproto", "static") not in ("dhcp", "dhcp,dhcp6"):
        return
    without = [f"eth{number}" for number in numbers if not _addresses(arguments, number)]
    if without or not numbers:
        raise boot_argument_error(
            f"bootproto=dhcp, and {', '.join(without) or 'no NIC'} has no address: here is no DHCP client",
            "give each NIC its address by ethNip= and ethNmask=; with these bootproto=dhcp changes nothing",
        )


def _storage_routes(
    arguments: Mapping[str, str], nics: Collection[Interface], storage: Interface | None
) -> Iterable[Route]:
    """By the storage gateway to NFS servers that are on no network of ours, and to storagecidr=."""
    gateway = _address(arguments, "storagegateway")
    if gateway is None or storage is None or not storage.reaches(gateway):
        return
    wanted = list(_networks(arguments, "storagecidr"))
    for word in arguments.get("secondaryStorageServerAddress", "").split(","):
        try:
            server = ip_address(word)
        except ValueError:
            continue  # a name; where it leads is not known before there are name servers
        if not any(nic.reaches(server) for nic in nics):
            wanted.append(ip_network(server))
    for destination in dict.fromkeys(wanted):
        if destination.version == gateway.version and destination not in storage.networks():
            yield Route(destination, gateway, storage.device)


def _default_routes(
    arguments: Mapping[str, str], public: Interface | None, nics: Collection[Interface]
) -> Iterable[Route]:
    if arguments.get("defaultroute") == "false":
        return
    for key in ("gateway", "ip6gateway"):
        gateway = _address(arguments, key)
        if gateway is None:
            continue
        candidates = [public] if public is not None else list(nics)
        nic = next((nic for nic in candidates if nic.reaches(gateway) or gateway.is_link_local), None)
        if nic is None:
            where = (
                ", ".join(f"{nic.device} {net}" for nic in candidates for net in nic.networks()) or "nothing"
            )
            raise boot_argument_error(f"{key}={gateway} is not on the public network ({where})")
        yield Route(None, gateway, nic.device)


def _management_routes(
    arguments: Mapping[str, str],
    cidrs: Iterable[Network],
    management: Interface | None,
    nics: Collection[Interface],
) -> Iterable[Route]:
    gateway = _address(arguments, "localgw")
    if gateway is None or management is None:
        return
    if not management.reaches(gateway):
        raise boot_argument_error(
            f"localgw={gateway} is not on the management network of {management.device}"
        )
    # the daemon, and name servers of the cloud's own, may be behind the management network's router
    inner = [word for word in arguments.get("host", "").split(",") if word]
    inner += [arguments.get(key, "") for key in ("internaldns1", "internaldns2")]
    for cidr in [*cidrs, *_not_connected(inner, nics)]:
        # a route for the NIC's own network would replace the on-link one, and send neighbours by the gateway
        if cidr.version == gateway.version and cidr not in management.networks():
            yield Route(cidr, gateway, management.device)


def _not_connected(words: Iterable[str], nics: Collection[Interface]) -> Iterable[Network]:
    """Private addresses among `words` that are on no network of ours."""
    for word in words:
        try:
            address = ip_address(word)
        except ValueError:
            continue
        if address.is_private and not address.is_link_local and not any(nic.reaches(address) for nic in nics):
            yield ip_network(address)


def _name_servers(arguments: Mapping[str, str]) -> Iterable[Address]:
    seen: set[Address] = set()
    inner, outer = ("internaldns1", "internaldns2"), ("dns1", "dns2", "ip6dns1", "ip6dns2")
    for key in outer + inner if arguments.get("useextdns") == "true" else inner + outer:
        address = _address(arguments, key)
        if address is not None and address not in seen:
            seen.add(address)
            yield address
