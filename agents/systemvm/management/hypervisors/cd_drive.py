# SPDX-License-Identifier: Apache-2.0
"""The CD drive of a user's machine, whose medium is changed while the machine runs.

The drive is there from the start, with a medium or empty: a guest can be given a medium at any time, but not
a drive. A guest that uses its medium locks the tray, and only `forced` takes the medium away then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.qmp import QmpSession

#: The device; machines of earlier releases that were started with an ISO have one without this name.
CD_DRIVE = "cdrom0"
#: QEMU's name of the medium that a machine is started with.
FIRST_MEDIUM = "cd0"


class CdDrive(Protocol):
    """Changes of the medium of a running machine; each can be repeated.

    Raises: HypervisorError when QEMU did not perform it.
    """

    async def insert(self, medium: Path, *, forced: bool = False) -> None:
        """Replace the medium; does nothing when the drive has this one."""

    async def eject(self, *, forced: bool = False) -> None:
        """Take the medium out and close the tray; does nothing when there is none."""


class QemuCdDrive:
    """The drive of a QEMU machine; see `CdDrive`."""

    def __init__(self, name: str, session: Callable[[], Awaitable[QmpSession]]) -> None:
        self._name = name
        self._session = session

    async def insert(self, medium: Path, *, forced: bool = False) -> None:
        await in_asyncio(self._insert(medium, forced))

    async def eject(self, *, forced: bool = False) -> None:
        await in_asyncio(self._eject(forced))

    async def _insert(self, medium: Path, forced: bool) -> None:
        session = await self._session()
        drive = await self._find(session)
        if drive is None:
            raise HypervisorError(
                f"{self._name} has no CD drive: it runs since an earlier release", "stop it and start it once"
            )
        if _medium_of(drive) == str(medium):
            return
        change = {
            "id": drive["qdev"],
            "filename": str(medium),
            "format": "raw",
            "force": forced,
            "read-only-mode": "read-only",
        }
        await self._change(session, drive, "blockdev-change-medium", change, forced)

    async def _eject(self, forced: bool) -> None:
        session = await self._session()
        drive = await self._find(session)
        if drive is None:
            return
        if _medium_of(drive) is not None:
            await self._change(session, drive, "eject", {"id": drive["qdev"], "force": forced}, forced)
        await session.execute("blockdev-close-tray", {"id": drive["qdev"]})

    async def _change(
        self,
        session: QmpSession,
        drive: Mapping[str, Any],
        command: str,
        arguments: Mapping[str, object],
        forced: bool,
    ) -> None:
        try:
            await session.execute(command, arguments)
        except HypervisorError as error:
            after = await self._find(session)
            if forced or after is None or not after.get("locked"):
                raise
            # QEMU has pressed the drive's button, and a guest that heeds it unmounts by itself
            raise HypervisorError(
                f"the guest of {self._name} uses the medium in its CD drive, and has locked the drive",
                "unmount it in the guest and repeat this, or use forced=true",
            ) from error

    @staticmethod
    async def _find(session: QmpSession) -> Mapping[str, Any] | None:
        for found in await session.execute("query-block"):
            device = str(found.get("qdev", "")).rpartition("/")[2]
            if device == CD_DRIVE or (found.get("device") == FIRST_MEDIUM and found.get("qdev")):
                return dict(found)
        return None


def _medium_of(drive: Mapping[str, Any]) -> str | None:
    inserted = drive.get("inserted")
    return None if not inserted else str(inserted["file"])
