# SPDX-License-Identifier: Apache-2.0
"""Makes a change of a zone's model: one transaction with its event, after which services see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from attrs import frozen

from systemvm.management.state import events
from systemvm.management.state.database import Connection, Database
from systemvm.management.zone_model.catalog import ZoneCatalog
from systemvm.management.zone_model.ranges import Labels

P = ParamSpec("P")
R = TypeVar("R")


@frozen
class ChangeOrigin:
    """Who makes a change; the columns of its event."""

    account_id: int
    user_id: int
    request_id: str


class ModelChanges:
    """The only writer of the model while the daemon runs."""

    def __init__(
        self, database: Database, catalog: ZoneCatalog, labels: Labels, changed: Callable[[], None]
    ) -> None:
        """`changed` is called after each change, to start what it makes possible."""
        self._database = database
        self._catalog = catalog
        self._changed = changed
        self.labels = labels

    async def read(
        self, query: Callable[Concatenate[Connection, P], R], *arguments: P.args, **more: P.kwargs
    ) -> R:
        """Read what a change needs before it is made."""
        return await self._database.read(query, *arguments, **more)

    async def make(
        self,
        origin: ChangeOrigin,
        event: str,
        change: Callable[[Connection], R],
        describe: Callable[[R], str],
    ) -> R:
        """Run a change in a transaction and record its event, which `describe` describes.

        Raises: ModelError and NotFoundError as the change does; nothing is changed then.
        """

        def run(connection: Connection) -> R:
            result = change(connection)
            events.record(
                connection,
                event,
                describe(result),
                account_id=origin.account_id,
                user_id=origin.user_id,
                request_id=origin.request_id,
            )
            return result

        result = await self._database.run(run)
        # on the writer's thread: of two changes, the newer one is read last
        await self._database.run(self._catalog.load)
        self._changed()
        return result
