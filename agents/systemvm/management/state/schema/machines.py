# SPDX-License-Identifier: Apache-2.0
"""Tables of virtual machines, their NICs, addresses and volumes."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state.columns import EnumText, UtcDateTime, new_uuid, now, numbered, user_visible
from systemvm.management.state.schema.base import table
from systemvm.management.state.status import (
    AgentState,
    BootType,
    InstanceState,
    InstanceType,
    Provisioning,
    VolumeState,
)

vm_instances = table(
    "vm_instances",
    *user_visible(),
    # Set when the row has its number: s-1-VM, v-2-VM, i-2-3-VM.
    sa.Column("instance_name", sa.String(64), unique=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),  # its host name
    sa.Column("display_name", sa.String(255)),  # for people, if it differs from the name
    sa.Column("type", EnumText(InstanceType), nullable=False, index=True),
    sa.Column("state", EnumText(InstanceState), nullable=False, default=InstanceState.STOPPED),
    # Whether the owner wants it to run: true after deploy or start, false after stop. True for system VMs.
    sa.Column("wanted", sa.Boolean, nullable=False, default=True),
    sa.Column("reason", sa.Text),  # why it is not in the state that was asked for
    sa.Column("hint", sa.Text),
    # Whether its machine ended without a request, and was not started again since.
    sa.Column("ended_by_itself", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("host_id", sa.ForeignKey("hosts.id")),
    sa.Column("template_id", sa.ForeignKey("templates.id")),
    sa.Column("iso_id", sa.ForeignKey("templates.id")),
    sa.Column("hypervisor", sa.String(20), nullable=False, default="KVM"),
    sa.Column("vcpus", sa.Integer, nullable=False, default=1),
    sa.Column("memory_mib", sa.Integer, nullable=False, default=512),
    sa.Column("boot_type", EnumText(BootType), nullable=False, default=BootType.BIOS, server_default="BIOS"),
    sa.Column("keyboard", sa.String(10)),  # the layout of its guest, by CloudStack's name
    sa.Column("details", sa.JSON, nullable=False, default=dict, server_default="{}"),  # its owner's, as text
    sa.Column("vnc_address", sa.String(64)),
    sa.Column("vnc_port", sa.Integer),
    sa.Column("sealed_vnc_password", sa.LargeBinary),
    sa.Column("vnc_ca_pem", sa.Text),  # verifies its VNC server's certificate; null: it has no TLS
    sa.Column("serial_port", sa.Integer),  # the TCP port that its serial port is at, on vnc_address
    sa.Column("serial_fingerprint", sa.String(64)),  # of the certificate there
    sa.Column("agent_state", EnumText(AgentState)),
    sa.Column("agent_reason", sa.Text),
    sa.Column("agent_hint", sa.Text),
    sa.Column("agent_version", sa.String(64)),
    sa.Column("image_version", sa.String(64)),
    sa.Column("image_sha256", sa.String(64)),  # of the image directory its disk is a clone of
    sa.Column("boot_id", sa.String(64)),
    sa.Column("host_keys", sa.JSON, nullable=False, default=list),
    sa.Column(
        "console_sessions", sa.Integer, nullable=False, default=0
    ),  # a CPVM's load, as it last reported it
    sa.Column("drain_until", UtcDateTime),  # a CPVM that takes no new session keeps its own until then
    sa.Column("started", UtcDateTime),
    sa.Column("disconnected", UtcDateTime),
    sa.Column("expunge_at", UtcDateTime, index=True),  # of a destroyed VM: when its disk can be deleted
    sa.Column("host_reference", sa.String(255)),  # by which a host that no daemon drives names it
    sa.Column("updated", UtcDateTime, nullable=False, default=now, onupdate=now),
    sa.Index(None, "account_id"),
    # Has all that the load of hosts is summed from, so that no row of a VM is read.
    sa.Index("ix_vm_instances_load", "host_id", "removed", "state", "vcpus", "memory_mib"),
    sa.Index("ix_vm_instances_type_lower_name", "type", sa.text("lower(name)")),  # lists are ordered by it
)

# Apart from the VMs, so that no list of these reads it.
machine_data = table(
    "machine_data",
    *numbered(),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), nullable=False, unique=True),
    sa.Column("user_data", sa.LargeBinary, nullable=False),
)

# The password of a VM whose template takes one: sealed until its guest has it, then only when that was.
machine_passwords = table(
    "machine_passwords",
    *numbered(),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), nullable=False, unique=True),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("taken", UtcDateTime),
)

nics = table(
    "nics",
    *numbered(),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), nullable=False, index=True),
    sa.Column("device", sa.Integer, nullable=False),  # the N of ethN
    sa.Column("traffic_type", sa.String(20), nullable=False),
    sa.Column("bridge", sa.String(15), nullable=False),
    sa.Column("vlan", sa.Integer),  # of its port of the bridge; NULL: untagged
    sa.Column("mac", sa.String(17), nullable=False),
    sa.Column("address", sa.String(64)),
    sa.Column("netmask", sa.String(64)),
    sa.Column("gateway", sa.String(64)),
    sa.Column("address6", sa.String(64)),  # with its prefix length
    sa.Column("gateway6", sa.String(64)),
    sa.Column("guest_network_id", sa.Integer),  # NULL: the zone's own guest network, or other traffic
)

# One row per address in use; a released address has no row, so that the pair stays unique.
ip_addresses = table(
    "ip_addresses",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True, default=new_uuid),
    sa.Column("zone_id", sa.ForeignKey("zones.id"), nullable=False),
    sa.Column("traffic_type", sa.String(20), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), nullable=False, index=True),
    sa.Column("created", UtcDateTime, nullable=False, default=now),
    sa.UniqueConstraint("zone_id", "traffic_type", "address"),
)

volumes = table(
    "volumes",
    *user_visible(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("type", sa.String(20), nullable=False, default="ROOT"),
    sa.Column("state", EnumText(VolumeState), nullable=False, default=VolumeState.ALLOCATED, index=True),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), index=True),
    sa.Column("template_id", sa.ForeignKey("templates.id")),
    sa.Column("host_id", sa.ForeignKey("hosts.id")),
    sa.Column("pool_id", sa.Integer, index=True),  # of storage_pools; NULL: the host's own directory
    sa.Column("path", sa.String(4096)),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("device_id", sa.Integer),  # of a data disk on its VM
    sa.Column("attached", UtcDateTime),  # since when it has been its VM's
    sa.Column("disk_offering_id", sa.Integer),  # of a data volume that was created by one
    sa.Column(
        "provisioning",
        EnumText(Provisioning),
        nullable=False,
        default=Provisioning.THIN,
        server_default=Provisioning.THIN.value,
    ),
    sa.Index(None, "account_id"),
)
