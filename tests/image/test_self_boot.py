# SPDX-License-Identifier: Apache-2.0
"""An image boots by itself, by BIOS and GRUB, on plain QEMU without kernel, firmware or options."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from image.built_image import IMAGES, TOP

pytestmark = [pytest.mark.image, pytest.mark.netns, pytest.mark.timeout(1200)]

# Without boot arguments an appliance can only say so; it has then got as far as its own first program.
MARKER = "systemvm-preinit: REASON=no_boot_arguments"


@pytest.mark.parametrize(
    ("role", "drive"),
    [("ssvm", "if=virtio"), ("cpvm", "if=ide")],
    ids=["ssvm-virtio", "cpvm-ide"],
)
def test_an_image_boots_from_its_own_disk(role: str, drive: str, tmp_path: Path) -> None:
    accelerator = (TOP / "build/accelerator").read_text().strip().replace("tcg", "tcg,tb-size=128")
    serial = tmp_path / "serial.log"
    # a namespace of its own: plain QEMU brings a user network along
    process = subprocess.Popen(
        ["unshare", "--net", "qemu-system-x86_64", "-accel", accelerator,
         "-m", "256", "-display", "none", "-no-reboot", "-serial", f"file:{serial}",
         "-drive", f"file={IMAGES / f'{role}.qcow2'},{drive},snapshot=on,file.locking=off"],
    )  # fmt: skip
    try:
        # a busy host is no failure: only a console that stays silent for this long is
        seen, deadline = "", time.monotonic() + 180
        while MARKER not in (said := _said(serial)):
            assert process.poll() is None, f"QEMU ended: {said[-2000:]}"
            if said != seen:
                seen, deadline = said, time.monotonic() + 180
            assert time.monotonic() < deadline, f"silent for 180 s: {said[-2000:]}"
            time.sleep(0.2)  # a file that grows has no event that QEMU would send
    finally:
        process.kill()
        process.wait()
    assert "systemvm-preinit: HINT=" in _said(serial)


def _said(serial: Path) -> str:
    return serial.read_text(errors="replace") if serial.exists() else ""
