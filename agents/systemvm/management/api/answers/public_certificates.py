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
