# SPDX-License-Identifier: Apache-2.0
"""The objects of extractTemplate, extractIso, extractSnapshot and extractVolume."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class ExtractAnswer:
    """A temporary link to an image."""

    id: str = required_key("UUID of the template, ISO, snapshot or volume")
    name: str = required_key("its name")
    extract_id: str = required_key("UUID of the link", key="extractId")
    account_id: str = required_key("UUID of the owning account", key="accountid")
    state: str = required_key("DOWNLOAD_URL_CREATED")
    extract_mode: str = required_key("HTTP_DOWNLOAD", key="extractMode")
    url: str = required_key("URL of the image, percent-encoded as CloudStack does: decode it before use")
    created: datetime = required_key("when the link was created")
    expires: datetime = required_key("when it expires; an addition to CloudStack's keys")
    storagetype: str = required_key("secondary")
    zoneid: str = required_key("the zone's UUID")
    zonename: str = required_key("the zone's name")
