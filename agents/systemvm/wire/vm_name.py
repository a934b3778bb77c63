# SPDX-License-Identifier: Apache-2.0
"""The name of a virtual machine, compared without case.

Certificates and DNS carry names in lower case (`s-1-vm`), rows and hypervisors as CloudStack writes them
(`s-1-VM`).
"""

from __future__ import annotations

from attrs import field, frozen


@frozen
class VmName:
    """A name as it is written, equal to every other spelling of it.

    >>> VmName("s-1-VM") == VmName("S-1-vm"), str(VmName("s-1-VM")), VmName("s-1-VM").key
    (True, 's-1-VM', 's-1-vm')
    """

    text: str = field(eq=lambda text: text.lower())

    def __str__(self) -> str:
        return self.text

    @property
    def key(self) -> str:
        """The spelling for comparisons outside of Python, for example in SQL."""
        return self.text.lower()
