# SPDX-License-Identifier: Apache-2.0
"""Removes copies of templates from primary storage when the template and its last VM are gone."""

from __future__ import annotations

from typing import Protocol

from twisted.logger import Logger

from systemvm.management.primary.pools import StorageByPool
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import templates
from systemvm.management.state.database import Database


class TemplateStorage(Protocol):
    """The part of primary storage that deletes copies."""

    async def delete_template(self, template_uuid: str) -> None: ...


class TemplateCopies:
    """Compares rows with rows, so that a restart loses no deletion."""

    _log = Logger()

    def __init__(self, database: Database, primary: StorageByPool[TemplateStorage], *, host_id: int) -> None:
        self._database = database
        self._primary = primary
        self._host_id = host_id

    async def remove_unused(self) -> None:
        """Delete the copies that no VM needs: the file first, so that its row repeats a failed deletion."""
        for ref, template in await self._database.read(templates.unused_spool_refs, self._host_id):
            try:
                storage = await self._primary.of(ref.pool_id)
                await storage.delete_template(template.uuid)
            except (OSError, PrimaryStorageError) as error:
                self._log.warn(
                    "copy of the deleted template {name} cannot be removed from primary storage now: {error}",
                    name=template.name,
                    error=str(error),
                )
                continue
            await self._database.run(templates.remove_spool_ref, ref.id)
            self._log.info("removed the copy of {name} from primary storage", name=template.name)
