# SPDX-License-Identifier: Apache-2.0
"""Whether the file name of a URL fits the registered format (reference 2.8)."""

from __future__ import annotations

from systemvm.wire.storage import ImageFormat

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
#: The formats of each known extension; a file with any other extension can have any format.
_FORMATS: dict[str, frozenset[ImageFormat]] = {
    ".qcow2": frozenset({ImageFormat.QCOW2}),
    ".img": frozenset({ImageFormat.QCOW2, ImageFormat.RAW}),
    ".raw": frozenset({ImageFormat.RAW}),
    ".iso": frozenset({ImageFormat.ISO}),
    ".vhd": frozenset({ImageFormat.VHD}),
    ".vhdx": frozenset({ImageFormat.VHDX}),
    ".ova": frozenset({ImageFormat.OVA}),
    ".vmdk": frozenset({ImageFormat.VMDK}),
    ".tar": frozenset({ImageFormat.TAR}),
}


def check(path: str, image_format: ImageFormat) -> None:
    """Compare the extension of a URL's path with the format.

    Raises: ValueError when a file of that name cannot have the format.
    """
    name = path.rpartition("/")[2].lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    dot = name.rfind(".")
    formats = _FORMATS.get(name[dot:]) if dot >= 0 else None
    if formats is None or image_format in formats:
        return
    expected = " or ".join(sorted(one.value for one in formats))
    raise ValueError(f"format does not fit the URL: {image_format.value} given, *{name[dot:]} is {expected}")
