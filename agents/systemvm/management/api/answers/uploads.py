# SPDX-License-Identifier: Apache-2.0
"""The object of getUploadParamsForTemplate and getUploadParamsForIso."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class UploadParamsAnswer:
    """What an image is uploaded to, and with which headers."""

    id: str = required_key("UUID of the template or ISO")
    post_url: str = required_key("URL that the image is sent to", key="postURL")
    metadata: str = required_key("value of the header X-metadata")
    expires: str = required_key("value of the header X-expires: when the upload must have begun")
    signature: str = required_key("value of the header X-signature")
