# SPDX-License-Identifier: Apache-2.0
"""The inspector for each format."""

from __future__ import annotations

from systemvm.ssvm.formats.inspector import Inspector
from systemvm.wire.storage import ImageFormat

#: The modules that `for_format` imports late: a process that is forked for each image imports them first.
MODULES = ("iso", "ova", "qcow2", "raw", "tar", "vhd", "vhdx", "vmdk")


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

            return OvaInspector(max_virtual_size_bytes, for_format)
        case ImageFormat.ISO:
            from systemvm.ssvm.formats.iso import IsoInspector

            return IsoInspector()
        case ImageFormat.TAR:
            from systemvm.ssvm.formats.tar import TarInspector

            return TarInspector()
        case ImageFormat.RAW:
            from systemvm.ssvm.formats.raw import RawInspector

            return RawInspector()
