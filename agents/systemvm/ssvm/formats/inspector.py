# SPDX-License-Identifier: Apache-2.0
"""The interface of inspectors, and the one for each format."""

from __future__ import annotations

from typing import Protocol

from systemvm.wire.storage import ImageFormat

#: The modules that `for_format` imports late: a process that is forked for each image imports them first.
MODULES = ("iso", "ova", "qcow2", "raw", "tar", "vhd", "vhdx", "vmdk")


class Inspector(Protocol):
    """Inspects an image as a stream; both methods raise TransferError when the image must not be used."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Inspect the next bytes."""

    def finish(self) -> int:
        """Inspect the end; return the virtual size in bytes."""


def for_format(image_format: ImageFormat, max_virtual_size_bytes: int) -> Inspector:
    """Return a new inspector; imports are late because a mover needs only one of them."""
    match image_format:
        case ImageFormat.QCOW2:
            from systemvm.ssvm.formats.qcow2 import Qcow2Inspector

            return Qcow2Inspector(max_virtual_size_bytes)
        case ImageFormat.VHD:
            from systemvm.ssvm.formats.vhd import VhdInspector

            return VhdInspector(max_virtual_size_bytes)
        case ImageFormat.VHDX:
            from systemvm.ssvm.formats.vhdx import VhdxInspector

            return VhdxInspector(max_virtual_size_bytes)
        case ImageFormat.VMDK:
            from systemvm.ssvm.formats.vmdk import VmdkInspector

            return VmdkInspector(max_virtual_size_bytes)
        case ImageFormat.OVA:
            from systemvm.ssvm.formats.ova import OvaInspector

            return OvaInspector(max_virtual_size_bytes)
        case ImageFormat.ISO:
            from systemvm.ssvm.formats.iso import IsoInspector

            return IsoInspector()
        case ImageFormat.TAR:
            from systemvm.ssvm.formats.tar import TarInspector

            return TarInspector()
        case ImageFormat.RAW:
            from systemvm.ssvm.formats.raw import RawInspector

            return RawInspector()
