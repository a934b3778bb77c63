# SPDX-License-Identifier: Apache-2.0
"""The choice of an accelerator, and timeouts that scale with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemvm.host.accelerator import Accelerator, GuestTimeoutScale, probe
from systemvm.service.slowness import MAX_SCALE


@pytest.mark.parametrize(
    ("flags", "device_opens", "expected"),
    [
        ("fpu vmx sse", True, Accelerator.KVM),
        ("fpu svm sse", True, Accelerator.KVM),
        ("fpu sse", True, Accelerator.TCG),  # /dev/kvm opens, but every guest would hang
        ("fpu vmx", False, Accelerator.TCG),
    ],
)
def test_kvm_needs_a_capable_cpu_and_an_openable_device(
    tmp_path: Path, flags: str, device_opens: bool, expected: Accelerator
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    assert probe(lambda: device_opens, tmp_path / "cpuinfo") is expected


def test_a_configured_accelerator_is_not_probed() -> None:
    assert Accelerator.from_config("tcg", lambda: True) is Accelerator.TCG
    with pytest.raises(ValueError, match="hax"):
        Accelerator.from_config("hax", lambda: True)


@pytest.mark.parametrize(
    ("accelerator", "host", "scale"),
    [
        (Accelerator.KVM, 1.0, 1.0),
        (Accelerator.TCG, 1.0, 4.0),
        (Accelerator.KVM, 3.0, 3.0),
        (Accelerator.TCG, 5.0, 20.0),
        (Accelerator.TCG, 30.0, MAX_SCALE),
    ],
)
def test_guest_timeouts_scale_with_emulation_and_slowness(
    accelerator: Accelerator, host: float, scale: float
) -> None:
    assert GuestTimeoutScale(accelerator, lambda: host)() == scale
