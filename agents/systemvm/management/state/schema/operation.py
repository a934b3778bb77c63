# SPDX-License-Identifier: Apache-2.0
"""Tables of jobs, events, keys and certificates."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state.columns import UtcDateTime, numbered, user_visible
from systemvm.management.state.schema.base import table
from systemvm.management.state.status import JobStatus

async_jobs = table(
    "async_jobs",
    *user_visible(),
    sa.Column("user_id", sa.ForeignKey("users.id")),
    sa.Column("command", sa.String(255), nullable=False),  # the API command, e.g. stopSystemVm
    sa.Column("arguments", sa.JSON, nullable=False, default=dict),
    sa.Column("status", sa.Integer, nullable=False, default=JobStatus.PENDING, index=True),
    sa.Column("progress", sa.Integer, nullable=False, default=0),
    sa.Column("progress_text", sa.Text),
    sa.Column("result_code", sa.Integer, nullable=False, default=0),
    sa.Column("result", sa.JSON),
    sa.Column("instance_type", sa.String(40)),
    sa.Column("instance_uuid", sa.String(36)),
    sa.Column("request_id", sa.String(64), nullable=False, default=""),
    sa.Column("host_id", sa.ForeignKey("hosts.id")),
    sa.Column("completed", UtcDateTime),
    # of the VM that it is about, until its caller has been given it
    sa.Column("sealed_password", sa.LargeBinary),
    sa.Index(None, "account_id"),
    sa.Index(None, "created"),
)

# Keys of the daemon itself, sealed with a key that is in no database.
secrets = table(
    "secrets",
    *numbered(),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)

# Certificates of the control CA. A revoked one is rejected from the moment that it is marked.
certificates = table(
    "certificates",
    *numbered(),
    sa.Column("serial", sa.String(40), nullable=False, unique=True),  # hexadecimal
    sa.Column("name", sa.String(64), nullable=False, index=True),  # a VM's, or the daemon's host
    sa.Column("kind", sa.String(16), nullable=False),  # bootstrap, agent or daemon
    sa.Column("authority_key_id", sa.String(40), nullable=False),
    sa.Column("not_before", UtcDateTime, nullable=False),
    sa.Column("not_after", UtcDateTime, nullable=False),
    sa.Column("revoked", UtcDateTime),
    sa.Column("reason", sa.Text),
)

# Certificates for the public side of system VMs, and the parts of chains that operators send before.
public_certificates = table(
    "public_certificates",
    *numbered(),
    sa.Column("name", sa.String(255), nullable=False),  # of a part of a chain; else CloudStack's own
    sa.Column("domain_suffix", sa.String(255), nullable=False, index=True),
    sa.Column("sequence", sa.Integer),  # only of a part of a chain
    sa.Column("source", sa.String(16), nullable=False),  # upload, acme or chain
    sa.Column("pem", sa.Text, nullable=False),  # leaf first
    sa.Column("root_pem", sa.Text),  # NULL: a root that everybody knows
    # Encrypted and not hashed: system VMs need the key itself.
    sa.Column("sealed_key", sa.LargeBinary),
    sa.Column("not_after", UtcDateTime, nullable=False),
    sa.Column("warned", UtcDateTime),  # when its end was last reported
)

events = table(
    "events",
    *user_visible(),
    sa.Column("user_id", sa.ForeignKey("users.id")),
    sa.Column("type", sa.String(64), nullable=False),  # TEMPLATE.CREATE, SSVM.START, …
    sa.Column("level", sa.String(10), nullable=False, default="INFO"),
    sa.Column("state", sa.String(20), nullable=False, default="Completed"),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("resource_type", sa.String(40)),
    sa.Column("resource_uuid", sa.String(36), index=True),
    sa.Column("job_uuid", sa.String(36)),
    sa.Column("request_id", sa.String(64)),
    sa.Column("archived", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    # deleted, apart from the alert that it is
    sa.Column("only_alert", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Index(None, "created"),
    sa.Index(None, "account_id", "created"),
    sa.Index(None, "level", "created"),
    sa.Index(None, "type", "created"),  # alerts are a few types of many events
)

# How far alerts were delivered by a way out; those after the event wait.
alert_deliveries = table(
    "alert_deliveries",
    *numbered(),
    sa.Column("way", sa.String(16), nullable=False, unique=True),  # email or webhook
    sa.Column("event_id", sa.Integer, nullable=False),
    sa.Column("next_try", UtcDateTime, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("reason", sa.Text),
    sa.Column("hint", sa.Text),
    sa.Column("succeeded", UtcDateTime),
)

# Tags of objects, by the object's UUID. One that is deleted leaves no row: its key can be used again.
resource_tags = table(
    "resource_tags",
    *numbered(),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False, index=True),  # the object's owner
    sa.Column("resource_type", sa.String(40), nullable=False),  # CloudStack's: UserVm, Template, …
    sa.Column("resource_uuid", sa.String(36), nullable=False),
    sa.Column("key", sa.String(255), nullable=False),
    sa.Column("value", sa.String(255), nullable=False),
    sa.UniqueConstraint("resource_uuid", "key"),
)

# What users and administrators write about objects, by the object's UUID.
entity_annotations = table(
    "entity_annotations",
    *numbered(),
    sa.Column("entity_type", sa.String(40), nullable=False),  # CloudStack's: VM, TEMPLATE, HOST, …
    sa.Column("entity_uuid", sa.String(36), nullable=False, index=True),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), index=True),  # the object's owner, if it has one
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),  # who wrote it
    sa.Column("annotation", sa.Text, nullable=False),
    sa.Column("admins_only", sa.Boolean, nullable=False, default=False),
)
