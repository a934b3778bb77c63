# SPDX-License-Identifier: Apache-2.0
"""How an operator describes a host that no daemon drives, and what of it can be changed."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from systemvm.management.foreign_hosts.access import HostAccess, plain_fingerprint
from systemvm.management.foreign_hosts.errors import HostDefinitionError
from systemvm.management.foreign_hosts.hypervisors import ForeignHypervisor
from systemvm.wire.console import TargetTls

_HTTPS = 443


@frozen
class HostDefinition:
    """A host to register."""

    name: str
    zone_id: int
    account_id: int  # that owns the VMs
    domain_id: int
    access: HostAccess
    cluster_id: int | None = None

    @property
    def hypervisor(self) -> ForeignHypervisor:
        return self.access.hypervisor

    @property
    def url(self) -> str:
        return self.access.url

    @property
    def password(self) -> str:
        return self.access.password


@frozen
class HostChange:
    """What changes of a host; None stays."""

    name: str | None = None
    url: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_pem: str | None = field(default=None, repr=False)
    fingerprint: str | None = None

    def apply(self, access: HostAccess) -> HostAccess:
        """Return the changed access.

        Raises: HostDefinitionError when it cannot be verified.
        """
        tls = access.tls
        if self.ca_pem is not None or self.fingerprint is not None:
            tls = read_tls(self.ca_pem, self.fingerprint)
        if access.hypervisor is ForeignHypervisor.VMWARE and not tls.ca_pem:
            raise HostDefinitionError(
                "parameter cacertificate is missing: a vCenter is verified by its CA",
                "send cacertificate",
                parameter="cacertificate",
            )
        return evolve(
            access,
            url=access.url if self.url is None else read_url(self.url),
            username=access.username if self.username is None else self.username,
            password=access.password if self.password is None else self.password,
            tls=tls,
        )


def read_url(text: str) -> str:
    """Return `https://HOST[:PORT]` of what clients of CloudStack send: a URL with any scheme, or a host.

    Raises: HostDefinitionError.

    >>> read_url("http://xen-1.example.test/")
    'https://xen-1.example.test'
    """
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = parts.hostname or "", parts.port or _HTTPS
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    is_extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if not host or is_extra or parts.scheme not in ("http", "https"):
        raise HostDefinitionError(
            f"url is not that of a host: {text.rpartition('@')[2][:200]}",
            "send https://HOST or https://HOST:PORT; username and password are parameters of their own",
            parameter="url",
        )
    if parts.scheme == "http" and parts.port == 80:
        port = _HTTPS
    shown = f"[{host}]" if ":" in host else host
    return f"https://{shown}" if port == _HTTPS else f"https://{shown}:{port}"


def read_tls(ca_pem: str | None, fingerprint: str | None) -> TargetTls:
    """Return how a host is verified; by nothing when neither is given.

    Raises: HostDefinitionError for what is neither a certificate nor a fingerprint.
    """
    if ca_pem and fingerprint:
        raise HostDefinitionError(
            "cacertificate and fingerprint are given: one of them verifies the host",
            "omit one of them",
            parameter="fingerprint",
        )
    if ca_pem:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError):
            raise HostDefinitionError(
                "cacertificate is not a certificate in PEM",
                "send it with its BEGIN and END lines",
                parameter="cacertificate",
            ) from None
        return TargetTls(ca_pem=ca_pem)
    if not fingerprint:
        return TargetTls()
    try:
        return TargetTls(fingerprint=plain_fingerprint(fingerprint))
    except ValueError as wrong:
        raise HostDefinitionError(
            f"fingerprint is not {wrong}", "send it as the host shows it", parameter="fingerprint"
        ) from None
