# SPDX-License-Identifier: Apache-2.0
"""`diskoffering` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class DiskOfferingAnswer:
    """A size of data volumes."""

    id: str = required_key("the UUID")
    name: str = required_key("the name")
    displaytext: str = required_key("a description for people")
    disksize: int = required_key("size in GiB; 0 when its user chooses the size")
    iscustomized: bool = required_key("whether its user chooses the size")
    storagetype: str = required_key("local or shared")
    provisioningtype: str = required_key("thin, sparse or fat")
    tags: str | None = optional_key("tags of the storage pools that take its volumes")
    displayoffering: bool = required_key("always true")
    iscustomizediops: bool = required_key("always false")
    created: datetime = required_key("when it was created")
