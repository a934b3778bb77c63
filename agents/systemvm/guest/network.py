# SPDX-License-Identifier: Apache-2.0
"""Makes the network plan of an appliance from its boot arguments, without any I/O.

CloudStack's NICs are eth0 control (link-local), eth1 management, eth2 public with the default route, and eth3
storage; without a storage NIC the management NIC carries storage traffic.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_address, ip_interface, ip_network

from systemvm.guest.boot_argument_error import boot_argument_error
from systemvm.guest.network_plan import (
    DEVICE,
    Address,
    Interface,
    InterfaceAddress,
    Network,
    NetworkPlan,
    Route,
)

_NIC_KEY = re.compile(r"eth(\d+)(?:ip|mask|ip6|ip6prelen)")
_MTU_MIN, _MTU_MAX = 576, 65535


def make_plan(arguments: Mapping[str, str]) -> NetworkPlan:
    """Return the network that the boot arguments describe.

    Raises: BootError when a boot argument is missing or wrong.
    """
    wanted = _with_storage_keys(arguments)
    numbers = sorted({int(match[1]) for key in wanted if (match := _NIC_KEY.fullmatch(key))})
    _refuse_dhcp(wanted, numbers)
    if 0 not in numbers:
        raise boot_argument_error(
            "boot argument eth0ip= is missing", "set it to the control NIC's address, 169.254.x.y"
        )
    management_device = _device(wanted, "private.network.device", "eth1")
    public_device = _device(wanted, "public.network.device", "eth2")
    # the place of a device that the VM does not have is empty
    macs = [mac.lower() or None for mac in wanted.get("nic_macs", "").split("|")]
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
    """Return the arguments with eth3's keys; `storageip=` means eth3ip=, and both must be equal."""
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
    if not DEVICE.fullmatch(device):
        raise boot_argument_error(f"{key}={device!r} is not a device name such as {default}")
    return device


def _mtu(arguments: Mapping[str, str], key: str) -> int | None:
    text = arguments.get(key, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not _MTU_MIN <= int(text) <= _MTU_MAX:
        raise boot_argument_error(f"{key}={text!r} is not an MTU from {_MTU_MIN} to {_MTU_MAX}")
    return int(text)


def _addresses(arguments: Mapping[str, str], number: int) -> tuple[InterfaceAddress, ...]:
    found: list[InterfaceAddress] = []
    for address_key, length_key, version in (
        (f"eth{number}ip", f"eth{number}mask", 4),
        (f"eth{number}ip6", f"eth{number}ip6prelen", 6),
    ):
        address, length = arguments.get(address_key, ""), arguments.get(length_key, "")
        if not address or address in ("0.0.0.0", "::"):  # noqa: S104 - CloudStack's "no address"
            continue
        if not length:
            raise boot_argument_error(f"{length_key}= is missing for {address_key}={address}")
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
                f"{address_key}={address} is the network or broadcast address of {network}"
            )
        found.append(interface)
    return tuple(found)


def _address(arguments: Mapping[str, str], key: str) -> Address | None:
    text = arguments.get(key, "")
    if not text or text == "0.0.0.0":  # noqa: S104 - CloudStack's "no address"
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
    """Check that `bootproto=dhcp` leaves no NIC without an address: the appliance has no DHCP client.

    Raises: BootError when a NIC has none.
    """
    if arguments.get("bootproto", "static") not in ("dhcp", "dhcp,dhcp6"):
        return
    without = [f"eth{number}" for number in numbers if not _addresses(arguments, number)]
    if without or not numbers:
        raise boot_argument_error(
            f"bootproto=dhcp is not supported: {', '.join(without) or 'eth0'} has no address",
            "set ethNip= and ethNmask= of each NIC; bootproto=dhcp is then ignored",
        )


def _storage_routes(
    arguments: Mapping[str, str], nics: Collection[Interface], storage: Interface | None
) -> Iterable[Route]:
    """Yield routes by the storage gateway to storagecidr= and to NFS servers that no NIC reaches directly."""
    gateway = _address(arguments, "storagegateway")
    if gateway is None or storage is None or not storage.reaches(gateway):
        return
    wanted = list(_networks(arguments, "storagecidr"))
    for item in arguments.get("secondaryStorageServerAddress", "").split(","):
        try:
            server = ip_address(item)
        except ValueError:
            continue  # a host name cannot be resolved before the network is up
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
    # the daemon and the cloud's name servers can be behind the management network's router
    inner = [item for item in arguments.get("host", "").split(",") if item]
    inner += [arguments.get(key, "") for key in ("internaldns1", "internaldns2")]
    for cidr in [*cidrs, *_not_connected(inner, nics)]:
        # a route for the NIC's own network would replace the on-link route and send neighbours by the gateway
        if cidr.version == gateway.version and cidr not in management.networks():
            yield Route(cidr, gateway, management.device)


def _not_connected(items: Iterable[str], nics: Collection[Interface]) -> Iterable[Network]:
    """Yield the private addresses among `items` that no NIC reaches directly."""
    for item in items:
        try:
            address = ip_address(item)
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
