# SPDX-License-Identifier: Apache-2.0
"""Messages about links by which images are downloaded from an SSVM, between daemon and SSVMs."""

from __future__ import annotations

import re

from attrs import field, frozen

from systemvm.wire.storage import PublishedFile, Store

EXTRACT_SETUP = (
    "extract.setup"  # daemon → agent: certificate and advertised endpoint; idempotent (protocol 3)
)
EXTRACT_LINKS = "extract.links"  # daemon → agent: more links, or all links; idempotent (protocol 3)

EXTRACT_SERVED = "extract.served"  # daemon → agent: what was sent by links, by account (protocol 3)
EXTRACT_PRESIGN = "extract.presign"  # daemon → agent: a link to an object of a bucket (protocol 3)

#: How many links one message has at most: far below the longest frame.
LINKS_PAGE = 500
MAX_NAME_CHARACTERS = 128
_NOT_ALPHANUMERIC = re.compile(r"[^A-Za-z0-9]+", re.ASCII)


@frozen
class ExtractSetup:
    """How browsers reach this SSVM: every URL comes from `origin`."""

    origin: str  # for example https://203.0.113.100
    certificate_pem: str = field(repr=False)  # leaf first, then the chain; empty without TLS
    private_key_pem: str = field(repr=False)
    trusted_proxies: list[str] = field(factory=list)  # networks whose X-Forwarded-For counts


@frozen
class ExtractLink:
    """A temporary link; anyone who knows it can download the file until it expires."""

    secret: str = field(repr=False)  # a random UUID, part of the URL
    file_name: str
    store: Store
    account_id: int
    template_id: int
    expires_unix_s: float
    store_path: str = ""  # of any file of the store; the numbers are 0 then
    owner_id: int = 0  # the account that what is sent counts for; 0: none

    def is_of(self, account_id: int, template_id: int) -> bool:
        """Return whether it leads to a template, or to a file in its directory."""
        directory = f"template/tmpl/{account_id}/{template_id}/"
        return (self.account_id, self.template_id) == (account_id, template_id) or self.store_path.startswith(
            directory
        )

    @property
    def path(self) -> str:
        """Its path below the advertised endpoint."""
        return f"/userdata/{self.secret}/{self.file_name}"


@frozen
class PresignRequest:
    """An object of a bucket, and how long its link works."""

    store: Store
    file: PublishedFile | None  # of a template; None: any object
    expires_s: int
    path: str = ""  # of any object, which is its key


@frozen
class PresignedLink:
    """A link to the S3 server; anyone who knows it can download the file until it expires."""

    url: str = field(repr=False)


@frozen
class ExtractLinks:
    """Links to serve; `is_first` begins a complete list: links that were known before are dropped."""

    links: list[ExtractLink]
    is_first: bool = False


@frozen
class AccountBytes:
    account_id: int
    size_bytes: int


@frozen
class ServedBytes:
    """What a process has sent since its start; another one begins at 0."""

    instance: str = ""  # of the process; empty while none runs
    accounts: list[AccountBytes] = field(factory=list)


def link_file_name(name: str, extension: str) -> str:
    """Return CloudStack's file name in a link: runs of other characters become dashes.

    >>> link_file_name("Debian 13 (trixie)", "qcow2")
    'Debian-13-trixie-.qcow2'
    """
    return f"{_NOT_ALPHANUMERIC.sub('-', name)[:MAX_NAME_CHARACTERS] or '-'}.{extension}"
