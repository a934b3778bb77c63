# SPDX-License-Identifier: Apache-2.0
"""The `ca.show` method of the daemon's UNIX socket, for operators."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.pki.public import PublicAuthority
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.stream.peer_credentials import OPERATORS


@frozen
class PublicRoot:
    public_root_pem: str


class CaOperations:
    """Methods of the public CA."""

    def __init__(self, public: PublicAuthority) -> None:
        self._public = public

    def add_methods(self, table: MethodTable) -> None:
        table.add(
            "ca.show",
            self._show,
            params=None,
            result=PublicRoot,
            roles=OPERATORS,
            summary="Return the root certificate that browsers must trust, and earlier ones",
        )

    async def _show(self, call: Call, params: None) -> PublicRoot:
        return PublicRoot(self._public.roots_pem.decode())
