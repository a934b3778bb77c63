# SPDX-License-Identifier: Apache-2.0
"""An accelerator is believed only when the CPU can do it too."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemvm.management.hypervisors.accelerator import Accelerator, probe


@pytest.mark.parametrize(
    ("flags", "device_opens", "expected"),
    [
        ("fpu vmx sse", True, Accelerator.KVM),
        ("fpu svm sse", True, Accelerator.KVM),
        ("fpu sse", True, Accelerator.TCG),  # a device that opens and hangs every guest
        ("fpu vmx", False, Accelerator.TCG),
    ],
)
def test_probe(tmp_path: Path, flags: str, device_opens: bool, expected: Accelerator) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    assert probe(lambda: device_opens, tmp_path / "cpuinfo") is expected


def test_a_name_is_taken_as_it_is() -> None:
    assert Accelerator.from_config("tcg", lambda: True) is Accelerator.TCG
    with pytest.raises(ValueError, match="hax"):
        Accelerator.from_config("hax", lambda: True)
