# SPDX-License-Identifier: Apache-2.0
"""The messages of an upload between agent, fetch, serve and movers.

serve connects to /run/systemvm/upload.sock once for each request of a client: a line with the call, one with
the answer. After an accepted call to receive it sends the body in frames, which fetch passes to the mover
with the socket itself; fetch answers with a second line once the mover has the body.
"""

from __future__ import annotations

import enum
import struct

import msgspec
from attrs import field, frozen

from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import ImageFormat, Store

START_UPLOAD = "fetch.start_upload"  # agent → fetch: get or start
SERVE_UPLOADS = "serve.uploads"  # agent → serve: more uploads, or all of them
DROP_UPLOAD = "serve.drop_upload"  # agent → serve: forget one

#: A frame is its length in four bytes and so many bytes; a frame of no bytes ends a body.
FRAME_HEADER = struct.Struct(">I")
MAX_FRAME_BYTES = 1 << 20
END_OF_BODY = FRAME_HEADER.pack(0)
MAX_LINE_BYTES = 16 * 1024


class UploadAction(enum.Enum):
    """What a client wants of its upload."""

    STATUS = "status"
    CREATE = "create"  # it says how long the file is
    RECEIVE = "receive"
    TERMINATE = "terminate"


class UploadRefusal(enum.Enum):
    """Why fetch does not do it."""

    UNKNOWN = "unknown"  # no such upload is here now; the agent brings it again
    OFFSET = "offset"  # the body begins elsewhere
    LOCKED = "locked"  # another request brings bytes
    LENGTH = "length"  # the file has another length, or one that nobody has said
    TOO_LARGE = "too_large"
    USED = "used"  # the one request has been made
    EXPIRED = "expired"
    ENDED = "ended"  # the upload has failed; `code` says why
    BROKEN = "broken"  # what was received of this body may not be all of it; the upload goes on


@frozen
class UploadCall:
    """`body_bytes` is the length of the body, of a whole form with the file in it when `is_whole`."""

    job_id: str
    action: UploadAction
    offset: int = 0
    body_bytes: int = 0
    total_bytes: int | None = None
    is_whole: bool = False  # the body is the file, whose length nobody knows before its end


@frozen
class UploadAnswer:
    """`offset` is where the next body begins: everything before it is in the hands of a mover."""

    refusal: UploadRefusal | None = None
    offset: int = 0
    total_bytes: int | None = None
    is_complete: bool = False  # the whole file is received and verified
    code: str = ""  # of a TransferFailure
    message: str = ""


@frozen
class UploadOrder:
    """All that fetch has to know: no signature and no URL."""

    owner: str
    job_id: str
    request_id: str
    template_id: int
    format: ImageFormat
    store: Store
    max_size_bytes: int
    expires_unix_s: float
    checksum: str | None = None
    total_bytes: int | None = None
    has_quota: bool = False  # the account has a limit, in which the length is reserved
    account_id: int = 0
    bucket: S3Bucket | None = None  # that the image goes to, with its keys; None: a mounted store


@frozen
class UploadEnd:
    """How the job of an upload has ended; `code` is empty for success."""

    code: str = ""
    message: str = ""
    total_bytes: int | None = None


@frozen
class ServedUpload:
    """What serve compares a client's request with."""

    upload_id: str
    job_id: str
    metadata: str
    expires: str
    expires_unix_s: float
    signature: str = field(repr=False)
    max_size_bytes: int
    allowed_origins: list[str] = field(factory=list)
    end: UploadEnd | None = None


@frozen
class ServedUploads:
    """`is_first` begins a complete list: uploads that were known before are dropped."""

    uploads: list[ServedUpload]
    is_first: bool = False


@frozen
class DroppedUpload:
    upload_id: str


def encode(message: UploadCall | UploadAnswer) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def decode_call(line: bytes) -> UploadCall:
    """Parse a line of serve.

    Raises: ValueError (as msgspec's are) for anything else.
    """
    return msgspec.convert(msgspec.json.decode(line), type=UploadCall)


def decode_answer(line: bytes) -> UploadAnswer:
    """Parse a line of fetch.

    Raises: ValueError (as msgspec's are) for anything else.
    """
    return msgspec.convert(msgspec.json.decode(line), type=UploadAnswer)
