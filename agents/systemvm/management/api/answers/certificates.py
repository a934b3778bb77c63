# SPDX-License-Identifier: Apache-2.0
"""`caprovider` and `cacertificates` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class CaProviderAnswer:
    name: str = required_key("root")
    description: str = required_key("what it is")


@frozen(kw_only=True)
class CaCertificateAnswer:
    certificate: str = required_key("the trusted roots of the control channel, PEM")


@frozen(kw_only=True)
class IssuedCertificateAnswer:
    certificate: str = required_key("the certificate, PEM")
    cacertificates: str = required_key("the root that has signed it, PEM")
