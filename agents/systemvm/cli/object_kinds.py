# SPDX-License-Identifier: Apache-2.0
"""Kinds of objects that verbs for any object name, and how one is found by its name or id."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from systemvm.cli.daemon_client import DaemonClient


@frozen
class ObjectKind:
    """How the API lists the objects of a kind, and what it calls their type."""

    command: str
    key: str
    entity_type: str  # of annotations
    resource_type: str = ""  # of tags; empty: they have none
    filters: Mapping[str, str] = field(factory=dict)

    def find_id(self, daemon: DaemonClient, name: str, noun: str) -> str:
        """Return the id of the object with this name or id.

        Raises: CommandFailedError when there is none, with those that there are.
        """
        return str(daemon.find(self.command, self.key, name, noun, **self.filters)["id"])


_ALL = {"listall": "true"}
KINDS: Mapping[str, ObjectKind] = {
    "vm": ObjectKind("listVirtualMachines", "virtualmachine", "VM", "UserVm", _ALL),
    "volume": ObjectKind("listVolumes", "volume", "VOLUME", "Volume", _ALL),
    "snapshot": ObjectKind("listSnapshots", "snapshot", "SNAPSHOT", "Snapshot", _ALL),
    "template": ObjectKind(
        "listTemplates", "template", "TEMPLATE", "Template", {"templatefilter": "all", **_ALL}
    ),
    "iso": ObjectKind("listIsos", "iso", "ISO", "ISO", {"isofilter": "all", **_ALL}),
    "guest-network": ObjectKind("listNetworks", "network", "NETWORK", "Network", _ALL),
    "system-vm": ObjectKind("listSystemVms", "systemvm", "SYSTEM_VM"),
    "offering": ObjectKind("listServiceOfferings", "serviceoffering", "SERVICE_OFFERING"),
    "disk-offering": ObjectKind("listDiskOfferings", "diskoffering", "DISK_OFFERING"),
    "zone": ObjectKind("listZones", "zone", "ZONE"),
    "pod": ObjectKind("listPods", "pod", "POD"),
    "cluster": ObjectKind("listClusters", "cluster", "CLUSTER"),
    "host": ObjectKind("listHosts", "host", "HOST", "", {"type": "Routing"}),
    "domain": ObjectKind("listDomains", "domain", "DOMAIN", "", _ALL),
    "pool": ObjectKind("listStoragePools", "storagepool", "PRIMARY_STORAGE"),
    "store": ObjectKind("listImageStores", "imagestore", "SECONDARY_STORAGE"),
}
