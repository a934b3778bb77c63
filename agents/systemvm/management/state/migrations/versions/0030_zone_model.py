# SPDX-License-Identifier: Apache-2.0
"""What a zone consists of, as rows; those of zones' files are imported at the daemon's next start."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from systemvm.management.state.columns import UtcDateTime

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def _text(name: str, length: int, default: str | None = None, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable, server_default=default)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _create(name: str, *columns: sa.Column[Any], references: tuple[str, ...] = ()) -> None:
    """Create a table; `references` are columns like pod_id, each with a foreign key and an index."""
    op.create_table(
        name,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("removed", UtcDateTime(), nullable=True),
        *columns,
        *(
            sa.ForeignKeyConstraint(
                [column], [f"{column.removesuffix('_id')}s.id"], name=op.f(f"fk_{name}_{column}")
            )
            for column in references
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
        sa.UniqueConstraint("uuid", name=op.f(f"uq_{name}_uuid")),
        sqlite_autoincrement=True,
    )
    for column in references:
        op.create_index(op.f(f"ix_{name}_{column}"), name, [column])


def _places() -> None:
    _create(
        "pods",
        _number("zone_id"),
        _text("name", 255),
        _text("cidr", 64),
        _text("gateway", 64, nullable=True),
        _text("allocation_state", 20, "Enabled"),
        references=("zone_id",),
    )
    _create(
        "clusters",
        _number("zone_id"),
        _number("pod_id"),
        _text("name", 255),
        _text("hypervisor", 20),
        _text("arch", 16, nullable=True),
        _text("allocation_state", 20, "Enabled"),
        references=("zone_id", "pod_id"),
    )


def _networks() -> None:
    _create(
        "physical_networks",
        _number("zone_id"),
        _text("name", 255),
        _text("state", 20, "Enabled"),
        references=("zone_id",),
    )
    _create(
        "traffic_types",
        _number("physical_network_id"),
        _text("traffic_type", 20),
        _text("kvm_label", 255, nullable=True),
        _text("xen_label", 255, nullable=True),
        _text("vmware_label", 255, nullable=True),
        references=("physical_network_id",),
    )
    _create(
        "address_ranges",
        _number("zone_id"),
        _number("pod_id", nullable=True),
        _text("traffic_type", 20),
        _number("vlan", nullable=True),
        _text("cidr", 64),
        _text("gateway", 64, nullable=True),
        _text("first", 64, nullable=True),
        _text("last", 64, nullable=True),
        _text("cidr6", 64, nullable=True),
        _text("gateway6", 64, nullable=True),
        sa.Column("for_system_vms", sa.Boolean(), nullable=False, server_default=sa.true()),
        references=("zone_id", "pod_id"),
    )


def _storage() -> None:
    _create(
        "storage_pools",
        _number("zone_id"),
        _number("pod_id", nullable=True),
        _number("cluster_id", nullable=True),
        _number("host_id", nullable=True),
        _text("name", 255),
        _text("scope", 20),
        _text("type", 40),
        _text("server", 255, nullable=True),
        _text("path", 4096),
        _text("state", 40, "Up"),
        _text("tags", 1024, ""),
        references=("zone_id", "pod_id", "cluster_id", "host_id"),
    )


def _offerings() -> None:
    disk = (_text("storage_type", 20, "local"), _text("provisioning_type", 20, "thin"))
    _create(
        "service_offerings",
        _text("name", 255),
        _text("display_text", 4096),
        _number("vcpus"),
        _number("cpu_mhz"),
        _number("memory_mib"),
        *disk,
    )
    disk = (_text("storage_type", 20, "local"), _text("provisioning_type", 20, "thin"))
    _create(
        "disk_offerings",
        _text("name", 255),
        _text("display_text", 4096),
        _number("size_gib", nullable=True),
        *disk,
    )


def upgrade() -> None:
    _places()
    _networks()
    _storage()
    _offerings()
    op.add_column("zones", sa.Column("dns6", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("zones", _text("network_domain", 255, nullable=True))
    op.add_column("zones", _text("origin", 10, "file"))
    op.add_column("zones", sa.Column("imported", UtcDateTime(), nullable=True))
    op.add_column("hosts", _number("cluster_id", nullable=True))
    op.add_column("nics", _text("address6", 64, nullable=True))
    op.add_column("nics", _text("gateway6", 64, nullable=True))


def downgrade() -> None:
    for column in ("gateway6", "address6"):
        op.drop_column("nics", column)
    op.drop_column("hosts", "cluster_id")
    for column in ("imported", "origin", "network_domain", "dns6"):
        op.drop_column("zones", column)
    for name in (
        *("disk_offerings", "service_offerings", "storage_pools", "address_ranges", "traffic_types"),
        *("physical_networks", "clusters", "pods"),
    ):
        op.drop_table(name)
