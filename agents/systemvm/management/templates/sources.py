# SPDX-License-Identifier: Apache-2.0
"""Logins, signatures and certificates of sources: kept sealed, and handed to SSVMs with each download."""

from __future__ import annotations

from attrs import evolve, frozen

from systemvm.management.pki.seal import Seal
from systemvm.management.state import template_sources
from systemvm.management.state.database import Connection
from systemvm.wire.source_access import SourceAccess, SourceCredentials

#: Of all certificates that one download can trust: they travel in each of its requests.
MAX_TRUSTED_CHARACTERS = 60 * 1024


@frozen
class RegisteredSource:
    """What a user gives besides the URL."""

    credentials: SourceCredentials | None = None
    signature_url: str | None = None


class TemplateSources:
    """Stores what users register, and completes the requests to SSVMs with it."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def register(self, connection: Connection, template_id: int, source: RegisteredSource) -> None:
        """Store the source of a new template, if there is anything to store."""
        login = source.credentials
        if login is None and source.signature_url is None:
            return
        template_sources.put_source(
            connection,
            template_id,
            username=None if login is None else login.username,
            sealed_password=None if login is None else self._seal.close(login.password),
            signature_url=source.signature_url,
        )

    def complete(self, connection: Connection, template_id: int, of_zone: SourceAccess) -> SourceAccess:
        """Return the access of a template's download, from that of its zone.

        Raises: KeystoreError when its password was sealed with another key.
        """
        row = template_sources.source_of(connection, template_id)
        if row is None:
            return of_zone
        login = None
        if row.username is not None:
            password = "" if row.sealed_password is None else self._seal.open(row.sealed_password)
            login = SourceCredentials(row.username, password)
        return evolve(of_zone, credentials=login, signature_url=row.signature_url)


def trusted_pem(
    connection: Connection, template_id: int, zone_id: int, of_zone_file: str | None
) -> str | None:
    """Return all certificates that a download trusts besides the public roots; None without any."""
    found = [of_zone_file] if of_zone_file else []
    found += [row.pem for row in template_sources.trusted_by(connection, template_id, zone_id)]
    return "\n".join(pem.strip() for pem in found) + "\n" if found else None
