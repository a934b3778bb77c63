# SPDX-License-Identifier: Apache-2.0
"""Copies of templates on primary storage go when their template is deleted and its last VM is destroyed."""

from __future__ import annotations

from typing import Protocol

from twisted.logger import Logger

from systemvm.management.state import templates
from systemvm.management.state.database import Database


class Primary(Protocol):
    """What primary storage does for a template that is not needed any more."""

    async def delete_template(self, template_uuid: str) -> None: ...


class TemplateCopies:
    """Compares what is there with what is needed, so that nothing is lost by a restart in between."""

    _log = Logger()

    def __init__(self, database: Database, primary: Primary, *, host_id: int) -> None:
        self._database = database
        self._primary = primary
        self._host_id = host_id

    async def remove_unused(self) -> None:
        """Delete what no VM needs. The file goes first: should that fail, its row brings us back to it."""
        for ref, template in await self._database.read(templates.unused_spool_refs, self._host_id):
            try:
                await self._primary.delete_template(template.uuid)
            except OSError as error:
                self._log.warn(
                    "the copy of the deleted template {name} stays on primary storage for now: {error}",
                    name=template.name,
                    error=str(error),
                )
                continue
            await self._database.run(templates.remove_spool_ref, ref.id)
            self._log.info("the copy of {name} is off primary storage", name=template.name)
