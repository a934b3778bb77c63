# SPDX-License-Identifier: Apache-2.0
"""The disks of a machine besides its root disk: their names in QEMU, at the start and while it runs.

They are on a virtio-scsi controller of their own, because a SCSI disk is added and removed at once on every
board. On PCI Express each would need a free port, and a guest that does not answer could not release one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from attrs import frozen

from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.management.hypervisors import disk_backup
from systemvm.management.hypervisors.disk_backup import DiskBackup
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.guest_agent import GuestAgent
from systemvm.management.hypervisors.qmp import QmpSession

#: The controller of data disks; machines that run since an earlier release have none.
CONTROLLER = "data"
#: The root disk, as QEMU's commands name it.
ROOT_DISK = "disk0"
#: The CD with the config drive.
CONFIG_DRIVE = "config"
#: A data disk's number in its machine: CloudStack's device numbers without 0, the root disk, and 3, the CD.
UNITS = tuple(unit for unit in range(1, 16) if unit != 3)


@frozen
class DataDisk:
    """A qcow2 disk that a machine has, or gets."""

    uuid: str
    path: Path
    unit: int  # its SCSI target


class MachineDisks(Protocol):
    """Changes of the disks of a running machine; each can be repeated.

    Raises: HypervisorError when QEMU did not perform it.
    """

    async def attach(self, disk: DataDisk) -> None:
        """Give the machine a disk, which it sees at once; does nothing when it has it."""

    async def has(self, uuid: str) -> bool:
        """Return whether the machine has a data disk."""

    async def detach(self, uuid: str) -> None:
        """Take a data disk away; does nothing when the machine does not have it."""

    async def resize(self, disk_name: str, size_bytes: int) -> None:
        """Change the size of a disk; the guest sees it at once."""

    async def back_up(self, backup: DiskBackup) -> bool:
        """Write what the disk contains now into a file, while the guest continues; return whether all of it.

        It ends what an earlier call for the same backup began.
        """

    async def forget_changes(self, disk_name: str, keep: str | None) -> None:
        """Stop recording what changes on a disk, except since the backup named `keep`."""


def disk_name(uuid: str) -> str:
    """Return the name of a data disk in QEMU, of at most 31 characters.

    >>> disk_name("00000000-1111-2222-3333-444444444444")
    'vol-000000001111222233334444'
    """
    return f"vol-{uuid.replace('-', '')[:24]}"


def blockdev_of(disk: DataDisk) -> dict[str, object]:
    """Return the arguments of blockdev-add."""
    return {
        "driver": "qcow2",
        "node-name": disk_name(disk.uuid),
        "discard": "unmap",
        "detect-zeroes": "unmap",
        "file": {"driver": "file", "filename": str(disk.path)},
    }


def device_of(disk: DataDisk) -> dict[str, object]:
    """Return the arguments of device_add; the serial number is how a guest finds a volume by its id."""
    return {
        "driver": "scsi-hd",
        "id": _device_id(disk.uuid),
        "drive": disk_name(disk.uuid),
        "bus": f"{CONTROLLER}.0",
        "scsi-id": disk.unit,
        "lun": 0,
        "serial": disk.uuid.replace("-", "")[:20],
    }


class QemuDisks:
    """The disks of a QEMU machine; see `MachineDisks`."""

    def __init__(
        self, name: str, session: Callable[[], Awaitable[QmpSession]], guest_agent: Callable[[], GuestAgent]
    ) -> None:
        self._name = name
        self._session = session
        self._guest_agent = guest_agent

    async def attach(self, disk: DataDisk) -> None:
        await in_asyncio(self._attach(disk))

    async def has(self, uuid: str) -> bool:
        return await in_asyncio(self._has(uuid))

    async def detach(self, uuid: str) -> None:
        await in_asyncio(self._detach(uuid))

    async def resize(self, disk_name: str, size_bytes: int) -> None:
        await in_asyncio(self._resize(disk_name, size_bytes))

    async def back_up(self, backup: DiskBackup) -> bool:
        return await in_asyncio(self._back_up(backup))

    async def forget_changes(self, disk_name: str, keep: str | None) -> None:
        await in_asyncio(self._forget_changes(disk_name, keep))

    async def _back_up(self, backup: DiskBackup) -> bool:
        stillness = self._guest_agent().frozen() if backup.quiesce else None
        return await disk_backup.back_up(await self._session(), backup, stillness)

    async def _forget_changes(self, disk: str, keep: str | None) -> None:
        await disk_backup.remove_bitmaps(await self._session(), disk, keep)

    async def _attach(self, disk: DataDisk) -> None:
        session = await self._session()
        devices = await _devices(session)
        if _device_id(disk.uuid) in devices:
            return
        if CONTROLLER not in devices:
            raise HypervisorError(
                f"{self._name} has no controller for data disks: it runs since an earlier release",
                "stop it and start it once",
            )
        if disk_name(disk.uuid) not in await _nodes(session):
            await session.execute("blockdev-add", blockdev_of(disk))
        try:
            await session.execute("device_add", device_of(disk))
        except HypervisorError:
            await session.execute("blockdev-del", {"node-name": disk_name(disk.uuid)})
            raise

    async def _has(self, uuid: str) -> bool:
        return _device_id(uuid) in await _devices(await self._session())

    async def _detach(self, uuid: str) -> None:
        session = await self._session()
        if _device_id(uuid) in await _devices(session):
            device = _device_id(uuid)
            await session.execute_until(
                "device_del", {"id": device}, ("DEVICE_DELETED",), lambda data: data.get("device") == device
            )
        if disk_name(uuid) in await _nodes(session):
            await session.execute("blockdev-del", {"node-name": disk_name(uuid)})

    async def _resize(self, disk: str, size_bytes: int) -> None:
        key = "device" if disk == ROOT_DISK else "node-name"
        await (await self._session()).execute("block_resize", {key: disk, "size": size_bytes})


def _device_id(uuid: str) -> str:
    return f"dev-{disk_name(uuid)}"


async def _devices(session: QmpSession) -> set[str]:
    found = await session.execute("qom-list", {"path": "/machine/peripheral"})
    return {str(item["name"]) for item in found}


async def _nodes(session: QmpSession) -> set[str]:
    found = await session.execute("query-named-block-nodes", {"flat": True})
    return {str(node["node-name"]) for node in found}
