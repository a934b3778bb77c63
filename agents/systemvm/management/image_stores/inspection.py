# SPDX-License-Identifier: Apache-2.0
"""What is on a store, as an SSVM of its zone sees it: listed, browsed, adopted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import evolve

from systemvm.management.control.agent_calls import AgentPeer, ConnectedAgents
from systemvm.management.state import adoption, zones
from systemvm.management.state.accounts import Account
from systemvm.management.state.adoption import Adoption
from systemvm.management.state.database import Database
from systemvm.management.state.instances import names_of_ssvms_by_zone
from systemvm.management.state.zones import ImageStore
from systemvm.rpc.core.errors import INTERNAL, RpcError
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire import storage
from systemvm.wire.role import Role
from systemvm.wire.storage import (
    BrowseRequest,
    ListedTemplate,
    StoreObject,
    StoreObjects,
    TemplateListing,
    TemplateListRequest,
)
from systemvm.wire.transfer_failure import TransferFailure

LIST_DEADLINE_S = 100.0
#: The most pages that are read of a listing or a directory: more of them are a loop.
MAX_PAGES = 2500


class NoSsvmError(SystemVmError):
    """A store that no SSVM can look at now."""

    code = FailureCode.UNAVAILABLE


class NoSuchPathError(SystemVmError):
    """A path that is not on the store; the message is CloudStack's."""

    code = FailureCode.INVALID


async def list_templates(call: Callable[..., Awaitable[Any]], store: storage.Store) -> list[ListedTemplate]:
    """Return every template on a store, from all pages; `call` is that of an SSVM.

    Raises: RpcError when a page cannot be read: a part of a listing is none.
    """
    found: list[ListedTemplate] = []
    after = ""
    for _ in range(MAX_PAGES):
        page: TemplateListing = await call(
            storage.TEMPLATE_LIST,
            TemplateListRequest(store, after),
            result=TemplateListing,
            deadline_s=LIST_DEADLINE_S,
        )
        found += page.templates
        if not page.next:
            return found
        after = page.next
    raise RpcError(INTERNAL, f"listing of {store.location} has more than {MAX_PAGES} pages")


class StoreInspection:
    """Calls an SSVM of a store's zone."""

    def __init__(self, database: Database, agents: ConnectedAgents) -> None:
        self._database = database
        self._agents = agents

    async def adopt(self, store_id: int, owner: Account) -> Adoption:
        """Give `owner` the templates on a store that no row has; nothing on the store is changed.

        Raises: RpcError when the store cannot be listed as a whole.
        """
        store = await self._database.read(zones.store_by_id, store_id)
        peer = await self._peer(store)
        listed = await list_templates(peer.call, store.wire)
        return await self._database.run(adoption.adopt, store, listed, owner)

    async def browse(self, store: ImageStore, path: str) -> list[StoreObject]:
        """Return the entries of a directory, or the file at `path`.

        Raises: NoSuchPathError when there is neither.
        """
        peer = await self._peer(store)
        request = BrowseRequest(store.wire, path)
        found: list[StoreObject] = []
        for _ in range(MAX_PAGES):
            try:
                page: StoreObjects = await peer.call(
                    storage.STORAGE_BROWSE, request, result=StoreObjects, deadline_s=LIST_DEADLINE_S
                )
            except RpcError as error:
                if error.reason == TransferFailure.SOURCE_MISSING.value:
                    raise NoSuchPathError(
                        f"Path {path} doesn't exist in store: {store.uuid}", parameter="path"
                    ) from error
                raise
            found += page.objects
            if not page.next:
                break
            request = evolve(request, after=page.next)
        return found

    async def _peer(self, store: ImageStore) -> AgentPeer:
        ssvms = (await self._database.read(names_of_ssvms_by_zone)).get(store.zone_id, [])
        for name in ssvms:
            peer = self._agents.peer(name) if name in self._agents.up(Role.SSVM) else None
            if peer is not None:
                return peer
        raise NoSsvmError(
            f"no secondary storage VM can look at image store {store.name}",
            "wait until the SSVM of its zone is Up; see listSystemVms",
        )
