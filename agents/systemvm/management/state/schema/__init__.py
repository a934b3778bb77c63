# SPDX-License-Identifier: Apache-2.0
"""The tables, a module for each subject. A change needs a migration beside it; a test compares the two."""

from __future__ import annotations

from systemvm.management.state.schema.access import (
    accounts,
    api_keys,
    domains,
    login_sources,
    resource_limits,
    role_permissions,
    roles,
    second_factors,
    sessions,
    users,
)
from systemvm.management.state.schema.base import metadata
from systemvm.management.state.schema.console_records import (
    console_recording_rules,
    console_recordings,
    console_sessions,
)
from systemvm.management.state.schema.images import (
    TO_DELETE,
    WANTED,
    extract_links,
    snapshot_images,
    source_certificates,
    store_object_links,
    template_permissions,
    template_sources,
    template_spool_refs,
    template_store_refs,
    template_uploads,
    templates,
)
from systemvm.management.state.schema.machines import ip_addresses, nics, vm_instances, volumes
from systemvm.management.state.schema.operation import (
    alert_deliveries,
    async_jobs,
    certificates,
    events,
    public_certificates,
    resource_tags,
    secrets,
)
from systemvm.management.state.schema.places import (
    configurations,
    foreign_hosts,
    hosts,
    image_stores,
    store_buckets,
    zones,
)
from systemvm.management.state.schema.snapshots import snapshot_policies, snapshots
from systemvm.management.state.schema.usage import served_bytes
from systemvm.management.state.schema.zone_model import (
    address_ranges,
    clusters,
    disk_offerings,
    physical_networks,
    pods,
    service_offerings,
    storage_pools,
    traffic_types,
)

__all__ = [
    "TO_DELETE",
    "WANTED",
    "accounts",
    "address_ranges",
    "alert_deliveries",
    "api_keys",
    "async_jobs",
    "certificates",
    "clusters",
    "configurations",
    "console_recording_rules",
    "console_recordings",
    "console_sessions",
    "disk_offerings",
    "domains",
    "events",
    "extract_links",
    "foreign_hosts",
    "hosts",
    "image_stores",
    "ip_addresses",
    "login_sources",
    "metadata",
    "nics",
    "physical_networks",
    "pods",
    "public_certificates",
    "resource_limits",
    "resource_tags",
    "role_permissions",
    "roles",
    "second_factors",
    "secrets",
    "served_bytes",
    "service_offerings",
    "sessions",
    "snapshot_images",
    "snapshot_policies",
    "snapshots",
    "source_certificates",
    "storage_pools",
    "store_buckets",
    "store_object_links",
    "template_permissions",
    "template_sources",
    "template_spool_refs",
    "template_store_refs",
    "template_uploads",
    "templates",
    "traffic_types",
    "users",
    "vm_instances",
    "volumes",
    "zones",
]
