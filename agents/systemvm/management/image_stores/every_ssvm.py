# SPDX-License-Identifier: Apache-2.0
"""Calls of every SSVM of a store's zone that is Up."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state.database import Database
from systemvm.management.state.instances import names_of_ssvms_by_zone
from systemvm.management.state.zones import ImageStore
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.role import Role
from systemvm.wire.storage import Store

#: A mount waits for the NFS server; deadlines in the guest are shorter.
MOUNT_DEADLINE_S = 190.0


class EverySsvm:
    """The SSVMs, as they are at each call."""

    def __init__(self, database: Database, agents: ConnectedAgents) -> None:
        self._database = database
        self._agents = agents

    async def call(self, store: ImageStore, method: str, params: Store, result: Any) -> list[Any]:
        """Call a method of each at the same time; return the results, none without an SSVM.

        Raises: RpcError of the first that fails, once all have answered.
        """
        ssvms = (await self._database.read(names_of_ssvms_by_zone)).get(store.zone_id, [])
        peers = [self._agents.peer(name) for name in ssvms if name in self._agents.up(Role.SSVM)]
        calls = [
            Deferred.fromCoroutine(
                _call(peer.call(method, params, result=result, deadline_s=MOUNT_DEADLINE_S))
            )
            for peer in peers
            if peer is not None
        ]
        outcomes = await gatherResults(calls)
        for outcome in outcomes:
            if isinstance(outcome, RpcError):
                raise outcome
        return list(outcomes)


async def _call(call: Any) -> Any:
    """Return the result of a call, or its RpcError."""
    try:
        return await call
    except RpcError as error:
        return error
