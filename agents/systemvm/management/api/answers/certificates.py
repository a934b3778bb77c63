# SPDX-License-Identifier: Apache-2.0
"""`caprovider` and `cacertificates` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import always


@frozen(kw_only=True)
class CaProviderAnswer:
    name: str = always("root")
    description: str = always("what it is")


@frozen(kw_only=True)
class CaCertificateAnswer:
    certificate: str = always("the trusted roots of the control channel, PEM")
