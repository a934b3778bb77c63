# SPDX-License-Identifier: Apache-2.0
"""An SSVM's side of snapshots for tests: its own code writes to the directory of the small cloud's store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attrs import frozen

from small_cloud import SmallCloud
from systemvm.ssvm import snapshot_messages as messages
from systemvm.ssvm.store import snapshots
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.snapshot import SNAPSHOT_ADOPT, SNAPSHOT_DELETE, SNAPSHOT_PUBLISH, SNAPSHOT_WRITE

_MOUNT_ID = "6f4b3c2a-1111-3222-8333-444455556666"


@frozen
class SnapshotStore:
    """The store of a small cloud, whose SSVM answers calls about snapshots."""

    root: Path

    @classmethod
    def of(cls, cloud: SmallCloud) -> SnapshotStore:
        store = cls(Path(cloud.store.host_path or ""))
        answers = cloud.ssvm_peer.answers
        answers[SNAPSHOT_WRITE] = lambda piece: store._do(
            snapshots.write_piece, messages.SnapshotWrite, piece.place, piece.offset, piece.data
        )
        answers[SNAPSHOT_PUBLISH] = lambda end: store._do(
            snapshots.publish, messages.SnapshotPublish, end.place, end.size_bytes
        )
        answers[SNAPSHOT_ADOPT] = lambda order: store._do(
            snapshots.adopt, messages.SnapshotAdopt, order.place, order.image_account_id, order.image_id
        )
        answers[SNAPSHOT_DELETE] = lambda place: store._do(
            snapshots.remove_snapshot, messages.SnapshotKey, place
        )
        return store

    def files(self) -> dict[str, Path]:
        """Return the files of snapshots by name, the hidden ones too."""
        found = (path for path in self.root.glob("snapshots/**/*") if path.is_file())
        return {path.name: path for path in found}

    def _do(self, function: Any, message: Any, place: Any, *more: Any) -> Acknowledgement:
        mount = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            key = (_MOUNT_ID, place.account_id, place.volume_id, place.snapshot_id)
            function(mount, message(*key, *more))
        finally:
            os.close(mount)
        return Acknowledgement()
