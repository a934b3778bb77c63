# SPDX-License-Identifier: Apache-2.0
"""Names of virtual machines, compared without case."""

from __future__ import annotations

from systemvm.wire.vm_name import VmName


def test_spellings_of_one_name_are_equal_and_found_in_a_mapping() -> None:
    assert VmName("s-1-VM") == VmName("S-1-vm")
    assert {VmName("s-1-VM"): 1}[VmName("s-1-vm")] == 1
    assert VmName("s-1-VM") != VmName("s-11-VM")


def test_spelling_is_kept() -> None:
    assert str(VmName("s-1-VM")) == "s-1-VM"
    assert VmName("s-1-VM").key == "s-1-vm"
