# SPDX-License-Identifier: Apache-2.0
"""`imagestore` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class StoreObjectAnswer:
    name: str = required_key("name in its directory")
    isdirectory: bool = required_key("whether it is a directory")
    size: int = required_key("bytes of a file; 0 for a directory")
    templateid: str | None = optional_key("UUID of the template or ISO that it belongs to")
    templatename: str | None = optional_key("name of that template or ISO")
    format: str | None = optional_key("format of that template or ISO")
    lastupdated: datetime = required_key("when it was changed last, by the server's clock")


@frozen(kw_only=True)
class AdoptionAnswer:
    adopted: list[str] = required_key("UUIDs of the templates and ISOs that were taken over")
    known: int = required_key("how many were known already")
    problems: list[str] = required_key("account/template: why one cannot be taken over")


@frozen(kw_only=True)
class MigrationAnswer:
    message: str = required_key("what was moved")
    migrationtype: str = required_key("complete or balance")
    success: bool = required_key("whether everything was moved")


@frozen(kw_only=True)
class ImageStoreAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    zoneid: str = required_key("the zone's UUID")
    zonename: str = required_key("the zone's name")
    url: str = required_key("nfs://server/path, or https://endpoint/bucket")
    protocol: str = required_key("nfs, or https or http of a bucket")
    providername: str = required_key("NFS or S3")
    scope: str = required_key("ZONE")
    readonly: bool = required_key("whether nothing is written to it")
    retiring: bool = required_key(
        "whether its content moves to other stores; an addition to CloudStack's keys"
    )
    disksizetotal: int | None = optional_key(
        "capacity in bytes, as its SSVM last measured it; none of a bucket that takes any amount"
    )
    disksizeused: int | None = optional_key(
        "bytes in use, as its SSVM last measured it; of a bucket those of its templates"
    )
    notificationthreshold: float = required_key(
        "a fuller store is reported, between 0 and 1; an addition to CloudStack's keys"
    )
    capacitythreshold: float = required_key(
        "a fuller store gets nothing new, between 0 and 1; an addition to CloudStack's keys"
    )
    hasannotations: bool = required_key("always false")


@frozen(kw_only=True)
class StoreObjectLinkAnswer:
    """A temporary link to a file of an image store."""

    id: str = required_key("UUID of the link")
    name: str = required_key("name of the file")
    state: str = required_key("DOWNLOAD_URL_CREATED")
    url: str = required_key("URL of the file, as it is")
    created: datetime = required_key("when the link was created")
    expires: datetime = required_key("when it expires; an addition to CloudStack's keys")
