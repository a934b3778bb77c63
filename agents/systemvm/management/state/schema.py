# SPDX-License-Identifier: Apache-2.0
"""The tables. A change here needs a migration beside it; a test compares the two."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state.columns import EnumText, UtcDateTime, new_uuid, now, numbered, user_visible
from systemvm.management.state.status import (
    AccountType,
    AgentState,
    InstanceState,
    InstanceType,
    JobStatus,
    RecordingMode,
    RecordingState,
    SpoolState,
    VolumeState,
)
from systemvm.wire.console import ConsoleKind
from systemvm.wire.storage import DownloadState, ImageFormat

# Constraints have names, so that a migration can alter them on SQLite, too.
metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _table(name: str, *items: sa.schema.SchemaItem) -> sa.Table:
    # AUTOINCREMENT: a number, which is in a VM's name or in a path on a store, is never reused.
    return sa.Table(name, metadata, *items, sqlite_autoincrement=True)


domains = _table(
    "domains",
    *numbered(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("path", sa.String(255), nullable=False, unique=True),
    sa.Column("parent_id", sa.ForeignKey("domains.id")),
)

accounts = _table(
    "accounts",
    *numbered(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("type", sa.Integer, nullable=False, default=AccountType.USER),
    sa.Column("domain_id", sa.ForeignKey("domains.id"), nullable=False),
    sa.Column("state", sa.String(20), nullable=False, default="enabled"),
    sa.Column("max_secondary_storage_gib", sa.BigInteger),  # NULL: the zone's; -1: no limit
)

users = _table(
    "users",
    *numbered(),
    sa.Column("username", sa.String(255), nullable=False),
    sa.Column("password_hash", sa.String(255)),  # argon2id; NULL: this user cannot log in with a password
    sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("domain_id", sa.ForeignKey("domains.id"), nullable=False),
    sa.Column("first_name", sa.String(255), nullable=False, default=""),
    sa.Column("last_name", sa.String(255), nullable=False, default=""),
    sa.Column("email", sa.String(255), nullable=False, default="", server_default=""),
    sa.Column("state", sa.String(20), nullable=False, default="enabled"),
)

api_keys = _table(
    "api_keys",
    *numbered(),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("api_key", sa.String(255), nullable=False, unique=True),
    # Encrypted and not hashed: a signature can be verified only with the secret itself.
    sa.Column("sealed_secret", sa.LargeBinary, nullable=False),
)

sessions = _table(
    "sessions",
    *numbered(),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("cookie_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("session_key_hash", sa.String(64), nullable=False),
    sa.Column("client_address", sa.String(64)),
    sa.Column("last_used", UtcDateTime, nullable=False, default=now),
    sa.Column("expires", UtcDateTime, nullable=False),
)

# Sources, which are IPv4 addresses or IPv6 /64 networks, from which a user logged in with the right password.
login_sources = _table(
    "login_sources",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("last_login", UtcDateTime, nullable=False),
    sa.UniqueConstraint("user_id", "source"),
)

zones = _table(
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
)

hosts = _table(
    "hosts",
    *user_visible(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("hypervisor", sa.String(20), nullable=False, default="KVM"),
    sa.Column("address", sa.String(64)),
    sa.Column("state", sa.String(20), nullable=False, default="Up"),
    sa.Column("version", sa.String(40)),
    sa.Column("last_seen", UtcDateTime),
)

image_stores = _table(
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
store_buckets = _table(
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

templates = _table(
    "templates",
    *user_visible(),
    sa.Column("unique_name", sa.String(255), nullable=False, unique=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("display_text", sa.String(4096), nullable=False, default=""),
    sa.Column("format", EnumText(ImageFormat), nullable=False),
    sa.Column("url", sa.String(2048)),
    sa.Column("checksum", sa.String(255)),  # as the user gave it, `{ALG}hex`
    sa.Column("type", sa.String(20), nullable=False, default="USER"),
    sa.Column("hypervisor", sa.String(20), nullable=False, default="KVM"),
    sa.Column("os_type", sa.String(255)),  # an id of os_types.py; older rows have free text
    sa.Column("bootable", sa.Boolean, nullable=False, default=True),
    sa.Column("featured", sa.Boolean, nullable=False, default=False),
    sa.Column("public", sa.Boolean, nullable=False, default=False),
    sa.Column("extractable", sa.Boolean, nullable=False, default=False),
    sa.Column("hvm", sa.Boolean, nullable=False, default=True),
    sa.Column("password_enabled", sa.Boolean, nullable=False, default=False),
    sa.Column("details", sa.JSON, nullable=False, default=dict),
)

# Apart from templates, so that no list of these reads a login.
template_sources = _table(
    "template_sources",
    *numbered(),
    sa.Column("template_id", sa.ForeignKey("templates.id"), nullable=False, unique=True),
    sa.Column("username", sa.String(255)),
    sa.Column("sealed_password", sa.LargeBinary),
    sa.Column("signature_url", sa.String(2048)),
)

# CAs that downloads trust, in a zone or only for one template.
source_certificates = _table(
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

template_store_refs = _table(
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
template_uploads = _table(
    "template_uploads",
    *numbered(),
    sa.Column("upload_id", sa.String(36), nullable=False, unique=True),  # in the URL's path
    sa.Column("post_url", sa.String(1024), nullable=False),
    sa.Column("metadata", sa.String(255), nullable=False),
    sa.Column("expires", UtcDateTime, nullable=False, index=True),
)

# CloudStack's launch permissions: accounts besides the owner that use a template that is not public.
template_permissions = _table(
    "template_permissions",
    *numbered(),
    sa.Column("template_id", sa.ForeignKey("templates.id"), nullable=False, index=True),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False, index=True),
    sa.UniqueConstraint("template_id", "account_id"),
)

template_spool_refs = _table(
    "template_spool_refs",
    *numbered(),
    sa.Column("template_id", sa.ForeignKey("templates.id"), nullable=False, index=True),
    sa.Column("host_id", sa.ForeignKey("hosts.id"), nullable=False),
    sa.Column("state", EnumText(SpoolState), nullable=False, default=SpoolState.NOT_COPIED),
    sa.Column("path", sa.String(4096)),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("error_text", sa.Text),
    sa.Column("updated", UtcDateTime, nullable=False, default=now, onupdate=now),
)

#: Links by which images are downloaded from SSVMs, until they expire.
extract_links = _table(
    "extract_links",
    *user_visible(),
    sa.Column("template_id", sa.ForeignKey("templates.id"), nullable=False, index=True),
    sa.Column("secret", sa.String(36), nullable=False, unique=True),
    sa.Column("origin", sa.String(255), nullable=False),
    sa.Column("file_name", sa.String(255), nullable=False),
    sa.Column("expires", UtcDateTime, nullable=False, index=True),
)

vm_instances = _table(
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
    sa.Column("keyboard", sa.String(10)),  # the layout of its guest, by CloudStack's name
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
    sa.Column("updated", UtcDateTime, nullable=False, default=now, onupdate=now),
)

nics = _table(
    "nics",
    *numbered(),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), nullable=False, index=True),
    sa.Column("device", sa.Integer, nullable=False),  # the N of ethN
    sa.Column("traffic_type", sa.String(20), nullable=False),
    sa.Column("bridge", sa.String(15), nullable=False),
    sa.Column("mac", sa.String(17), nullable=False),
    sa.Column("address", sa.String(64)),
    sa.Column("netmask", sa.String(64)),
    sa.Column("gateway", sa.String(64)),
)

# One row per address in use; a released address has no row, so that the pair stays unique.
ip_addresses = _table(
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

volumes = _table(
    "volumes",
    *user_visible(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("type", sa.String(20), nullable=False, default="ROOT"),
    sa.Column("state", EnumText(VolumeState), nullable=False, default=VolumeState.ALLOCATED),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), index=True),
    sa.Column("template_id", sa.ForeignKey("templates.id")),
    sa.Column("host_id", sa.ForeignKey("hosts.id")),
    sa.Column("path", sa.String(4096)),
    sa.Column("size_bytes", sa.BigInteger),
)

async_jobs = _table(
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
)

console_sessions = _table(
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
)

console_recordings = _table(
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
)

# Whose consoles are recorded, of VMs and accounts that do not follow the zone's settings.
console_recording_rules = _table(
    "console_recording_rules",
    *numbered(),
    sa.Column("vm_id", sa.ForeignKey("vm_instances.id"), unique=True),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), unique=True),
    sa.Column("mode", EnumText(RecordingMode), nullable=False),
)

# Settings that the API changes: a zone's own value, or that of all zones without one.
configurations = _table(
    "configurations",
    *numbered(),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("zone_id", sa.ForeignKey("zones.id")),
    sa.Column("value", sa.String(1024), nullable=False),
)

# Keys of the daemon itself, sealed with a key that is in no database.
secrets = _table(
    "secrets",
    *numbered(),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)

# Certificates of the control CA. A revoked one is rejected from the moment that it is marked.
certificates = _table(
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
public_certificates = _table(
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

events = _table(
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
)
