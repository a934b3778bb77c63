# SPDX-License-Identifier: Apache-2.0
"""Backups of the disks of running QEMU machines: whole, or what changed since the backup before.

A backup begins a dirty bitmap in the same transaction, so that the bitmap has exactly what changed since. The
next backup copies what the bitmap has, and leaves it as it is: when that backup fails, the bitmap still
belongs to the one before. Bitmaps are kept in the disk's qcow2 when the machine ends; QEMU marks those of a
machine that was killed as inconsistent, and the next backup is a whole one.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.qmp import QmpSession

_BITMAP_PREFIX = "snapshot-"
_ENDS = ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")


@frozen
class DiskBackup:
    """A backup into an existing qcow2 file of the disk's size; names are UUIDs of snapshots."""

    name: str
    disk: str  # its name in QEMU
    target: Path
    since: str | None = None  # only what changed since this backup, if that is known
    quiesce: bool = False  # its guest agent holds the file systems still when it begins


def bitmap_name(snapshot: str) -> str:
    return f"{_BITMAP_PREFIX}{snapshot}"


def is_ours(bitmap: str) -> bool:
    return bitmap.startswith(_BITMAP_PREFIX)


async def changes_are_known(session: QmpSession, disk: str, since: str) -> bool:
    """Return whether the disk has recorded all changes since a backup."""
    for bitmap in await _bitmaps(session, disk):
        if bitmap.get("name") == bitmap_name(since):
            return not bitmap.get("inconsistent", False) and bool(bitmap.get("recording", False))
    return False


async def back_up(
    session: QmpSession, backup: DiskBackup, stillness: AbstractAsyncContextManager[None] | None = None
) -> bool:
    """Make a backup; return whether it has everything. It begins in `stillness`.

    Raises: HypervisorError when it has failed: nothing of it is left in QEMU then.
    """
    job, node = _job(backup.name), _node(backup.name)
    await _end_earlier(session, job, node)
    since = backup.since
    if since is not None and not await changes_are_known(session, backup.disk, since):
        since = None
    await remove_bitmaps(session, backup.disk, since)
    target = {
        "driver": "qcow2",
        "node-name": node,
        "discard": "unmap",
        "backing": None,  # its backing file is on secondary storage, and the backup does not need it
        "file": {"driver": "file", "filename": str(backup.target)},
    }
    await session.execute("blockdev-add", target)
    begins = {"node": backup.disk, "name": bitmap_name(backup.name), "persistent": True}
    copies: dict[str, object] = {"job-id": job, "device": backup.disk, "target": node, "sync": "full"}
    if since is not None:
        copies |= {"sync": "bitmap", "bitmap": bitmap_name(since), "bitmap-mode": "never"}
    actions = [
        {"type": "block-dirty-bitmap-add", "data": begins},
        {"type": "blockdev-backup", "data": copies},
    ]
    try:
        ended = await session.execute_until(
            "transaction",
            {"actions": actions},
            _ENDS,
            lambda data: data.get("device") == job,
            timeout_s=None,  # it takes as long as the disk is large
            during=stillness,  # what it copies is what the disk had when it began
        )
        if ended.get("error") or ended.get("offset") != ended.get("len"):
            why = ended.get("error") or "it was cancelled"
            raise HypervisorError(f"backup of {backup.disk} failed: {why}", "check the space on the host")
    except HypervisorError:
        with suppress(HypervisorError):  # QEMU can have ended
            await remove_bitmaps(session, backup.disk, since)
        raise
    finally:
        with suppress(HypervisorError):
            await session.execute("blockdev-del", {"node-name": node})
    return since is None


async def remove_bitmaps(session: QmpSession, disk: str, keep: str | None) -> None:
    """Remove all our bitmaps of a disk, except that of the backup `keep`."""
    for bitmap in await _bitmaps(session, disk):
        name = str(bitmap.get("name", ""))
        if is_ours(name) and (keep is None or name != bitmap_name(keep)):
            await session.execute("block-dirty-bitmap-remove", {"node": disk, "name": name})


async def _end_earlier(session: QmpSession, job: str, node: str) -> None:
    jobs = await session.execute("query-block-jobs")
    if any(each.get("device") == job for each in jobs):
        with suppress(HypervisorError):  # it can have ended meanwhile
            await session.execute_until(
                "block-job-cancel",
                {"device": job, "force": True},
                _ENDS,
                lambda data: data.get("device") == job,
            )
    nodes = await session.execute("query-named-block-nodes", {"flat": True})
    if any(each.get("node-name") == node for each in nodes):
        await session.execute("blockdev-del", {"node-name": node})


async def _bitmaps(session: QmpSession, disk: str) -> list[dict[str, Any]]:
    for block in await session.execute("query-block"):
        inserted = block.get("inserted") or {}
        if disk in (block.get("device"), inserted.get("node-name")):
            return list(inserted.get("dirty-bitmaps", []))
    raise HypervisorError(f"machine has no disk {disk}")


def _job(name: str) -> str:
    return f"backup-{name}"


def _node(name: str) -> str:
    return f"snap-{name.replace('-', '')[:24]}"
