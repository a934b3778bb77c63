# SPDX-License-Identifier: Apache-2.0
"""The files that a volume snapshot consists of on its store (protocol 3)."""

from __future__ import annotations

from attrs import frozen


@frozen
class StoredChain:
    """A snapshot of a volume and those that it is an increment on, the whole one first."""

    account_id: int
    volume_id: int
    snapshot_ids: list[str]
