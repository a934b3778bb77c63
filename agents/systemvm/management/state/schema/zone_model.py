# SPDX-License-Identifier: Apache-2.0
"""Tables of what a zone consists of: pods, clusters, networks with their ranges, pools, and offerings."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state.columns import EnumText, numbered
from systemvm.management.state.schema.base import table
from systemvm.management.state.status import GuestNetworkState, GuestType

pods = table(
    "pods",
    *numbered(),
    sa.Column("zone_id", sa.ForeignKey("zones.id"), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("cidr", sa.String(64), nullable=False),  # of its management network
    sa.Column("gateway", sa.String(64)),
    sa.Column("allocation_state", sa.String(20), nullable=False, default="Enabled", server_default="Enabled"),
)

clusters = table(
    "clusters",
    *numbered(),
    sa.Column("zone_id", sa.ForeignKey("zones.id"), nullable=False, index=True),
    sa.Column("pod_id", sa.ForeignKey("pods.id"), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("hypervisor", sa.String(20), nullable=False),
    sa.Column("arch", sa.String(16)),
    sa.Column("allocation_state", sa.String(20), nullable=False, default="Enabled", server_default="Enabled"),
)

physical_networks = table(
    "physical_networks",
    *numbered(),
    sa.Column("zone_id", sa.ForeignKey("zones.id"), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("state", sa.String(20), nullable=False, default="Enabled", server_default="Enabled"),
    sa.Column("vnet", sa.String(1024)),  # VLANs of networks of accounts, such as 100-200,300
)

# A zone has at most one row for each traffic type; without a label it is the physical network's name.
traffic_types = table(
    "traffic_types",
    *numbered(),
    sa.Column("physical_network_id", sa.ForeignKey("physical_networks.id"), nullable=False, index=True),
    sa.Column("traffic_type", sa.String(20), nullable=False),
    sa.Column("kvm_label", sa.String(255)),
    sa.Column("xen_label", sa.String(255)),
    sa.Column("vmware_label", sa.String(255)),
)

address_ranges = table(
    "address_ranges",
    *numbered(),
    sa.Column("zone_id", sa.ForeignKey("zones.id"), nullable=False, index=True),
    sa.Column("pod_id", sa.ForeignKey("pods.id"), index=True),  # of management and storage ranges
    sa.Column("traffic_type", sa.String(20), nullable=False),
    sa.Column("vlan", sa.Integer),  # NULL: untagged
    sa.Column("cidr", sa.String(64), nullable=False),
    sa.Column("gateway", sa.String(64)),
    sa.Column("first", sa.String(64)),  # NULL on networks where the daemon assigns no address
    sa.Column("last", sa.String(64)),
    # IPv6 in addition: each address of the range has one here, with the IPv4 address as the last 32 bits.
    sa.Column("cidr6", sa.String(64)),
    sa.Column("gateway6", sa.String(64)),
    sa.Column("for_system_vms", sa.Boolean, nullable=False, default=True, server_default=sa.true()),
    sa.Column("guest_network_id", sa.Integer),  # NULL: of the zone's own guest network, or of other traffic
)

guest_networks = table(
    "guest_networks",
    *numbered(),
    sa.Column("zone_id", sa.ForeignKey("zones.id"), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("display_text", sa.String(4096), nullable=False),
    sa.Column("network_domain", sa.String(255)),
    sa.Column(
        "guest_type",
        EnumText(GuestType),
        nullable=False,
        default=GuestType.SHARED,
        server_default=GuestType.SHARED.value,
    ),
    sa.Column("account_id", sa.Integer),  # the owner; NULL: it is shared
    sa.Column(
        "state",
        EnumText(GuestNetworkState),
        nullable=False,
        default=GuestNetworkState.SETUP,
        server_default=GuestNetworkState.SETUP.value,
    ),
    sa.Column("vlan", sa.Integer),  # NULL: untagged, or one of an account on which no VM runs
)

storage_pools = table(
    "storage_pools",
    *numbered(),
    sa.Column("zone_id", sa.ForeignKey("zones.id"), nullable=False, index=True),
    sa.Column("pod_id", sa.ForeignKey("pods.id"), index=True),  # NULL: of scope ZONE
    sa.Column("cluster_id", sa.ForeignKey("clusters.id"), index=True),
    sa.Column("host_id", sa.ForeignKey("hosts.id"), index=True),  # of scope HOST only
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("scope", sa.String(20), nullable=False),
    sa.Column("type", sa.String(40), nullable=False),
    sa.Column("server", sa.String(255)),  # of an NFS export
    sa.Column("path", sa.String(4096), nullable=False),
    sa.Column("state", sa.String(40), nullable=False, default="Up", server_default="Up"),
    sa.Column("tags", sa.String(1024), nullable=False, default="", server_default=""),
)

service_offerings = table(
    "service_offerings",
    *numbered(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("display_text", sa.String(4096), nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("cpu_mhz", sa.Integer, nullable=False),
    sa.Column("memory_mib", sa.Integer, nullable=False),
    sa.Column("storage_type", sa.String(20), nullable=False, default="local", server_default="local"),
    sa.Column("provisioning_type", sa.String(20), nullable=False, default="thin", server_default="thin"),
    sa.Column("tags", sa.String(1024), nullable=False, default="", server_default=""),  # of pools
)

disk_offerings = table(
    "disk_offerings",
    *numbered(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("display_text", sa.String(4096), nullable=False),
    sa.Column("size_gib", sa.Integer),  # NULL: each volume's own
    sa.Column("storage_type", sa.String(20), nullable=False, default="local", server_default="local"),
    sa.Column("provisioning_type", sa.String(20), nullable=False, default="thin", server_default="thin"),
    sa.Column("tags", sa.String(1024), nullable=False, default="", server_default=""),  # of pools
)
