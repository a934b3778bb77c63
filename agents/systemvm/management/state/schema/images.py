# SPDX-License-Identifier: Apache-2.0
"""Tables of templates and ISOs: where they come from, their copies and their links."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state.columns import EnumText, UtcDateTime, now, numbered, user_visible
from systemvm.management.state.schema.base import table
from systemvm.management.state.status import SpoolState
from systemvm.wire.storage import DownloadState, ImageFormat

templates = table(
    "templates",
    *user_visible(),
    sa.Column("unique_name", sa.String(255), nullable=False, unique=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("display_text", sa.String(4096), nullable=False, default=""),
    sa.Column("format", EnumText(ImageFormat), nullable=False, index=True),  # few are ISOs
    sa.Column("url", sa.String(2048)),
    sa.Column("checksum", sa.String(255)),  # as the user gave it, `{ALG}hex`
    sa.Column("type", sa.String(20), nullable=False, default="USER", index=True),
    sa.Column("hypervisor", sa.String(20), nullable=False, default="KVM"),
    sa.Column("os_type", sa.String(255)),  # an id of os_types.py; older rows have free text
    sa.Column("bootable", sa.Boolean, nullable=False, default=True),
    sa.Column("featured", sa.Boolean, nullable=False, default=False),
    sa.Column("public", sa.Boolean, nullable=False, default=False),
    sa.Column("extractable", sa.Boolean, nullable=False, default=False),
    sa.Column("hvm", sa.Boolean, nullable=False, default=True),
    sa.Column("password_enabled", sa.Boolean, nullable=False, default=False),
    sa.Column("details", sa.JSON, nullable=False, default=dict),
    sa.Index(None, "account_id"),
    sa.Index("ix_templates_lower_name", sa.text("lower(name)")),  # lists are ordered by it
)

# Apart from templates, so that no list of these reads a login.
template_sources = table(
    "template_sources",
    *numbered(),
    sa.Column("template_id", sa.ForeignKey("templates.id"), nullable=False, unique=True),
    sa.Column("username", sa.String(255)),
    sa.Column("sealed_password", sa.LargeBinary),
    sa.Column("signature_url", sa.String(2048)),
)

# CAs that downloads trust, in a zone or only for one template.
source_certificates = table(
    "source_certificates",
    *numbered(),
    sa.Column("zone_id", sa.ForeignKey("zones.id"), nullable=False, index=True),
    sa.Column("template_id", sa.ForeignKey("templates.id")),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("hypervisor", sa.String(20), nullable=False),
    sa.Column("pem", sa.Text, nullable=False),
)

#: Conditions of partial indexes; migrations 0009 and 0014 have the same.
WANTED = "removed IS NULL AND delete_requested IS NULL"
TO_DELETE = "delete_requested IS NOT NULL AND removed IS NULL"

template_store_refs = table(
    "template_store_refs",
    *numbered(),
    sa.Column("template_id", sa.ForeignKey("templates.id"), nullable=False, index=True),
    sa.Column("store_id", sa.ForeignKey("image_stores.id"), nullable=False),
    sa.Column("job_id", sa.String(36), nullable=False, unique=True),  # calls that repeat it join
    sa.Column("request_id", sa.String(128)),  # of the API's call; the SSVM's log names it too
    sa.Column("agent_name", sa.String(64)),  # the SSVM that works on it
    # When its template was deleted, and so its files must be. `removed` is set when they are.
    sa.Column("delete_requested", UtcDateTime),
    sa.Column("state", EnumText(DownloadState), nullable=False, default=DownloadState.NOT_DOWNLOADED),
    sa.Column("percent", sa.Integer, nullable=False, default=0),
    sa.Column("received_bytes", sa.BigInteger, nullable=False, default=0),
    sa.Column("total_bytes", sa.BigInteger),
    sa.Column("error_code", sa.String(64)),
    sa.Column("error_text", sa.Text),
    sa.Column("error_hint", sa.Text),
    sa.Column("install_path", sa.String(1024)),  # relative to the store
    sa.Column("physical_size_bytes", sa.BigInteger),
    sa.Column("virtual_size_bytes", sa.BigInteger),
    sa.Column("checksum", sa.String(255)),
    sa.Column("image_checksum", sa.String(255)),  # of the file on the store; `checksum` is of the URL's file
    sa.Column("source_ref_id", sa.Integer),  # the copy that it is copied from; NULL: from its URL
    sa.Column("copy_failures", sa.Integer, nullable=False, default=0, server_default="0"),
    # Of the upload that it comes from; NULL: from its URL or another copy. No foreign key: SQLite adds none.
    sa.Column("upload_id", sa.String(36)),
    sa.Column("reserved_bytes", sa.BigInteger),  # of its account's limit
    sa.Column("updated", UtcDateTime, nullable=False, default=now, onupdate=now),
    # The daemon looks for a few of many rows every few seconds: the index finds them without reading the
    # others.
    sa.Index(
        "ix_template_store_refs_wanted",
        "state",
        "agent_name",
        sqlite_where=sa.text(WANTED),
        postgresql_where=sa.text(WANTED),
    ),
    sa.Index(
        "ix_template_store_refs_checksum",
        "checksum",
        sqlite_where=sa.text(WANTED),
        postgresql_where=sa.text(WANTED),
    ),
    sa.Index(
        "ix_template_store_refs_to_delete",
        "delete_requested",
        sqlite_where=sa.text(TO_DELETE),
        postgresql_where=sa.text(TO_DELETE),
    ),
)

#: What a client sends a template to: the signed part of its parameters, without the signature.
template_uploads = table(
    "template_uploads",
    *numbered(),
    sa.Column("upload_id", sa.String(36), nullable=False, unique=True),  # in the URL's path
    sa.Column("post_url", sa.String(1024), nullable=False),
    sa.Column("metadata", sa.String(255), nullable=False),
    sa.Column("expires", UtcDateTime, nullable=False, index=True),
)

# CloudStack's launch permissions: accounts besides the owner that use a template that is not public.
template_permissions = table(
    "template_permissions",
    *numbered(),
    sa.Column("template_id", sa.ForeignKey("templates.id"), nullable=False, index=True),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False, index=True),
    sa.UniqueConstraint("template_id", "account_id"),
)

#: Templates that are made from a snapshot of a volume, instead of being downloaded.
snapshot_images = table(
    "snapshot_images",
    *numbered(),
    sa.Column("template_id", sa.ForeignKey("templates.id"), nullable=False, unique=True),
    sa.Column("snapshot_id", sa.ForeignKey("snapshots.id"), nullable=False, index=True),
)

template_spool_refs = table(
    "template_spool_refs",
    *numbered(),
    sa.Column("template_id", sa.ForeignKey("templates.id"), nullable=False, index=True),
    sa.Column("host_id", sa.ForeignKey("hosts.id"), nullable=False),  # that makes and deletes it
    sa.Column("pool_id", sa.Integer, index=True),  # of storage_pools; NULL: the host's own directory
    sa.Column("state", EnumText(SpoolState), nullable=False, default=SpoolState.NOT_COPIED),
    sa.Column("path", sa.String(4096)),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("error_text", sa.Text),
    sa.Column("updated", UtcDateTime, nullable=False, default=now, onupdate=now),
)

#: Links by which images are downloaded from SSVMs, until they expire.
extract_links = table(
    "extract_links",
    *user_visible(),
    sa.Column("template_id", sa.ForeignKey("templates.id"), nullable=False, index=True),
    sa.Column("secret", sa.String(36), nullable=False, unique=True),
    sa.Column("origin", sa.String(255), nullable=False),
    sa.Column("file_name", sa.String(255), nullable=False),
    sa.Column("expires", UtcDateTime, nullable=False, index=True),
)

# Links to any file of a store, which administrators make.
store_object_links = table(
    "store_object_links",
    *numbered(),
    sa.Column("store_id", sa.ForeignKey("image_stores.id"), nullable=False, index=True),
    sa.Column("path", sa.String(1024), nullable=False),
    sa.Column("secret", sa.String(36), nullable=False, unique=True),
    sa.Column("origin", sa.String(255), nullable=False),
    sa.Column("file_name", sa.String(255), nullable=False),
    sa.Column("expires", UtcDateTime, nullable=False, index=True),
)
