# SPDX-License-Identifier: Apache-2.0
"""Which certificate each system VM of this daemon took last, and why it refused a newer one."""

from __future__ import annotations

from attrs import evolve, frozen

from systemvm.management.pki.public import PublicIdentity
from systemvm.wire.vm_name import VmName


@frozen
class Presented:
    """What a system VM shows to browsers; without an identity it has taken none since this daemon began."""

    host: str
    identity: PublicIdentity | None = None
    refusal: str = ""  # of a newer one; the one before stays in use


class PresentedCertificates:
    """Read by several threads; each change replaces one value."""

    def __init__(self) -> None:
        self._by_name: dict[VmName, Presented] = {}

    def of(self, name: str) -> Presented | None:
        """Return that of a system VM by its name."""
        return self._by_name.get(VmName(name))

    def took(self, name: str, host: str, identity: PublicIdentity) -> None:
        self._by_name[VmName(name)] = Presented(host, identity)

    def refused(self, name: str, host: str, why: str) -> None:
        before = self._by_name.get(VmName(name)) or Presented(host)
        self._by_name[VmName(name)] = evolve(before, refusal=why)
