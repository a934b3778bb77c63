# SPDX-License-Identifier: Apache-2.0
"""Messages about images that users upload to an SSVM, between daemon and SSVMs.

An upload is a job beside downloads: `template.progress`, `template.finished`, `template.abort` and
`storage.jobs` speak of it, too. `extract.setup` tells an SSVM its certificate and public address.
"""

from __future__ import annotations

from attrs import field, frozen

from systemvm.wire.storage import ImageFormat, Store

TEMPLATE_UPLOAD = "template.upload"  # daemon → agent: accept one upload; idempotent by job_id (protocol 3)

#: How many uploads an SSVM has in all, with those whose client has not come yet.
MAX_UPLOADS = 64
#: CloudStack's headers of a request to the URL; their names are compared without case.
SIGNATURE_HEADER, METADATA_HEADER, EXPIRES_HEADER = "X-signature", "X-metadata", "X-expires"
#: The path of an upload below the advertised endpoint is this and its id.
UPLOAD_PATH = "/upload/"


@frozen
class UploadRequest:
    """All that an SSVM needs to accept one template or ISO from its user.

    An upload that has not begun when it expires ends with `upload_expired`. One that has begun can go on
    later, and ends with `stalled` when its user does not.
    """

    job_id: str
    request_id: str
    template_id: int
    account_id: int
    unique_name: str
    description: str
    format: ImageFormat
    store: Store
    max_size_bytes: int
    upload_id: str  # the UUID in the URL's path
    post_url: str
    metadata: str  # as the client sends it; the SSVM does not read it
    expires: str  # as the client sends it
    expires_unix_s: float
    signature: str = field(repr=False)  # base64 of HMAC-SHA1(metadata + post_url + expires)
    checksum: str | None = None  # `{ALG}hex`; wire/checksum.py reads it
    public: bool = False
    hvm: bool = True
    allowed_origins: list[str] = field(factory=list)  # of pages that upload from a browser
    quota_bytes: int | None = None  # what the account can still store; None is no limit
    total_bytes: int | None = None  # of a status from before; the length of the file, once its client said it
