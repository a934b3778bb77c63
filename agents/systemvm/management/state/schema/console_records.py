# SPDX-License-Identifier: Apache-2.0
"""Tables of console sessions and recordings."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state.columns import EnumText, UtcDateTime, now, numbered, user_visible
from systemvm.management.state.schema.base import table
from systemvm.management.state.status import RecordingMode, RecordingState
from systemvm.wire.console import ConsoleKind

console_sessions = table(
    "console_sessions",
    *user_visible(),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), nullable=False, index=True),
    sa.Column("proxy_id", sa.ForeignKey("vm_instances.id")),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("token_expires", UtcDateTime, nullable=False),
    sa.Column("acquired", UtcDateTime),  # when the token was spent
    sa.Column("session_expires", UtcDateTime),
    sa.Column("creator_address", sa.String(64)),
    sa.Column("client_address", sa.String(64)),
    sa.Column("close_reason", sa.String(255)),
    # UUID of the login that requested it; not a foreign key, because rows of ended logins are deleted.
    sa.Column("login_uuid", sa.String(36), index=True),
    sa.Column("extra_hash", sa.String(64)),  # of the additional secret that the browser must also present
    sa.Column("takes_over", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("close_code", sa.String(32)),  # why it ended, for programs
    sa.Column("sent_bytes", sa.BigInteger, nullable=False, server_default="0"),  # to the browser
    sa.Column("received_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("view_only", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("clipboard_to_guest", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("clipboard_from_guest", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column(
        "recording", EnumText(RecordingMode), nullable=False, default=RecordingMode.OFF, server_default="off"
    ),
    # the UUID of the session that it watches, for an administrator
    sa.Column("watches", sa.String(36), index=True),
    sa.Column("kind", EnumText(ConsoleKind), nullable=False, server_default=ConsoleKind.SCREEN.value),
    sa.Index(None, "user_id"),
    sa.Index(None, "removed"),  # few of them are open
)

console_recordings = table(
    "console_recordings",
    *user_visible(),
    sa.Column("session_id", sa.ForeignKey("console_sessions.id"), nullable=False, index=True),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), nullable=False, index=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("proxy_id", sa.ForeignKey("vm_instances.id"), nullable=False),
    sa.Column("store_id", sa.ForeignKey("image_stores.id"), nullable=False),
    sa.Column("state", EnumText(RecordingState), nullable=False, index=True),
    sa.Column("end_code", sa.String(32)),
    sa.Column("size_bytes", sa.BigInteger, nullable=False, default=0, server_default="0"),
    sa.Column("sealed_key", sa.LargeBinary),  # NULL: the file is not encrypted
    sa.Column("ended", UtcDateTime),
    sa.Column("updated", UtcDateTime, nullable=False, default=now, onupdate=now),
    sa.Index(None, "account_id"),
)

# Whose consoles are recorded, of VMs and accounts that do not follow the zone's settings.
console_recording_rules = table(
    "console_recording_rules",
    *numbered(),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), unique=True),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), unique=True),
    sa.Column("mode", EnumText(RecordingMode), nullable=False),
)
