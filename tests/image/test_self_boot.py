# SPDX-License-Identifier: Apache-2.0
"""An image boots from its disk by BIOS and GRUB on plain QEMU, without kernel, firmware or options."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from image.built_image import IMAGES, TOP
from systemvm.service.slowness import scaled_s

pytestmark = [pytest.mark.image, pytest.mark.netns, pytest.mark.timeout(1200)]

# Printed by an appliance without boot arguments: it has then started its own first program.
MARKER, HINT = "systemvm-preinit: REASON=no_boot_arguments", "systemvm-preinit: HINT="


@pytest.mark.parametrize(
    ("role", "drive"),
    [("ssvm", "if=virtio"), ("cpvm", "if=ide")],
    ids=["ssvm-virtio", "cpvm-ide"],
)
def test_an_image_boots_from_its_own_disk(role: str, drive: str, tmp_path: Path) -> None:
    accelerator = (TOP / "build/accelerator").read_text().strip().replace("tcg", "tcg,tb-size=128")
    serial = tmp_path / "serial.log"
    # in its own namespace, because plain QEMU includes a user network
    process = subprocess.Popen(
        ["unshare", "--net", "qemu-system-x86_64", "-accel", accelerator,
         "-m", "256", "-display", "none", "-no-reboot", "-serial", f"file:{serial}",
         "-drive", f"file={IMAGES / f'{role}.qcow2'},{drive},snapshot=on,file.locking=off"],
    )  # fmt: skip
    try:
        # a busy host is not a failure; a console that is silent for this long is
        seen, changed_s = "", time.monotonic()
        while MARKER not in (console := _read(serial)) or HINT not in console:
            assert process.poll() is None, f"QEMU ended: {console[-2000:]}"
            if console != seen:
                seen, changed_s = console, time.monotonic()
            silent_s = time.monotonic() - changed_s
            assert silent_s < scaled_s(180.0), f"silent for {silent_s:.0f} s: {console[-2000:]}"
            time.sleep(0.2)  # QEMU sends no event when it writes to the file
    finally:
        process.kill()
        process.wait()


def _read(serial: Path) -> str:
    return serial.read_text(errors="replace") if serial.exists() else ""
