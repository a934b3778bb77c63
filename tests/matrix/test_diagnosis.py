# SPDX-License-Identifier: Apache-2.0
"""The diagnosis of the consoles of VMs that cannot boot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from image.built_image import IMAGES
from matrix.plain_guest import started
from systemvm.management.hypervisors import serial_log

pytestmark = [pytest.mark.image, pytest.mark.netns, pytest.mark.timeout(1200)]

NAME = "v-9-VM"
#: Replacements in the command line, the reason, and the beginning of the hint.
CASES = {
    "no boot arguments": (
        {},
        "has no boot arguments: ",
        "",
    ),
    "wrong root": (
        {"root=LABEL=root": "root=LABEL=nowhere"},
        "did not boot: no root file system on LABEL=nowhere",
        "destroy it, so that it gets a new disk",
    ),
    "no initial file system": (
        {"-initrd": ""},
        "did not boot: the kernel found no root file system on ",
        "run make images: kernel, initial file system and disk",
    ),
    "missing init": (
        {"root=LABEL=root": "init=/nowhere root=LABEL=root"},
        "did not boot: the kernel panicked: Attempted to kill init!",
        f"see systemvm serial {NAME} for its console",
    ),
}


def command(changes: dict[str, str], log: Path) -> list[str]:
    """Boot the CPVM's image directly without credentials, with changes."""
    append = json.loads((IMAGES / "cpvm.manifest.json").read_text())["append"]
    for old, new in changes.items():
        append = append.replace(old, new)
    arguments = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-machine", "q35", "-m", "256",
        "-nodefaults", "-display", "none", "-no-reboot", "-snapshot", "-serial", f"file:{log}",
        "-drive", f"file={IMAGES / 'cpvm.qcow2'},if=virtio,format=qcow2",
        "-kernel", str(IMAGES / "cpvm.vmlinuz"), "-append", append,
    ]  # fmt: skip
    return arguments if "-initrd" in changes else [*arguments, "-initrd", str(IMAGES / "cpvm.initrd")]


@pytest.mark.parametrize("case", CASES)
def test_the_console_of_a_vm_that_did_not_boot_is_diagnosed(case: str, tmp_path: Path) -> None:
    changes, reason, hint = CASES[case]
    log = tmp_path / "serial.log"
    with started(command(changes, log), log) as machine:
        machine.wait(
            "an error on the console", lambda: serial_log.find_error(machine.console, NAME) is not None
        )
        expected = hint or "HINT="
        machine.wait(
            f"{reason}; {expected}",
            lambda: (
                (found := serial_log.find_error(machine.console, NAME)) is not None
                and found.reason.startswith(reason)
                and (found.hint.startswith(hint) if hint else "HINT=" in machine.console and bool(found.hint))
            ),
        )
