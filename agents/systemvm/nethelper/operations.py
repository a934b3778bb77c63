# SPDX-License-Identifier: Apache-2.0
"""The allowed operations. Bridges, addresses and uplinks come from root's files, never from a request."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from systemvm.host import firewall, guest_filter
from systemvm.host.bridges import BridgeKind, HostNetwork
from systemvm.host.config_file import ConfigError
from systemvm.host.guest_filter import BoundGuest
from systemvm.host.guest_vlans import guest_vlan_networks, vlan_bridge, with_address
from systemvm.host.host_file import FILE_NAME, labelled_networks, load_host
from systemvm.host.layout import Layout
from systemvm.host.nftables import load_rules
from systemvm.host.zone import load_zones
from systemvm.nethelper import guest_links, links
from systemvm.nethelper.openvswitch import OpenVSwitch
from systemvm.nethelper.ovsdb import NoOpenVSwitchError, Ovsdb
from systemvm.service.unix_calls import RefusedError, read_whole

#: The daemon's taps: ten digits of a VM's UUID and the NIC's number. No other name is accepted.
TAP_NAME = re.compile(r"t[0-9a-f]{10}-[0-9]{1,2}")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MAX_ADDRESSES = 4096

Answer = tuple[dict[str, Any], list[int]]


class Operations:
    """The table of operations; an object is a handler for `local_calls.serve_one`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._openvswitch = OpenVSwitch(Ovsdb(layout.ovsdb_socket))
        self._known: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "ensure": self._ensure,
            "admit-consoles": self._admit_consoles,
            "make-tap": self._make_tap,
            "remove-tap": self._remove_tap,
            "bind-guests": self._bind_guests,
            "guest-links": self._guest_links,
            "state": self._state,
        }

    def __call__(self, request: dict[str, Any], descriptors: list[int]) -> Answer:
        operation = self._known.get(str(request.get("do")))
        if operation is None:
            raise RefusedError(f"unknown operation: {str(request.get('do'))[:40]!r}")
        if descriptors:
            # longer than a packet: JSON in a file, under the name of its descriptor
            request = request | {"content": json.loads(read_whole(descriptors[0]))}
        return operation(request)

    def _ensure(self, request: dict[str, Any]) -> Answer:
        """Set the firewall first, so that no bridge is unprotected; then make bridges with addresses.

        Only the control network must be: the others are answered with the reason why they cannot be.
        """
        first, last = (_port(value) for value in request["vnc_ports"])
        control_port = _port(request["control_port"])
        networks = self._networks()
        consoles = _addresses(request["consoles"])
        present = _guest_links_present(networks)
        load_rules(
            firewall.ruleset(
                networks,
                consoles,
                vnc_ports=(first, last),
                control_port=control_port,
                guest_links=[*present.values()],
            )
        )
        refused: dict[str, list[str]] = {}
        absent: NoOpenVSwitchError | None = None
        for network in networks:
            is_openvswitch = network.kind is BridgeKind.OPENVSWITCH
            try:
                if absent is not None and is_openvswitch:
                    raise absent
                if is_openvswitch:
                    self._openvswitch.ensure_bridge(network)
                else:
                    links.ensure_bridge(network)
            except RefusedError as error:
                if network.is_control:
                    raise
                absent = error if isinstance(error, NoOpenVSwitchError) else absent
                refused[network.bridge] = [error.message, error.hint]
        if absent is None and any(network.kind is BridgeKind.OPENVSWITCH for network in networks):
            # what is left harms nobody, and the next tap sweeps again
            with contextlib.suppress(RefusedError):
                self._openvswitch.sweep()
        return {"bridges": [network.bridge for network in networks], "unusable": refused}, []

    def _admit_consoles(self, request: dict[str, Any]) -> Answer:
        load_rules(firewall.admit_consoles(_addresses(request["addresses"])))
        return {}, []

    def _make_tap(self, request: dict[str, Any]) -> Answer:
        name, bridge = _tap(request["name"]), str(request["bridge"])
        networks = self._networks()
        possible = {**guest_vlan_networks(networks), **{each.bridge: each for each in networks}}
        network = possible.get(bridge)
        if network is None:
            raise RefusedError(
                f"bridge {bridge[:40]} for tap {name} is neither in host.yaml nor in a zone's file",
                "check the bridges in these files",
            )
        # ports of the control network are always isolated
        isolated = network.is_control or request["isolated"] is True
        vlan = _vlan(request.get("vlan"), network)
        if network.kind is BridgeKind.OPENVSWITCH:
            return {}, [self._openvswitch.make_tap(name, network, isolated=isolated, vlan=vlan)]
        return {}, [links.make_tap(name, network.bridge, isolated=isolated, vlan=vlan)]

    def _remove_tap(self, request: dict[str, Any]) -> Answer:
        name = _tap(request["name"])
        links.remove_tap(name)
        self._openvswitch.disconnect(name)
        return {}, []

    def _bind_guests(self, request: dict[str, Any]) -> Answer:
        """Have the ports of exactly these machines send from their own MAC and address only.

        Those on L2 networks send what they want.
        """
        content = request["content"]
        guests = [
            BoundGuest(_tap(port), _mac(mac), ipaddress.IPv4Address(str(address)))
            for port, mac, address in content["guests"]
        ]
        load_rules(guest_filter.ruleset(guests, [_tap(port) for port in content["l2_ports"]]))
        return {}, []

    def _guest_links(self, request: dict[str, Any]) -> Answer:
        """Have exactly these guest VLANs; one that cannot be made does not keep the others from it."""
        networks = self._networks()
        possible = guest_vlan_networks(networks)
        wanted, failed = dict[str, HostNetwork](), dict[str, RefusedError]()
        for bridge, vlan, address in request["content"]:
            name = vlan_bridge(str(bridge), int(vlan))
            try:
                link = _guest_link(possible, name, int(vlan), address)
                _check_apart(link, [*networks, *wanted.values()])
                wanted[name] = link
            except RefusedError as error:
                failed[name] = error
        for name, network in _guest_links_present(networks).items():
            if name not in wanted:
                guest_links.remove(network)
        left = [each for name, each in _guest_links_present(networks).items() if name not in wanted]
        # before the bridges: none is there without its rules, nor is one that could not be removed
        load_rules(firewall.protect_guest_links([*wanted.values(), *left]))
        for name, link in wanted.items():
            try:
                guest_links.make(link)
            except RefusedError as error:
                failed[name] = error
        return {
            "failed": {name: {"why": each.message, "hint": each.hint} for name, each in failed.items()}
        }, []

    def _state(self, request: dict[str, Any]) -> Answer:
        networks = self._networks()
        known = {network.bridge for network in networks} | guest_vlan_networks(networks).keys()
        ports = {name: port for name, port in links.ports().items() if port["bridge"] in known}
        if any(network.kind is BridgeKind.OPENVSWITCH for network in networks):
            ports |= self._openvswitch.ports()
        return {"ports": ports}, []

    def _networks(self) -> list[HostNetwork]:
        """Read the files at each request, so that a change needs no restart."""
        try:
            networks = labelled_networks(load_zones(self._layout.zones), load_host(self._layout.etc))
            return list({network.bridge: network for network in networks.values()}.values())
        except ConfigError as error:
            raise RefusedError(str(error)) from error


def _tap(name: object) -> str:
    if not isinstance(name, str) or not TAP_NAME.fullmatch(name):
        raise RefusedError(f"{str(name)[:40]!r} is not the name of a VM's tap")
    return name


def _mac(value: object) -> str:
    if not isinstance(value, str) or not MAC.fullmatch(value):
        raise RefusedError(f"{str(value)[:40]!r} is not a MAC")
    return value


def _guest_links_present(networks: Iterable[HostNetwork]) -> dict[str, HostNetwork]:
    """Return the guest VLANs that this host has. A bridge that root's files name is none of them."""
    known = list(networks)
    found = guest_links.present(guest_vlan_networks(known))
    return {name: each for name, each in found.items() if all(name != other.bridge for other in known)}


def _guest_link(possible: Mapping[str, HostNetwork], name: str, vlan: int, address: object) -> HostNetwork:
    """Return a guest VLAN with its address: what root's file permits."""
    network = possible.get(name)
    if network is None:
        raise RefusedError(
            f"this host has no guest VLAN {vlan}",
            f"add it to vlans of the label of guest traffic in {FILE_NAME}",
        )
    try:
        return with_address(network, None if address is None else ipaddress.IPv4Interface(str(address)))
    except ValueError as error:
        raise RefusedError(
            f"bridge {name} cannot have the address {str(address)[:40]}: {error}",
            f"set guest_cidr of the label of guest traffic in {FILE_NAME}",
        ) from error


def _check_apart(link: HostNetwork, others: Iterable[HostNetwork]) -> None:
    """Check that no other network of this host has addresses of a guest VLAN."""
    for other in others:
        for interface in other.addresses:
            for own in link.addresses:
                if own.version == interface.version and own.network.overlaps(interface.network):
                    raise RefusedError(
                        f"network {own.network} of bridge {link.bridge} overlaps {interface.network} of "
                        f"bridge {other.bridge}",
                        "choose another network: a host can have each only once",
                    )


def _vlan(value: object, network: HostNetwork) -> int | None:
    """Return the VLAN of a tap: one that root's file permits on this network."""
    if value is None:
        return None
    if type(value) is not int or value not in network.filtered_vlans:
        raise RefusedError(
            f"bridge {network.bridge} has no VLAN {str(value)[:40]}",
            f"add it to vlans of the bridge's label in {FILE_NAME}",
        )
    return value


def _port(value: object) -> int:
    if not isinstance(value, int) or not 1024 <= value <= 65_535:
        raise RefusedError(f"{str(value)[:40]!r} is not an allowed port", "choose one from 1024 to 65535")
    return value


def _addresses(values: list[str]) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Parse the addresses: only parsed values get into nft's input."""
    if not isinstance(values, list) or len(values) > _MAX_ADDRESSES:
        raise RefusedError(f"addresses must be a list of at most {_MAX_ADDRESSES}")
    addresses = [ipaddress.ip_address(str(value)) for value in values]
    if any(getattr(address, "scope_id", None) for address in addresses):
        raise RefusedError("addresses must not have a scope")
    return addresses
