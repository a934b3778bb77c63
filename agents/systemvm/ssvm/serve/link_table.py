# SPDX-License-Identifier: Apache-2.0
"""The links of this SSVM by the digest of their path: unknown, expired and foreign ones are the same."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable

from systemvm.wire.extract import ExtractLink

#: More links than this are refused by dropping those that expire first.
MAX_LINKS = 20_000


class LinkTable:
    """Links until they expire; `unix_s` returns the time that their expiry is compared with."""

    def __init__(self, unix_s: Callable[[], float], max_links: int = MAX_LINKS) -> None:
        self._unix_s = unix_s
        self._max_links = max_links
        self._links: dict[bytes, ExtractLink] = {}

    def __len__(self) -> int:
        return len(self._links)

    def put(self, links: Iterable[ExtractLink]) -> None:
        """Add links; one that is known is replaced."""
        for link in links:
            self._links[_digest(link.path)] = link
        self.sweep()
        excess = len(self._links) - self._max_links
        if excess > 0:
            for key in heapq.nsmallest(excess, self._links, key=lambda key: self._links[key].expires_unix_s):
                del self._links[key]

    def clear(self) -> None:
        self._links.clear()

    def drop_template(self, account_id: int, template_id: int) -> None:
        """Drop the links to a template: its files are about to be deleted."""
        for key, link in list(self._links.items()):
            if link.is_of(account_id, template_id):
                del self._links[key]

    def find(self, path: str) -> ExtractLink | None:
        """Return the link of a path below the endpoint, if it is valid now.

        Paths are compared by their digests: the time of a lookup depends on no secret.
        """
        link = self._links.get(_digest(path))
        return None if link is None or link.expires_unix_s <= self._unix_s() else link

    def sweep(self) -> None:
        """Forget expired links."""
        now_s = self._unix_s()
        for key in [key for key, link in self._links.items() if link.expires_unix_s <= now_s]:
            del self._links[key]

    def all(self) -> list[ExtractLink]:
        return list(self._links.values())


def _digest(path: str) -> bytes:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()
