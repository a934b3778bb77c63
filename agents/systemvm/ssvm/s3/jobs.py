# SPDX-License-Identifier: Apache-2.0
"""The jobs that write to a bucket: marked before their first byte, and what they have left is removed."""

from __future__ import annotations

import time
from collections.abc import Callable

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.properties import template
from systemvm.ssvm.s3 import answers, listing, object_keys
from systemvm.ssvm.s3.listing import Exchange
from systemvm.ssvm.s3.object_keys import JOBS, PROBE, QUARANTINE, TEMPLATES
from systemvm.ssvm.store_messages import JobKey, SweepRequest, require_name
from systemvm.wire.transfer_failure import TransferFailure

#: A job of another SSVM, or an upload that no job names, which has not changed for a day has no owner.
ABANDONED_AFTER_S = 24 * 3600.0
#: How long the quarantine keeps a template.
KEPT_S = 7 * 24 * 3600.0


class BucketJobs:
    """The marks of jobs in one bucket."""

    def __init__(self, server: Exchange, now_s: Callable[[], float] = time.time) -> None:
        self._server = server
        self._now_s = now_s

    def probe(self) -> None:
        """Write and delete an object; a bucket that is full takes none, which says nothing about the keys.

        Raises: TransferError `store_refuses` when its keys must not.
        """
        try:
            listing.put(self._server, PROBE, b"")
            listing.delete(self._server, PROBE)
        except TransferError as error:
            if error.code is not TransferFailure.STORE_FULL:
                raise

    def make(self, job: JobKey, image: str) -> None:
        """Mark a job; a mark that is there is kept, as the job continues where it says."""
        key = object_keys.journal_key(require_name(job.owner), require_name(job.job_id), image)
        if listing.head(self._server, key) is None:
            listing.put(self._server, key, b"")

    def discard(self, owner: str, job_id: str) -> None:
        """Remove all that a job has left, but not what it has published."""
        prefix = object_keys.job_prefix(require_name(owner), require_name(job_id))
        for mark in list(listing.objects(self._server, prefix)):
            self._discard(mark.key)

    def sweep(self, request: SweepRequest) -> None:
        """Remove what ended jobs have left, uploads that no job names, and what was put away a week ago."""
        owner, used = require_name(request.owner), set()
        for each in list(listing.objects(self._server, JOBS)):
            mark = object_keys.parse_mark(each.key)
            if mark is None:
                continue
            if mark.owner != owner:
                is_leftover = self._is_old(each.modified_unix_s, ABANDONED_AFTER_S)
            elif mark.job_id in request.keep_job_ids:
                is_leftover = False
            else:
                is_leftover = not (request.keep_resumable and each.size_bytes)
            if is_leftover:
                self._discard(each.key)
            else:
                used.add(mark.image)
        for upload in list(listing.uploads(self._server, TEMPLATES)):
            if upload.key not in used and self._is_old(answers.iso_date(upload.initiated), ABANDONED_AFTER_S):
                listing.abort(self._server, upload)
        self._remove_expired()

    def _discard(self, key: str) -> None:
        mark = object_keys.parse_mark(key)
        if mark is not None:
            for upload in list(listing.uploads(self._server, mark.image)):
                if upload.key == mark.image:
                    listing.abort(self._server, upload)
            if not self._is_published(mark.image):
                listing.delete(self._server, mark.image)
        listing.delete(self._server, key)  # last: a deletion that breaks off is repeated

    def _is_published(self, image: str) -> bool:
        """Whether the template at this place has the image, or cannot be read: then it is kept."""
        place = object_keys.parse_place(image)
        if place is None:
            return True  # none of ours
        answer = listing.get(self._server, object_keys.properties_key(place[0], place[1]))
        return answer is not None and template.names_file(answer.body, place[2])

    def _remove_expired(self) -> None:
        for each in list(listing.objects(self._server, QUARANTINE)):
            since, _, place = each.key.removeprefix(QUARANTINE).partition("-")
            account, _, number = place.partition("-")
            if not (since.isdecimal() and account.isdecimal() and number.isdecimal()):
                continue
            if not self._is_old(float(since), KEPT_S):
                continue
            if listing.head(self._server, object_keys.properties_key(int(account), int(number))) is None:
                prefix = object_keys.template_prefix(int(account), int(number))
                for left in list(listing.objects(self._server, prefix)):
                    listing.delete(self._server, left.key)
            listing.delete(self._server, each.key)

    def _is_old(self, since_s: float, age_s: float) -> bool:
        """Whether something is older than that; what has no date is not."""
        return 0 < since_s < self._now_s() - age_s
