# SPDX-License-Identifier: Apache-2.0
"""`details` of deployVirtualMachine: what its owner notes of a VM, apart from what CloudStack acts on.

A key that CloudStack acts on (VmDetailConstants.java) is obeyed or rejected, never kept without its effect.
"""

from __future__ import annotations

from collections.abc import Mapping

from systemvm.management.api.errors import parameter_error

MAX_KEY_CHARACTERS = 255
#: The only one that is obeyed; as in CloudStack, it precedes the parameter of that name.
ROOT_DISK_SIZE = "rootdisksize"

#: In lower case: CloudStack reads some of them in several spellings.
_WITH_EFFECT = frozenset({
    "bios", "bootmode", "boottype", "configdrivelocation", "cpu.corespersocket", "cpunumber", "cpuspeed",
    "datadiskcontroller", "deployvm", "encrypted.password", "guest.cpu.mode", "guest.cpu.model",
    "hypervisortoolsversion", "io.policy", "iothreads", "keyboard", "kvm.vnc.address", "kvm.vnc.port",
    "memory", "nestedvirtualizationflag", "nicadapter", "nicmultiqueuenumber", "nicpackedvirtqueuesenabled",
    "password", "platform", "ramreservation", "rootdiskcontroller", "ssh.publickey", "svga.vramsize",
    "timeoffset", "uefi", "video.hardware", "video.ram",
})  # fmt: skip
_PREFIXES_WITH_EFFECT = ("extraconfig", "kvm.", "virtual.tpm", "xen", "vmware", "ovf")


def noted_details(given: Mapping[str, str]) -> dict[str, str]:
    """Return the details that are kept and shown.

    Raises: ApiError 431 for one that would have to have an effect.
    """
    noted: dict[str, str] = {}
    for key, value in given.items():
        lower = key.lower()
        if lower == ROOT_DISK_SIZE:
            continue
        if lower in _WITH_EFFECT or lower.startswith(_PREFIXES_WITH_EFFECT):
            raise parameter_error(
                f"details[0].{key[:64]}", f"details[0].{key[:64]} is not supported in this release", "omit it"
            )
        if len(key) > MAX_KEY_CHARACTERS:
            raise parameter_error(
                "details", f"details: a key has {len(key)} characters, the maximum is {MAX_KEY_CHARACTERS}"
            )
        noted[key] = value
    return noted
