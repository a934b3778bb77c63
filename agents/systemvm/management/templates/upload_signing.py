# SPDX-License-Identifier: Apache-2.0
"""Signs what a client sends a template to, as CloudStack does (reference 2.15).

CloudStack's metadata is the order to the SSVM, encrypted; here the SSVM has its order from the daemon, so the
metadata only has to be different each time. The key never leaves the daemon: the SSVM gets each signature.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from datetime import UTC, datetime

from systemvm.management.pki.keystore import KeystoreError
from systemvm.management.pki.seal import Seal
from systemvm.management.state import secrets as stored
from systemvm.management.state.database import Connection
from systemvm.management.state.uploads import UploadRow

#: CloudStack's hidden setting for the same.
KEY_NAME = "upload.post.secret.key"
_KEY_BYTES, _METADATA_BYTES = 32, 48


class UploadSigner:
    """Signs with a key that is made once, and stored sealed."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def make_key(self, connection: Connection) -> None:
        """Store a key if there is none yet."""
        if stored.sealed(connection, KEY_NAME) is None:
            stored.put(connection, KEY_NAME, self._seal.close(secrets.token_urlsafe(_KEY_BYTES)))

    def sign(self, connection: Connection, upload: UploadRow) -> str:
        """Return base64 of the HMAC-SHA1 of metadata, URL and time; `make_key` comes first.

        Raises: KeystoreError when there is no key, or it was sealed with another one.
        """
        sealed = stored.sealed(connection, KEY_NAME)
        if sealed is None:
            raise KeystoreError(f"there is no {KEY_NAME}")
        text = upload.metadata + upload.post_url + expires_text(upload.expires)
        digest = hmac.digest(self._seal.open(sealed).encode(), text.encode(), "sha1")
        return base64.b64encode(digest).decode()


def new_metadata() -> str:
    return base64.b64encode(secrets.token_bytes(_METADATA_BYTES)).decode()


def expires_text(moment: datetime) -> str:
    """Return a time as CloudStack writes it here.

    >>> expires_text(datetime(2027, 1, 31, 12, 0, tzinfo=UTC))
    '2027-01-31T12:00:00.000Z'
    """
    at = moment.astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
