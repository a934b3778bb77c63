# SPDX-License-Identifier: Apache-2.0
"""Reserves what images take of their accounts' limits, in the daemon's database.

Jobs of other SSVMs reserve there, too: what this SSVM was told when a job began can be gone by now.
"""

from __future__ import annotations

from systemvm.guest.context import AgentContext
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, NOT_CONNECTED, RpcError
from systemvm.rpc.core.method import Call
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import TEMPLATE_RESERVE, DownloadRequest, QuotaReservation
from systemvm.wire.upload import UploadRequest


class AccountQuota:
    """The reservations of this SSVM's jobs; those of accounts without a limit make none."""

    def __init__(self, context: AgentContext) -> None:
        self._context = context

    async def pass_on(self, call: Call, reservation: QuotaReservation) -> Acknowledgement:
        """Reserve what fetch asks for, at the daemon that is connected now.

        Raises: RpcError `quota_exceeded`, or when the daemon does not answer.
        """
        peer = self._context.peer()
        if peer is None:
            raise RpcError(NOT_CONNECTED, "the daemon is not connected")
        await peer.call(TEMPLATE_RESERVE, reservation, result=Acknowledgement)
        return Acknowledgement()

    async def reserve_stored(self, request: DownloadRequest | UploadRequest, size_bytes: int) -> None:
        """Reserve what an image takes on the store, before it is published: only now its size is certain.

        Raises: RpcError `quota_exceeded` when the account has not as much left.
        """
        if request.quota_bytes is None:
            return
        reservation = QuotaReservation(request.job_id, size_bytes)
        try:
            await self._context.call_daemon(
                TEMPLATE_RESERVE, reservation, result=Acknowledgement, request_id=request.request_id
            )
        except RpcError as error:
            if error.code != METHOD_NOT_FOUND:  # an older daemon counts what SSVMs report
                raise
