# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a file are, and what a download permits on the way there."""

from __future__ import annotations

from typing import Any, Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred

from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.ssvm.fetch.route import SourceRoute
from systemvm.ssvm.http_request import basic_authorization
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.mover_messages import PieceDigests
from systemvm.wire.source_access import SourceAccess
from systemvm.wire.source_url import SourceUrl


class SourceConnection(Protocol):
    """A socket, or a file on a store."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *details: Any) -> None: ...


@frozen
class SourcePolicy:
    """What one download permits: which addresses, which CA, and whether a checksum protects it over http."""

    addresses: AddressPolicy
    source_ca_pem: str | None
    has_checksum: bool
    access: SourceAccess = field(factory=SourceAccess)
    token: str | None = field(default=None, repr=False)  # of a registry, in place of the login
    login_origin: str | None = None  # that of the registered URL; None: nobody gets the login

    def authorization(self, here: SourceUrl) -> str | None:
        """Return the login for a hop, a mirror or a document: it goes to no other origin than its own."""
        if here.origin != self.login_origin:
            return None
        if self.token is not None:
            return f"Bearer {self.token}"
        login = self.access.credentials
        return None if login is None else basic_authorization(login)


@frozen
class DownloadSource:
    """Where the bytes are, after all redirects; `total_bytes` is None when it is not announced."""

    url: SourceUrl
    route: SourceRoute
    total_bytes: int | None
    authorization: str | None = field(default=None, repr=False)
    ca_pem: str | None = field(default=None, repr=False)
    mirrors: tuple[SourceUrl, ...] = field(default=(), repr=False)  # that its server names
    checksum: str | None = None  # `{ALG}hex` of the bytes as they are sent
    pieces: PieceDigests | None = None
    member_directory: str | None = None  # the disk is a file below it in a tar archive
    has_mirrors: bool = False  # one of several servers with the file: size and checksum count

    is_file: bool = False  # on a store

    @property
    def where(self) -> str:
        """The source as a step of the job shows it."""
        return f"{self.url.origin} at {self.route.address}"

    def connect(self, reactor: Any, limits: TransferLimits) -> Deferred[Any]:
        """Open another connection to this source, on the same route; not cancellable.

        Raises: TransferError when it cannot be opened.
        """
        return self.route.connect(reactor, self.url, limits.connect_timeout_s)
