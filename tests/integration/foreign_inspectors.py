# SPDX-License-Identifier: Apache-2.0
"""A program of build/oracles: what oslo.utils and dissect.hypervisor think of files; imports nothing of ours.

It reads `PATH FORMAT` lines and writes a JSON line for each: virtual sizes, or why there is none.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from dissect.hypervisor.disk.qcow2 import QCow2
from dissect.hypervisor.disk.vhd import VHD
from dissect.hypervisor.disk.vhdx import VHDX
from dissect.hypervisor.disk.vmdk import VMDK
from oslo_utils.imageutils import format_inspector

_OSLO = {"QCOW2": "qcow2", "VHD": "vhd", "VHDX": "vhdx", "VMDK": "vmdk", "ISO": "iso", "RAW": "raw"}


def oslo(path: str, image_format: str) -> dict[str, Any]:
    try:
        found = format_inspector.detect_file_format(path)
        if found is None or _OSLO[image_format] != found.NAME:
            return {"error": f"it is {found}"}
        found.safety_check()
        return {"size": found.virtual_size}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def dissect(path: str, image_format: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            if image_format == "QCOW2":
                return {"size": QCow2(file).size}
            if image_format == "VHD":
                return {"size": VHD(file).size}
            if image_format == "VHDX":
                return {"size": VHDX(file).size}
            if image_format == "VMDK":
                return {"size": sum(each.size for each in VMDK(file).disks)}
            file.seek(0, os.SEEK_END)
            return {"size": file.tell()}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def main() -> None:
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        path, image_format = line.rstrip("\n").rsplit(" ", 1)
        answer = {"oslo": oslo(path, image_format), "dissect": dissect(path, image_format)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
