# SPDX-License-Identifier: Apache-2.0
"""The allowed operations. Bridges and this host's addresses come from root's files, never from a request."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from systemvm.guestnet import metadata_redirect
from systemvm.guestnet.dnsmasq import Dnsmasq
from systemvm.guestnet.dnsmasq_files import files_of
from systemvm.guestnet.metadata_process import MetadataProcess
from systemvm.guestnet.passwords import MAX_TAKEN
from systemvm.host.bridges import HostNetwork
from systemvm.host.config_file import ConfigError
from systemvm.host.guest_services import (
    METADATA_ADDRESS,
    GuestBridge,
    GuestData,
    decode,
    decode_data,
    is_mac,
)
from systemvm.host.guest_vlans import guest_vlan_networks
from systemvm.host.host_file import labelled_networks, load_host
from systemvm.host.layout import Layout
from systemvm.host.nftables import load_rules
from systemvm.host.zone import load_zones
from systemvm.service.unix_calls import RefusedError, read_whole

Answer = tuple[dict[str, Any], list[int]]


class ServiceOperations:
    """The table of operations; an object is a handler for `unix_calls.serve_one`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def __call__(self, request: dict[str, Any], descriptors: list[int]) -> Answer:
        if request.get("do") == "serve" and len(descriptors) == 1:
            return self._serve(decode(read_whole(descriptors[0])))
        if request.get("do") == "put-data" and len(descriptors) == 1:
            return self._put_data(request, decode_data(read_whole(descriptors[0])))
        if request.get("do") == "taken-passwords":
            return self._taken_passwords()
        if request.get("do") == "stop":
            return self._stop(str(request["bridge"]))
        raise RefusedError(f"unknown operation: {str(request.get('do'))[:40]!r}")

    def _serve(self, bridges: list[GuestBridge]) -> Answer:
        """Serve these bridges and no other; one that cannot be served does not keep the others from it."""
        known = self._guest_networks()
        failed, possible = {}, set[str]()
        served: dict[str, Mapping[IPv4Network, IPv4Address]] = {}
        for each in bridges:
            try:
                own = _own_addresses(_network(known, each.bridge), each)
                possible.add(each.bridge)
                directory = self._directory(each.bridge)
                guests = {
                    guest.address: guest.mac for net in each.subnets for guest in net.guests if guest.is_here
                }
                Dnsmasq(directory).serve(files_of(each, own, directory))
                MetadataProcess(directory).serve(own.values(), guests)
                served[each.bridge] = own
            except RefusedError as error:
                failed[each.bridge] = {"why": error.message, "hint": error.hint}
        wanted = {each.bridge for each in bridges}
        for name in self._served() - possible:
            self._end(name)
            if name not in wanted:
                shutil.rmtree(self._directory(name), ignore_errors=True)
        try:
            load_rules(metadata_redirect.ruleset(served))
        except RefusedError as error:
            why = f"{METADATA_ADDRESS} is not answered: {error.message}"
            failed.update({name: {"why": why, "hint": error.hint} for name in served})
        return {"failed": failed}, []

    def _stop(self, bridge: str) -> Answer:
        """End the services of a bridge; its data stays."""
        if bridge in self._served():
            self._end(bridge)
        return {}, []

    def _end(self, bridge: str) -> None:
        directory = self._directory(bridge)
        Dnsmasq(directory).stop()
        MetadataProcess(directory).stop()

    def _put_data(self, request: dict[str, Any], data: GuestData) -> Answer:
        """Keep the data of a machine, until the bridge is served without that machine."""
        bridge, mac = str(request["bridge"]), str(request["mac"])
        _network(self._guest_networks(), bridge)
        if not is_mac(mac):
            raise RefusedError(f"{mac[:40]!r} is not a MAC")
        MetadataProcess(self._directory(bridge)).put(IPv4Address(request["address"]), mac, data)
        return {}, []

    def _taken_passwords(self) -> Answer:
        taken = [
            password
            for name in sorted(self._served())
            for password in MetadataProcess(self._directory(name)).taken_passwords()
        ]
        return {"taken": taken[:MAX_TAKEN]}, []

    def _served(self) -> set[str]:
        return {path.name for path in self._layout.guest_services.iterdir() if path.is_dir()}

    def _directory(self, bridge: str) -> Path:
        return self._layout.guest_services / bridge

    def _guest_networks(self) -> dict[str, HostNetwork]:
        """Read the files at each request, so that a change needs no restart."""
        try:
            networks = labelled_networks(load_zones(self._layout.zones), load_host(self._layout.etc))
        except ConfigError as error:
            raise RefusedError(str(error)) from error
        return {
            **guest_vlan_networks(networks.values()),
            **{network.bridge: network for network in networks.values() if network.is_guest},
        }


def _network(known: Mapping[str, HostNetwork], bridge: str) -> HostNetwork:
    network = known.get(bridge)
    if network is None:
        raise RefusedError(
            f"bridge {bridge[:40]} carries no guest traffic of this host",
            "check the bridges in host.yaml and in the zones' files",
        )
    return network


def _own_addresses(network: HostNetwork, bridge: GuestBridge) -> dict[IPv4Network, IPv4Address]:
    """Return this host's address in each subnet that has one. Raises: RefusedError when none has."""
    own = [each.ip for each in network.addresses if isinstance(each, IPv4Interface)]
    found = {}
    for subnet in bridge.subnets:
        address = next((each for each in own if each in subnet.cidr), None)
        if network.guest_cidr is not None and network.tag is not None:
            address = subnet.host_address if subnet.cidr.subnet_of(network.guest_cidr) else None
        if address is not None:
            found[subnet.cidr] = address
    if not found:
        raise RefusedError(
            "this host has no address in its network", "add one to the addresses of its label in host.yaml"
        )
    return found
