# SPDX-License-Identifier: Apache-2.0
"""When an upload ends because its SSVM is away: nobody else can go on with it, as its URL is that address.

An SSVM counts as away since this daemon has found it so: after a start of the daemon all of them are away
for a moment, and one of them can have received a file meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from systemvm.management.state import uploads
from systemvm.management.state.columns import now
from systemvm.management.state.database import Database
from systemvm.management.state.pending_work import DownloadTask
from systemvm.management.state.rows import NotFoundError
from systemvm.management.templates.downloads import UPLOAD_AGAIN
from systemvm.wire.storage import DownloadError
from systemvm.wire.transfer_failure import TransferFailure

#: How long its SSVM can be away beyond the validity of the URL, before an upload ends that has begun: enough
#: for a repair of the SSVM. Its places and its part of the account's limit are free then.
GRACE_S = 3600.0
#: The same before one ends that has not begun, as far as this daemon knows.
UNBEGUN_GRACE_S = 300.0


class UploadEnds:
    """Finds the uploads of SSVMs that are away which end now; `seconds` is a clock."""

    def __init__(self, seconds: Callable[[], float], database: Database) -> None:
        self._seconds = seconds
        self._database = database
        self._away_since_s: dict[str, float] = {}

    def note_away(self, names: Collection[str]) -> None:
        """Note which SSVMs with unfinished uploads are not Up now."""
        self._away_since_s = {name: self._away_since_s.get(name, self._seconds()) for name in names}

    async def why(self, task: DownloadTask, *, exists: bool) -> DownloadError | None:
        """Return why an upload whose SSVM is not Up has to end now; None while it waits."""
        name = task.ref.agent_name or ""
        if not exists:
            return _lost(f"{name} was destroyed, and the URL of the upload is its address")
        grace_s = GRACE_S if task.ref.has_begun else UNBEGUN_GRACE_S
        away_s = self._seconds() - self._away_since_s.get(name, self._seconds())
        if away_s < grace_s or await self._past_expiry_s(task) < grace_s:
            return None
        if task.ref.has_begun:
            return _lost(f"{name}, which has a part of it, has not been Up for {away_s / 60:.0f} minutes")
        what = f"upload did not begin in time: {name} is not Up"
        return DownloadError(TransferFailure.UPLOAD_EXPIRED.value, what, UPLOAD_AGAIN)

    async def _past_expiry_s(self, task: DownloadTask) -> float:
        try:
            upload = await self._database.read(uploads.of_ref, task.ref)
        except NotFoundError:  # it has ended since the task was read
            return 0.0
        return (now() - upload.expires).total_seconds()


def _lost(what: str) -> DownloadError:
    return DownloadError(TransferFailure.UPLOAD_LOST.value, what, UPLOAD_AGAIN)
