# SPDX-License-Identifier: Apache-2.0
"""The uploads of this SSVM by their URLs, and whether a request for one is signed. Sans-IO."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable

from systemvm.ssvm.upload_messages import ServedUpload, UploadEnd
from systemvm.wire.upload import EXPIRES_HEADER, METADATA_HEADER, SIGNATURE_HEADER, UPLOAD_PATH

#: CloudStack's words (NfsSecondaryStorageResource.java; reference 2.15): its clients show them.
FIELDS_MISSING = "signature, metadata and expires are compulsory fields."
LENGTH_MISSING = "content length is not set in the request or has invalid value."
NOT_SIGNED = "signature validation failed."
NOT_VALID_ANYMORE = "request not valid anymore."
ALREADY_USED = "The one time post url is already used for upload"
ONLY_POST = "only post requests are allowed"
SUCCESSFUL = "upload successful."


class UploadTable:
    """Uploads until the agent drops them; `unix_s` returns the time that their expiry is compared with."""

    def __init__(self, unix_s: Callable[[], float]) -> None:
        self._unix_s = unix_s
        self._uploads: dict[str, ServedUpload] = {}
        self._waiting: dict[str, list[Callable[[UploadEnd], None]]] = {}

    def __len__(self) -> int:
        return len(self._uploads)

    def put(self, uploads: Iterable[ServedUpload], *, is_first: bool = False) -> None:
        """Add uploads, or replace all; one that is known is replaced."""
        if is_first:
            self._uploads.clear()
        for upload in uploads:
            self._uploads[upload.upload_id] = upload
            if upload.end is not None:
                for on_end in self._waiting.pop(upload.upload_id, []):
                    on_end(upload.end)

    def drop(self, upload_id: str) -> None:
        """Forget an upload: its job was aborted."""
        self._uploads.pop(upload_id, None)
        for on_end in self._waiting.pop(upload_id, []):
            on_end(UploadEnd("aborted", "the upload was aborted"))

    def find(self, path: str) -> ServedUpload | None:
        """Return the upload of a path below the endpoint."""
        if not path.startswith(UPLOAD_PATH):
            return None
        return self._uploads.get(path.removeprefix(UPLOAD_PATH))

    def when_ended(self, upload_id: str, on_end: Callable[[UploadEnd], None]) -> None:
        """Call `on_end` once the job has ended; at once when it has."""
        upload = self._uploads.get(upload_id)
        if upload is not None and upload.end is not None:
            on_end(upload.end)
        else:
            self._waiting.setdefault(upload_id, []).append(on_end)

    def is_expired(self, upload: ServedUpload) -> bool:
        return upload.expires_unix_s <= self._unix_s()


def refuse(upload: ServedUpload, header_of: Callable[[str], str], *, lacks_length: bool = False) -> str:
    """Return why a request is not the owner's, in CloudStack's words; empty when it is.

    The daemon has signed metadata, URL and expiry; here they are compared with what it signed, so that its
    key stays there. The time of a comparison depends on no secret.
    """
    given = [header_of(name) for name in (SIGNATURE_HEADER, METADATA_HEADER, EXPIRES_HEADER)]
    if not all(given):
        return FIELDS_MISSING
    if lacks_length:
        return LENGTH_MISSING
    wanted = (upload.signature, upload.metadata, upload.expires)
    # latin-1 is how headers are decoded: no text fails, and none becomes another one
    equal = [
        hmac.compare_digest(one.encode("utf-8"), other.encode("utf-8"))
        for one, other in zip(given, wanted, strict=True)
    ]
    return "" if all(equal) else NOT_SIGNED
