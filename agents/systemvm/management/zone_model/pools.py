# SPDX-License-Identifier: Apache-2.0
"""Creates, changes and deletes primary storage pools. Each function is one transaction.

URLs are CloudStack's: `nfs://SERVER/PATH`, and `SharedMountPoint://localhost/PATH` for a file system that an
operator has mounted at the same path on each host.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import frozen

from systemvm.management.state import pods, storage_pools, volumes, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import DRIVEN
from systemvm.management.state.pods import Cluster
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.state.zones import Host, Zone
from systemvm.management.zone_model.hypervisor_profiles import profile_of
from systemvm.management.zone_model.refusals import check_name, in_use, invalid, named, wrong_state

MAX_PATH_CHARACTERS = 1024
MAX_TAGS_CHARACTERS = 1024
_LOCAL_NAMES = ("", "localhost")
_NFS_PORT = 2049
_SHAPES = "send nfs://SERVER/PATH or SharedMountPoint://localhost/PATH"


@frozen
class PoolAddress:
    """What a URL names."""

    type: str
    server: str | None
    path: str


def read_url(url: str) -> PoolAddress:
    """Return what a URL names. Raises: ModelError when it is not the URL of a pool."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise invalid("url", "is not a URL", "send nfs://SERVER/PATH") from None
    path = _path(unquote(parts.path))
    match parts.scheme:
        case "nfs":
            if port not in (None, _NFS_PORT):
                raise invalid("url", f"port {port} is not supported", f"omit it: it is {_NFS_PORT}")
            return PoolAddress(storage_pools.NFS_POOL, _server(parts.hostname or ""), path)
        case "sharedmountpoint":
            if (parts.hostname or "") not in _LOCAL_NAMES:
                raise invalid("url", "a shared mount point has no server", f"send SharedMountPoint://{path}")
            return PoolAddress(storage_pools.SHARED_MOUNT_POINT, None, path)
        case other:
            raise invalid(
                "url",
                f"{other[:32]!r} is not a supported kind of storage",
                _SHAPES,
            )


def _path(text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or not text.isprintable():
        raise invalid("url", "its path must be absolute, without .. and control characters", _SHAPES)
    if len(text) > MAX_PATH_CHARACTERS:
        raise invalid(
            "url",
            f"its path has {len(text)} characters, the maximum is {MAX_PATH_CHARACTERS}",
            "shorten the path",
        )
    if path == PurePosixPath("/"):
        raise invalid("url", "its path must name a directory below /", _SHAPES)
    return str(path)


def _server(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise invalid(
            "url",
            f"{text[:64]!r} is not an IP address",
            "send the server's address: a name could mean another server later",
        ) from None


def read_tags(text: str) -> str:
    """Return tags as they are stored. Raises: ModelError when they are too long."""
    tags = ",".join(dict.fromkeys(filter(None, (tag.strip() for tag in text.split(",")))))
    if len(tags) > MAX_TAGS_CHARACTERS:
        raise invalid(
            "tags", f"have {len(tags)} characters, the maximum is {MAX_TAGS_CHARACTERS}", "send fewer"
        )
    return tags


@frozen
class PoolPlace:
    """Whose machines can use a pool."""

    scope: str
    zone: Zone
    cluster: Cluster | None = None
    host: Host | None = None


def check_new(connection: Connection, place: PoolPlace, name: str, address: PoolAddress) -> str:
    """Return the name of a pool that can be created.

    Raises: ModelError when its name is not free, another pool has its directory or export, or hosts of its
        cluster have no such storage.
    """
    _check_kind(place, address)
    others = storage_pools.list_pools(connection)
    for pool in others:
        if not pool.is_own_directory and (pool.server, pool.path) == (address.server, address.path):
            raise in_use(address.path, f"it is the storage pool {pool.name}", "choose another path")
    zone_id = place.zone.id
    return check_name("name", name, [pool.name for pool in others if pool.zone_id == zone_id])


def _check_kind(place: PoolPlace, address: PoolAddress) -> None:
    """Check that the hypervisor of a cluster has this kind of storage; pools of a zone are for KVM."""
    cluster = place.cluster
    if cluster is not None and address.type not in profile_of(cluster.hypervisor).storage:
        raise invalid(
            "clusterid",
            f"cluster {cluster.name} has hosts of {cluster.hypervisor}, for which the cloud makes no disks",
            f"choose a cluster of {DRIVEN}; see listHypervisorCapabilities",
        )


def create_pool(
    connection: Connection, uuid: str, place: PoolPlace, name: str, address: PoolAddress, tags: str
) -> StoragePool:
    """Create the row of a pool whose directory is usable. Raises: ModelError as `check_new` does."""
    cluster = place.cluster
    return storage_pools.create(
        connection,
        uuid=uuid,
        name=check_new(connection, place, name, address),
        zone_id=place.zone.id,
        pod_id=cluster.pod_id if cluster else None,
        cluster_id=cluster.id if cluster else None,
        host_id=place.host.id if place.host else None,
        scope=place.scope,
        type=address.type,
        server=address.server,
        path=address.path,
        tags=tags,
    )


def update_pool(
    connection: Connection,
    pool: StoragePool,
    *,
    name: str | None = None,
    tags: str | None = None,
    enabled: bool | None = None,
) -> StoragePool:
    """Change what is not None. Raises: ModelError when it cannot be."""
    changes: dict[str, Any] = {}
    if name is not None:
        others = storage_pools.list_pools(connection, pool.zone_id)
        changes["name"] = check_name("name", name, [each.name for each in others if each.id != pool.id])
    if tags is not None:
        changes["tags"] = read_tags(tags)
    if enabled is not None:
        if pool.is_own_directory:
            raise invalid("enabled", f"{pool.name} is the directory of a host", "omit enabled")
        if pool.state not in (storage_pools.UP, storage_pools.DISABLED):
            raise wrong_state(f"storage pool {pool.name}", f"it is {pool.state}", "end its maintenance first")
        changes["state"] = storage_pools.UP if enabled else storage_pools.DISABLED
    return storage_pools.update(connection, pool.id, **changes) if changes else pool


def delete_pool(connection: Connection, pool: StoragePool) -> StoragePool:
    """Delete a pool without volumes; its files stay where they are.

    Raises: ModelError as `check_deletable` does.
    """
    check_deletable(connection, pool)
    storage_pools.forget_copies(connection, pool.id)
    return storage_pools.update(connection, pool.id, removed=now())


def check_deletable(connection: Connection, pool: StoragePool) -> None:
    """Check that a pool can be deleted.

    Raises: ModelError when it has volumes, or is the directory of a host.
    """
    if pool.is_own_directory:
        raise wrong_state(
            f"storage pool {pool.name}", "it is the directory of a host", "remove the host with deleteHost"
        )
    found = volumes.of_pool(connection, pool.id)
    if found:
        raise in_use(
            f"storage pool {pool.name}",
            named("volume", [volume.name for volume in found]),
            "delete each volume, or move it with migrateVolume",
        )


def place_of(
    connection: Connection,
    scope: str,
    zone: Zone,
    cluster_uuid: str | None,
    host_uuid: str | None,
    pod_uuid: str | None,
) -> PoolPlace:
    """Return whose machines can use a pool of these parameters. Raises: ModelError when they disagree."""
    wanted = scope.upper()
    host = zones.host_by_uuid(connection, host_uuid) if host_uuid else None
    cluster = pods.cluster_by_uuid(connection, cluster_uuid) if cluster_uuid else None
    if wanted == storage_pools.ZONE:
        for parameter, given in (("clusterid", cluster), ("hostid", host), ("podid", pod_uuid)):
            if given is not None:
                raise invalid(parameter, "must not be sent with scope=zone", "omit it, or send another scope")
        return PoolPlace(wanted, zone)
    if wanted == storage_pools.HOST:
        if host is None:
            raise invalid("hostid", "is missing: scope is host", "send the id of a host; see listHosts")
        if host.cluster_id is None or not host.is_driven:
            raise invalid(
                "hostid",
                f"host {host.name} runs no machines of this cloud",
                "choose a KVM host; see listHosts",
            )
        cluster = pods.cluster_by_id(connection, host.cluster_id)
    elif host is not None:
        raise invalid("hostid", "must not be sent with scope=cluster", "omit it, or send scope=host")
    if cluster is None:
        raise invalid("clusterid", "is missing: scope is cluster", "send the id of a cluster, or scope=zone")
    if cluster.zone_id != zone.id:
        raise invalid("zoneid", f"cluster {cluster.name} is in another zone", "send the zone of the cluster")
    if pod_uuid is not None and pods.pod_by_uuid(connection, pod_uuid).id != cluster.pod_id:
        raise invalid("podid", f"cluster {cluster.name} is in another pod", "omit it")
    return PoolPlace(wanted, zone, cluster, host)
