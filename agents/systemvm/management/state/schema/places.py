# SPDX-License-Identifier: Apache-2.0
"""Tables of zones, their hosts and secondary storage, and settings."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state.columns import UtcDateTime, now, numbered, user_visible
from systemvm.management.state.schema.base import table

zones = table(
    "zones",
    *numbered(),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False, default=1),
    sa.Column("domain_id", sa.ForeignKey("domains.id"), nullable=False, default=1),
    sa.Column("arch", sa.String(16)),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("description", sa.String(255), nullable=False, default=""),
    sa.Column("network_type", sa.String(20), nullable=False, default="Advanced"),
    sa.Column("allocation_state", sa.String(20), nullable=False, default="Enabled"),
    sa.Column("dns", sa.JSON, nullable=False, default=list),
    sa.Column("internal_dns", sa.JSON, nullable=False, default=list),
    sa.Column("dns6", sa.JSON, nullable=False, default=list, server_default="[]"),
    sa.Column("network_domain", sa.String(255)),  # names of the public CA are below it
    # Where its settings are: "file" for a zone's file, "api" for a zone of createZone.
    sa.Column("origin", sa.String(10), nullable=False, default="file", server_default="file"),
    sa.Column("imported", UtcDateTime),  # when its file's networks became rows
)

hosts = table(
    "hosts",
    *user_visible(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("hypervisor", sa.String(20), nullable=False, default="KVM"),
    sa.Column("address", sa.String(64)),
    sa.Column("state", sa.String(20), nullable=False, default="Up"),
    sa.Column("version", sa.String(40)),
    sa.Column("last_seen", UtcDateTime),
    sa.Column("cluster_id", sa.Integer),  # no foreign key: SQLite adds none
    sa.Column("cpus", sa.Integer),  # what its daemon found at its start; NULL: no daemon runs there
    sa.Column("memory_mib", sa.Integer),
    sa.Column("has_uefi", sa.Boolean),  # whether its VMs can boot by UEFI
)

# Apart from the hosts, so that no list of these reads a password.
foreign_hosts = table(
    "foreign_hosts",
    *numbered(),
    sa.Column("host_id", sa.ForeignKey("hosts.id"), nullable=False, unique=True),
    sa.Column("url", sa.String(2048), nullable=False),  # of its API: https://HOST[:PORT]
    sa.Column("username", sa.String(255), nullable=False),
    sa.Column("sealed_password", sa.LargeBinary, nullable=False),
    sa.Column("ca_pem", sa.Text),  # verifies it; NULL: the fingerprint does
    sa.Column("fingerprint", sa.String(64), nullable=False, default=""),
    sa.Column("addresses", sa.JSON, nullable=False, default=list),  # of consoles
    sa.Column("reason", sa.Text),  # why it is not Up
    sa.Column("hint", sa.Text),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("due", UtcDateTime, nullable=False, default=now, index=True),
)

image_stores = table(
    "image_stores",
    *user_visible(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("url", sa.String(2048), nullable=False),  # nfs://10.12.0.2/export or https://s3.example/bucket
    sa.Column("host_path", sa.String(4096)),  # where this host reads the same directory
    sa.Column("nfs_version", sa.String(8), nullable=False, default="4.2"),
    sa.Column("read_only", sa.Boolean, nullable=False, default=False),
    sa.Column("capacity_bytes", sa.BigInteger),
    sa.Column("used_bytes", sa.BigInteger),
    sa.Column("provider", sa.String(40), nullable=False, default="NFS", server_default="NFS"),
    # What owns the row: "file" for the zone's file, "api" for addImageStore.
    sa.Column("origin", sa.String(10), nullable=False, default="file", server_default="file"),
    sa.Column("mount_options", sa.String(1024), nullable=False, default="", server_default=""),
    sa.Column("retiring", UtcDateTime),  # since when its content moves to other stores
    sa.Column("role", sa.String(20), nullable=False, default="Image", server_default="Image"),
)

# Apart from the stores, so that no list of these reads a key.
store_buckets = table(
    "store_buckets",
    *numbered(),
    sa.Column("store_id", sa.ForeignKey("image_stores.id"), nullable=False, unique=True),
    sa.Column("access_key", sa.String(255), nullable=False),
    sa.Column("sealed_secret", sa.LargeBinary, nullable=False),
    sa.Column("region", sa.String(64), nullable=False),
    sa.Column("ca_pem", sa.Text),
    sa.Column("capacity_bytes", sa.BigInteger),  # NULL: as much as it takes
    sa.Column("has_public_links", sa.Boolean, nullable=False),
)

# Settings that the API changes: a zone's own value, or that of all zones without one.
configurations = table(
    "configurations",
    *numbered(),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("zone_id", sa.ForeignKey("zones.id")),
    sa.Column("value", sa.String(1024), nullable=False),
)
