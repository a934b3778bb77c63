# SPDX-License-Identifier: Apache-2.0
"""The `directdownloadcertificate` object."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class SourceCertificateAnswer:
    id: str = required_key("the UUID")
    alias: str = required_key("the name")
    zoneid: str = required_key("UUID of the zone whose downloads trust it")
    zonename: str = required_key("name of the zone")
    templateid: str | None = optional_key("UUID of the only template whose download trusts it")
    version: str = required_key("version of the certificate")
    subject: str = required_key("its subject")
    issuer: str = required_key("its issuer")
    validity: str = required_key("from when to when it is valid")
    serialnum: str = required_key("its serial number")
    fingerprint: str = required_key("SHA-256 of the certificate")
    hypervisor: str = required_key("KVM")
