# SPDX-License-Identifier: Apache-2.0
"""The UEFI variables of machines, such as the boot entry that an installed system wrote: a file for each.

They describe what is on the root disk and are named by it: a root disk that is made anew has new ones. They
are on the host and not in the disk's pool, so that a disk can be moved while its machine writes them.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from systemvm.host.architecture import Architecture
from systemvm.management.primary import atomic_copy
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.primary.storage import DISK_MODE
from systemvm.service import host_errors


class UefiVariables:
    """A directory of these files. All methods block, for threads."""

    def __init__(
        self,
        directory: Path,
        of_new_machine: Callable[[Architecture], Path] = lambda arch: arch.uefi_variables,
    ) -> None:
        self._directory = directory
        self._of_new_machine = of_new_machine

    def open(self) -> None:
        """Make the directory; remove what a killed daemon has not completed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        atomic_copy.remove_leftovers(self._directory)

    def path(self, volume_uuid: str) -> Path:
        return self._directory / f"{uuid.UUID(volume_uuid)}.fd"

    def ensure(self, volume_uuid: str, arch: Architecture) -> Path:
        """Return the variables of the machine with this root disk: at its first start, those of a new one.

        Raises: PrimaryStorageError when they cannot be made.
        """
        path = self.path(volume_uuid)
        if path.exists():
            return path
        temporary = path.with_name(f".{path.name}.new")
        try:
            shutil.copyfile(self._of_new_machine(arch), temporary)
            atomic_copy.publish(temporary, path, DISK_MODE)
        except OSError as error:
            trouble = host_errors.explain(error, str(self._directory))
            why, hint = (trouble.message, trouble.hint) if trouble else (error.strerror, "")
            raise PrimaryStorageError(
                f"UEFI variables cannot be created: {why}",
                hint or f"install Debian's {arch.uefi_package} on this host",
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def delete(self, volume_uuid: str) -> None:
        """Delete the variables of a root disk; does nothing when there are none."""
        self.path(volume_uuid).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the UUIDs of the root disks that have variables."""
        found = []
        for path in self._directory.glob("*.fd"):
            with suppress(ValueError):  # it is not ours
                found.append(str(uuid.UUID(path.stem)))
        return found
