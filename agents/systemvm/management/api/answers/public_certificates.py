# SPDX-License-Identifier: Apache-2.0
"""`customcertificate` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class CustomCertificateMessage:
    message: str = required_key("what happened")


@frozen(kw_only=True)
class PublicNameAnswer:
    id: str = required_key("names it for renewPublicCertificate")
    service: str = required_key("console, secondarystorage or page")
    name: str = required_key("the name or address by which browsers reach it now")
    url: str = required_key("its origin")
    zoneid: str | None = optional_key("the id of its zone; the page has none")
    zonename: str | None = optional_key("the name of its zone")
    setting: str | None = optional_key("the setting that can name it")
    configured: str | None = optional_key("what the setting says")
    wantedname: str | None = optional_key("the name by the setting; a certificate must be for it")
    systemvms: list[str] = required_key("the system VMs that use the certificate")
    state: str = required_key("valid, expiring, expired, or none: no system VM has taken one")
    source: str | None = optional_key("own (the public CA of this installation), file, upload or acme")
    issuer: str | None = optional_key("who signed it")
    names: list[str] = required_key("the names and addresses that the certificate is for")
    fingerprint: str | None = optional_key("SHA-256 of the certificate")
    begins: datetime | None = optional_key("when it begins to be valid")
    expires: datetime | None = optional_key("when it, or a certificate of its chain, ends")
    reason: str | None = optional_key("what is wrong")
    hint: str | None = optional_key("what to do about it")
    acmesetting: str | None = optional_key("the setting that has an ACME server order certificates for it")
    acmedirectory: str | None = optional_key("the directory of the ACME server")
    acmestate: str | None = optional_key("unnamed, waiting, ordering, issued, failed or overridden")
    acmereason: str | None = optional_key("why the last order failed")
    acmehint: str | None = optional_key("what to do about it")
    acmenext: datetime | None = optional_key("when a failed order is tried again")


@frozen(kw_only=True)
class CustomCertificateAnswer:
    id: str = required_key("UUID of the certificate")
    name: str = required_key("name of a part of a chain, or CPVMCertificate")
    domainsuffix: str = required_key("the domain that it is for")
    source: str = required_key("upload, acme or chain")
    names: list[str] = required_key("the names and addresses that it is for")
    issuer: str = required_key("who signed it")
    fingerprint: str = required_key("SHA-256 of the certificate")
    created: datetime = required_key("when it was sent or ordered")
    expires: datetime = required_key("when it, or a certificate of its chain, ends")
    sequence: int | None = optional_key("the number of a part of a chain")
    inuse: list[str] = required_key("the names of the zones' settings that it serves")
