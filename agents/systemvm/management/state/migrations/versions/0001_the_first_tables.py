# SPDX-License-Identifier: Apache-2.0
"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "domains",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["parent_id"], ["domains.id"], name="fk_domains_parent_id"),
        sa.PrimaryKeyConstraint("id", name="pk_domains"),
        sa.UniqueConstraint("path", name="uq_domains_path"),
        sa.UniqueConstraint("uuid", name="uq_domains_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_accounts_domain_id"),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("uuid", name="uq_accounts_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("username", sa.String(length=255), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("first_name", sa.String(length=255), nullable=False),
        sa.Column("last_name", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_users_account_id"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_users_domain_id"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("uuid", name="uq_users_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "zones",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("arch", sa.String(length=16), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("network_type", sa.String(length=20), nullable=False),
        sa.Column("allocation_state", sa.String(length=20), nullable=False),
        sa.Column("dns", sa.JSON(), nullable=False),
        sa.Column("internal_dns", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_zones_account_id"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_zones_domain_id"),
        sa.PrimaryKeyConstraint("id", name="pk_zones"),
        sa.UniqueConstraint("name", name="uq_zones_name"),
        sa.UniqueConstraint("uuid", name="uq_zones_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("api_key", sa.String(length=255), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_keys_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("api_key", name="uq_api_keys_api_key"),
        sa.UniqueConstraint("uuid", name="uq_api_keys_uuid"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.create_index("ix_api_keys_user_id", ["user_id"], unique=False)

    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("arch", sa.String(length=16), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("level", sa.String(length=10), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("resource_type", sa.String(length=40), nullable=True),
        sa.Column("resource_uuid", sa.String(length=36), nullable=True),
        sa.Column("job_uuid", sa.String(length=36), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_events_account_id"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_events_domain_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_events_user_id"),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name="fk_events_zone_id"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.UniqueConstraint("uuid", name="uq_events_uuid"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index("ix_events_resource_uuid", ["resource_uuid"], unique=False)

    op.create_table(
        "hosts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("arch", sa.String(length=16), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("hypervisor", sa.String(length=20), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("version", sa.String(length=40), nullable=True),
        sa.Column("last_seen", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_hosts_account_id"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_hosts_domain_id"),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name="fk_hosts_zone_id"),
        sa.PrimaryKeyConstraint("id", name="pk_hosts"),
        sa.UniqueConstraint("uuid", name="uq_hosts_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "image_stores",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("arch", sa.String(length=16), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("host_path", sa.String(length=4096), nullable=True),
        sa.Column("nfs_version", sa.String(length=8), nullable=False),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("capacity_bytes", sa.BigInteger(), nullable=True),
        sa.Column("used_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_image_stores_account_id"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_image_stores_domain_id"),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name="fk_image_stores_zone_id"),
        sa.PrimaryKeyConstraint("id", name="pk_image_stores"),
        sa.UniqueConstraint("uuid", name="uq_image_stores_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("cookie_hash", sa.String(length=64), nullable=False),
        sa.Column("session_key_hash", sa.String(length=64), nullable=False),
        sa.Column("client_address", sa.String(length=64), nullable=True),
        sa.Column("last_used", sa.DateTime(), nullable=False),
        sa.Column("expires", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("cookie_hash", name="uq_sessions_cookie_hash"),
        sa.UniqueConstraint("uuid", name="uq_sessions_uuid"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index("ix_sessions_user_id", ["user_id"], unique=False)

    op.create_table(
        "templates",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("arch", sa.String(length=16), nullable=True),
        sa.Column("unique_name", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("display_text", sa.String(length=4096), nullable=False),
        sa.Column("format", sa.String(length=40), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=True),
        sa.Column("checksum", sa.String(length=255), nullable=True),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("hypervisor", sa.String(length=20), nullable=False),
        sa.Column("os_type", sa.String(length=255), nullable=True),
        sa.Column("bootable", sa.Boolean(), nullable=False),
        sa.Column("featured", sa.Boolean(), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("extractable", sa.Boolean(), nullable=False),
        sa.Column("hvm", sa.Boolean(), nullable=False),
        sa.Column("password_enabled", sa.Boolean(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_templates_account_id"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_templates_domain_id"),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name="fk_templates_zone_id"),
        sa.PrimaryKeyConstraint("id", name="pk_templates"),
        sa.UniqueConstraint("unique_name", name="uq_templates_unique_name"),
        sa.UniqueConstraint("uuid", name="uq_templates_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "async_jobs",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("arch", sa.String(length=16), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("command", sa.String(length=255), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("progress_text", sa.Text(), nullable=True),
        sa.Column("result_code", sa.Integer(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("instance_type", sa.String(length=40), nullable=True),
        sa.Column("instance_uuid", sa.String(length=36), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("host_id", sa.Integer(), nullable=True),
        sa.Column("completed", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_async_jobs_account_id"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_async_jobs_domain_id"),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_async_jobs_host_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_async_jobs_user_id"),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name="fk_async_jobs_zone_id"),
        sa.PrimaryKeyConstraint("id", name="pk_async_jobs"),
        sa.UniqueConstraint("uuid", name="uq_async_jobs_uuid"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("async_jobs", schema=None) as batch_op:
        batch_op.create_index("ix_async_jobs_status", ["status"], unique=False)

    op.create_table(
        "template_spool_refs",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("template_id", sa.Integer(), nullable=False),
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("path", sa.String(length=4096), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_template_spool_refs_host_id"),
        sa.ForeignKeyConstraint(["template_id"], ["templates.id"], name="fk_template_spool_refs_template_id"),
        sa.PrimaryKeyConstraint("id", name="pk_template_spool_refs"),
        sa.UniqueConstraint("uuid", name="uq_template_spool_refs_uuid"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("template_spool_refs", schema=None) as batch_op:
        batch_op.create_index("ix_template_spool_refs_template_id", ["template_id"], unique=False)

    op.create_table(
        "template_store_refs",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("template_id", sa.Integer(), nullable=False),
        sa.Column("store_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("agent_name", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("received_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.Column("error_hint", sa.Text(), nullable=True),
        sa.Column("install_path", sa.String(length=1024), nullable=True),
        sa.Column("physical_size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("virtual_size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("checksum", sa.String(length=255), nullable=True),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["store_id"], ["image_stores.id"], name="fk_template_store_refs_store_id"),
        sa.ForeignKeyConstraint(["template_id"], ["templates.id"], name="fk_template_store_refs_template_id"),
        sa.PrimaryKeyConstraint("id", name="pk_template_store_refs"),
        sa.UniqueConstraint("job_id", name="uq_template_store_refs_job_id"),
        sa.UniqueConstraint("uuid", name="uq_template_store_refs_uuid"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("template_store_refs", schema=None) as batch_op:
        batch_op.create_index("ix_template_store_refs_template_id", ["template_id"], unique=False)

    op.create_table(
        "vm_instances",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("arch", sa.String(length=16), nullable=True),
        sa.Column("instance_name", sa.String(length=64), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("hint", sa.Text(), nullable=True),
        sa.Column("host_id", sa.Integer(), nullable=True),
        sa.Column("template_id", sa.Integer(), nullable=True),
        sa.Column("iso_id", sa.Integer(), nullable=True),
        sa.Column("hypervisor", sa.String(length=20), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("vnc_address", sa.String(length=64), nullable=True),
        sa.Column("vnc_port", sa.Integer(), nullable=True),
        sa.Column("sealed_vnc_password", sa.LargeBinary(), nullable=True),
        sa.Column("agent_state", sa.String(length=40), nullable=True),
        sa.Column("agent_reason", sa.Text(), nullable=True),
        sa.Column("agent_hint", sa.Text(), nullable=True),
        sa.Column("agent_version", sa.String(length=64), nullable=True),
        sa.Column("image_version", sa.String(length=64), nullable=True),
        sa.Column("image_sha256", sa.String(length=64), nullable=True),
        sa.Column("boot_id", sa.String(length=64), nullable=True),
        sa.Column("host_keys", sa.JSON(), nullable=False),
        sa.Column("console_sessions", sa.Integer(), nullable=False),
        sa.Column("started", sa.DateTime(), nullable=True),
        sa.Column("disconnected", sa.DateTime(), nullable=True),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_vm_instances_account_id"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_vm_instances_domain_id"),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_vm_instances_host_id"),
        sa.ForeignKeyConstraint(["iso_id"], ["templates.id"], name="fk_vm_instances_iso_id"),
        sa.ForeignKeyConstraint(["template_id"], ["templates.id"], name="fk_vm_instances_template_id"),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name="fk_vm_instances_zone_id"),
        sa.PrimaryKeyConstraint("id", name="pk_vm_instances"),
        sa.UniqueConstraint("instance_name", name="uq_vm_instances_instance_name"),
        sa.UniqueConstraint("uuid", name="uq_vm_instances_uuid"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("vm_instances", schema=None) as batch_op:
        batch_op.create_index("ix_vm_instances_type", ["type"], unique=False)

    op.create_table(
        "console_sessions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("arch", sa.String(length=16), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("vm_id", sa.Integer(), nullable=False),
        sa.Column("proxy_id", sa.Integer(), nullable=True),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("token_expires", sa.DateTime(), nullable=False),
        sa.Column("acquired", sa.DateTime(), nullable=True),
        sa.Column("session_expires", sa.DateTime(), nullable=True),
        sa.Column("creator_address", sa.String(length=64), nullable=True),
        sa.Column("client_address", sa.String(length=64), nullable=True),
        sa.Column("close_reason", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_console_sessions_account_id"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_console_sessions_domain_id"),
        sa.ForeignKeyConstraint(["proxy_id"], ["vm_instances.id"], name="fk_console_sessions_proxy_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_console_sessions_user_id"),
        sa.ForeignKeyConstraint(["vm_id"], ["vm_instances.id"], name="fk_console_sessions_vm_id"),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name="fk_console_sessions_zone_id"),
        sa.PrimaryKeyConstraint("id", name="pk_console_sessions"),
        sa.UniqueConstraint("token_hash", name="uq_console_sessions_token_hash"),
        sa.UniqueConstraint("uuid", name="uq_console_sessions_uuid"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("console_sessions", schema=None) as batch_op:
        batch_op.create_index("ix_console_sessions_vm_id", ["vm_id"], unique=False)

    op.create_table(
        "ip_addresses",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=False),
        sa.Column("traffic_type", sa.String(length=20), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("vm_id", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["vm_id"], ["vm_instances.id"], name="fk_ip_addresses_vm_id"),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name="fk_ip_addresses_zone_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ip_addresses"),
        sa.UniqueConstraint("uuid", name="uq_ip_addresses_uuid"),
        sa.UniqueConstraint(
            "zone_id", "traffic_type", "address", name="uq_ip_addresses_zone_id_traffic_type_address"
        ),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("ip_addresses", schema=None) as batch_op:
        batch_op.create_index("ix_ip_addresses_vm_id", ["vm_id"], unique=False)

    op.create_table(
        "nics",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("vm_id", sa.Integer(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("traffic_type", sa.String(length=20), nullable=False),
        sa.Column("bridge", sa.String(length=15), nullable=False),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("netmask", sa.String(length=64), nullable=True),
        sa.Column("gateway", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["vm_id"], ["vm_instances.id"], name="fk_nics_vm_id"),
        sa.PrimaryKeyConstraint("id", name="pk_nics"),
        sa.UniqueConstraint("uuid", name="uq_nics_uuid"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("nics", schema=None) as batch_op:
        batch_op.create_index("ix_nics_vm_id", ["vm_id"], unique=False)

    op.create_table(
        "volumes",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("arch", sa.String(length=16), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("vm_id", sa.Integer(), nullable=True),
        sa.Column("template_id", sa.Integer(), nullable=True),
        sa.Column("host_id", sa.Integer(), nullable=True),
        sa.Column("path", sa.String(length=4096), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_volumes_account_id"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name="fk_volumes_domain_id"),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_volumes_host_id"),
        sa.ForeignKeyConstraint(["template_id"], ["templates.id"], name="fk_volumes_template_id"),
        sa.ForeignKeyConstraint(["vm_id"], ["vm_instances.id"], name="fk_volumes_vm_id"),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name="fk_volumes_zone_id"),
        sa.PrimaryKeyConstraint("id", name="pk_volumes"),
        sa.UniqueConstraint("uuid", name="uq_volumes_uuid"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("volumes", schema=None) as batch_op:
        batch_op.create_index("ix_volumes_vm_id", ["vm_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("volumes", schema=None) as batch_op:
        batch_op.drop_index("ix_volumes_vm_id")

    op.drop_table("volumes")
    with op.batch_alter_table("nics", schema=None) as batch_op:
        batch_op.drop_index("ix_nics_vm_id")

    op.drop_table("nics")
    with op.batch_alter_table("ip_addresses", schema=None) as batch_op:
        batch_op.drop_index("ix_ip_addresses_vm_id")

    op.drop_table("ip_addresses")
    with op.batch_alter_table("console_sessions", schema=None) as batch_op:
        batch_op.drop_index("ix_console_sessions_vm_id")

    op.drop_table("console_sessions")
    with op.batch_alter_table("vm_instances", schema=None) as batch_op:
        batch_op.drop_index("ix_vm_instances_type")

    op.drop_table("vm_instances")
    with op.batch_alter_table("template_store_refs", schema=None) as batch_op:
        batch_op.drop_index("ix_template_store_refs_template_id")

    op.drop_table("template_store_refs")
    with op.batch_alter_table("template_spool_refs", schema=None) as batch_op:
        batch_op.drop_index("ix_template_spool_refs_template_id")

    op.drop_table("template_spool_refs")
    with op.batch_alter_table("async_jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_async_jobs_status")

    op.drop_table("async_jobs")
    op.drop_table("templates")
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_index("ix_sessions_user_id")

    op.drop_table("sessions")
    op.drop_table("image_stores")
    op.drop_table("hosts")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index("ix_events_resource_uuid")

    op.drop_table("events")
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.drop_index("ix_api_keys_user_id")

    op.drop_table("api_keys")
    op.drop_table("zones")
    op.drop_table("users")
    op.drop_table("accounts")
    op.drop_table("domains")
