# SPDX-License-Identifier: Apache-2.0
"""The verbs for what a zone consists of: `systemvm zone`, `pod`, `cluster`, `host`, `network`, … as data."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen


@frozen
class SizeColumn:
    """A column of bytes, with the name that it has in the table."""

    key: str
    title: str


@frozen
class ModelList:
    """A list command: its rows' key, what one of them is called, the columns of the table, and parameters."""

    command: str
    key: str
    noun: str
    columns: tuple[str | SizeColumn, ...] = ("name", "id")
    parameters: Mapping[str, str] = field(factory=dict)


@frozen
class Verb:
    """A verb of a group: the command, and the parameter that its argument is, if it has one."""

    name: str
    command: str
    argument: str  # "id": the named object's id; empty: no argument
    summary: str
    example: str  # what follows `systemvm GROUP VERB`
    is_job: bool = False


@frozen
class Group:
    """A group of verbs."""

    name: str
    summary: str
    verbs: tuple[Verb, ...]
    listing: ModelList | None = None  # of its verb `list`


ZONES = ModelList("listZones", "zone", "zone", ("name", "allocationstate", "dns1", "id"))
PODS = ModelList("listPods", "pod", "pod", ("name", "zonename", "gateway", "netmask", "id"))
CLUSTERS = ModelList("listClusters", "cluster", "cluster", ("name", "podname", "hypervisortype", "id"))
NETWORKS = ModelList(
    "listPhysicalNetworks", "physicalnetwork", "physical network", ("name", "zonename", "id")
)
TRAFFIC = ModelList(
    "listTrafficTypes", "traffictype", "traffic type", ("traffictype", "kvmnetworklabel", "id")
)
RANGES = ModelList(
    "listVlanIpRanges",
    "vlaniprange",
    "IP range",
    ("startip", "endip", "startipv6", "endipv6", "cidr", "gateway", "vlan", "id"),
    {"withoutaddresses": "true"},
)
STORAGE_RANGES = ModelList(
    "listStorageNetworkIpRange",
    "storagenetworkiprange",
    "storage IP range",
    ("startip", "endip", "startipv6", "endipv6", "id"),
)

NETWORK_OFFERINGS = ModelList(
    "listNetworkOfferings", "networkoffering", "network offering", ("name", "guestiptype", "zone", "id")
)
GUEST_NETWORKS = ModelList(
    "listNetworks",
    "network",
    "guest network",
    ("name", "zonename", "type", "state", "account", "vlan", "cidr", "id"),
)

OFFERINGS = ModelList(
    "listServiceOfferings",
    "serviceoffering",
    "service offering",
    ("name", "cpunumber", "memory", "storagetype", "provisioningtype", "storagetags", "id"),
)
DISK_OFFERINGS = ModelList(
    "listDiskOfferings",
    "diskoffering",
    "disk offering",
    ("name", "disksize", "iscustomized", "storagetype", "provisioningtype", "tags", "id"),
)

HYPERVISORS = ModelList(
    "listHypervisorCapabilities",
    "hypervisorCapabilities",
    "hypervisor",
    ("hypervisor", "runsmachines", "maxhostspercluster", "networking", "console", "connectsto"),
)

POOLS = ModelList(
    "listStoragePools", "storagepool", "storage pool",
    (
        "name", "type", "scope", "state", SizeColumn("disksizetotal", "size"),
        SizeColumn("disksizeused", "used"), SizeColumn("disksizeallocated", "allocated"), "tags", "id",
    ),
)  # fmt: skip

#: Parameters that name an object, and the parameter of its id.
REFERENCES = {
    "zone": (ZONES, "zoneid"),
    "pod": (PODS, "podid"),
    "cluster": (CLUSTERS, "clusterid"),
    "network": (NETWORKS, "physicalnetworkid"),
    "pool": (POOLS, "storageid"),
    "networkoffering": (NETWORK_OFFERINGS, "networkofferingid"),
}

_NETWORK = "gateway=10.11.0.1 netmask=255.255.255.0 startip=10.11.0.100 endip=10.11.0.199"
_PUBLIC = "gateway=203.0.113.1 netmask=255.255.255.0 startip=203.0.113.100 endip=203.0.113.199"
_STORAGE = "gateway=10.12.0.1 netmask=255.255.255.0 startip=10.12.0.100 endip=10.12.0.199"
_GUEST = "gateway=10.14.0.1 netmask=255.255.255.0 startip=10.14.0.10 endip=10.14.0.99"
_LABEL = "traffictype=Public kvmnetworklabel=cloudbr0"

# One line for each verb: a table is read faster than a tree.
GROUPS = (
    Group("zone", "Manage zones.", (
        Verb("create", "createZone", "name", "Create the zone NAME, which is Disabled.",
             "zone2 dns1=192.0.2.53 internaldns1=10.11.0.2"),
        Verb("update", "updateZone", "id", "Change, enable or disable the zone NAME.",
             "zone2 allocationstate=Enabled"),
        Verb("delete", "deleteZone", "id", "Delete the zone NAME, which has no parts.", "zone2"),
    ), ZONES),
    Group("pod", "Manage pods, which have the management network.", (
        Verb("create", "createPod", "name", "Create the pod NAME.", f"pod1 zone=zone2 {_NETWORK}"),
        Verb("update", "updatePod", "id", "Change the pod NAME.", "pod1 name=pod2"),
        Verb("delete", "deletePod", "id", "Delete the pod NAME, which has no cluster.", "pod1"),
        Verb("add-range", "createManagementNetworkIpRange", "podid",
             "Add a range of management addresses to the pod NAME.", f"pod1 {_NETWORK}", True),
        Verb("update-range", "updatePodManagementNetworkIpRange", "podid",
             "Change begin and end of a range of the pod NAME.",
             "pod1 currentstartip=10.11.0.100 currentendip=10.11.0.199 newendip=10.11.0.219", True),
        Verb("delete-range", "deleteManagementNetworkIpRange", "podid",
             "Delete a range of management addresses of the pod NAME.",
             "pod1 startip=10.11.0.100 endip=10.11.0.199", True),
    ), PODS),
    Group("cluster", "Manage clusters of hosts.", (
        Verb("add", "addCluster", "clustername", "Add the cluster NAME to a pod.",
             "cluster1 zone=zone2 pod=pod1 hypervisor=KVM"),
        Verb("update", "updateCluster", "id", "Change the cluster NAME.", "cluster1 clustername=cluster2"),
        Verb("delete", "deleteCluster", "id", "Delete the cluster NAME, which has no host.", "cluster1"),
    ), CLUSTERS),
    Group("network", "Manage physical networks.", (
        Verb("create", "createPhysicalNetwork", "name", "Create the physical network NAME.",
             "physical1 zone=zone2", True),
        Verb("update", "updatePhysicalNetwork", "id", "Change the physical network NAME.",
             "physical1 vlan=100-199,300", True),
        Verb("delete", "deletePhysicalNetwork", "id", "Delete the physical network NAME.", "physical1", True),
    ), NETWORKS),
    Group("traffic", "Manage the traffic types of physical networks.", (
        Verb("list", "listTrafficTypes", "physicalnetworkid",
             "List the traffic types of the physical network NAME.", "physical1"),
        Verb("add", "addTrafficType", "physicalnetworkid",
             "Have the physical network NAME carry a traffic type.", f"physical1 {_LABEL}", True),
        Verb("update", "updateTrafficType", "", "Change the labels of a traffic type.",
             "id=ID kvmnetworklabel=cloudbr1", True),
        Verb("delete", "deleteTrafficType", "", "Delete a traffic type without ranges.", "id=ID", True),
    )),
    Group("range", "Manage ranges of public and guest addresses.", (
        Verb("add", "createVlanIpRange", "", "Add a range of public addresses, or of guests.",
             f"zone=zone2 {_PUBLIC}"),
        Verb("update", "updateVlanIpRange", "", "Change begin and end of a range.",
             "id=ID endip=203.0.113.209"),
        Verb("delete", "deleteVlanIpRange", "", "Delete a range that is not in use.", "id=ID"),
    ), RANGES),
    Group("guest-network", "Manage guest networks, which users' VMs are on.", (
        Verb("create", "createNetwork", "name", "Create the guest network NAME.",
             f"guests2 zone=zone2 {_GUEST}"),
        Verb("update", "updateNetwork", "id", "Change name, description or domain of the guest network NAME.",
             "guests2 networkdomain=guests.example.test", True),
        Verb("restart", "restartNetwork", "id",
             "Start DHCP, DNS and metadata of the guest network NAME anew.", "guests2", True),
        Verb("delete", "deleteNetwork", "id", "Delete the guest network NAME, which no VM is on.", "guests2",
             True),
    ), GUEST_NETWORKS),
    Group("network-offering", "List what guest networks are made by.", (), NETWORK_OFFERINGS),
    Group("hypervisor", "List what each hypervisor can do here.", (), HYPERVISORS),
    Group("offering", "Manage service offerings, which are sizes of VMs.", (
        Verb("create", "createServiceOffering", "name", "Create the offering NAME.",
             "huge cpunumber=4 memory=8192"),
        Verb("update", "updateServiceOffering", "id", "Change name or description of the offering NAME.",
             "huge name=vast"),
        Verb("delete", "deleteServiceOffering", "id", "Delete the offering NAME; VMs keep their size.",
             "huge"),
    ), OFFERINGS),
    Group("disk-offering", "Manage disk offerings, which are sizes of data volumes.", (
        Verb("create", "createDiskOffering", "name", "Create the disk offering NAME.", "d20 disksize=20"),
        Verb("update", "updateDiskOffering", "id", "Change name or description of the disk offering NAME.",
             "d20 name=small"),
        Verb("delete", "deleteDiskOffering", "id", "Delete the disk offering NAME; volumes keep their size.",
             "d20"),
    ), DISK_OFFERINGS),
    Group("pool", "Manage primary storage pools, which have the disks of VMs.", (
        Verb("create", "createStoragePool", "name", "Create the pool NAME on NFS or a shared mount point.",
             "nfs1 zone=zone1 scope=zone url=nfs://192.0.2.10/export/primary tags=fast"),
        Verb("update", "updateStoragePool", "id", "Change, disable or enable the pool NAME.",
             "shared1 enabled=false"),
        Verb("maintain", "enableStorageMaintenance", "id",
             "Stop the VMs of the pool NAME, and have nothing use it.", "shared1", True),
        Verb("resume", "cancelStorageMaintenance", "id",
             "End the maintenance of the pool NAME, and start its VMs.", "shared1", True),
        Verb("delete", "deleteStoragePool", "id", "Delete the pool NAME, which has no volume.", "shared1"),
    ), POOLS),
    Group("storage-range", "Manage ranges of storage addresses.", (
        Verb("add", "createStorageNetworkIpRange", "podid", "Add a range to the pod NAME.",
             f"pod1 {_STORAGE}", True),
        Verb("update", "updateStorageNetworkIpRange", "", "Change begin and end of a range.",
             "id=ID endip=10.12.0.209", True),
        Verb("delete", "deleteStorageNetworkIpRange", "", "Delete a range that is not in use.",
             "id=ID", True),
    ), STORAGE_RANGES),
)  # fmt: skip
