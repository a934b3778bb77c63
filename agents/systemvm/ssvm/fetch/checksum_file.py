# SPDX-License-Identifier: Apache-2.0
"""Checksum files beside images: SHA256SUMS, `.sha256`, CHECKSUM; as GNU and BSD tools write them.

0123…  image.qcow2             GNU: a star before the name says binary mode
SHA256 (image.qcow2) = 0123…   BSD, and openssl's SHA2-256(image.qcow2)= 0123…
0123…                          only the digest: the file is of one image
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from systemvm.ssvm.failure import TransferError
from systemvm.wire.checksum import Checksum, ChecksumAlgorithm, parse
from systemvm.wire.transfer_failure import TransferFailure

MAX_LINES = 20_000
#: Of stripped lines; each takes time in proportion to the length of a line, whatever is in it.
_GNU = re.compile(r"\\?([0-9A-Fa-f]{32,128})(?:[ \t]+\*?(\S.*))?")
_BSD = re.compile(r"([A-Za-z0-9-]{3,10})\s*\((.+?)\)\s*=\s*([0-9A-Fa-f]{32,128})")
_SUBJECT = "checksum file"


def find_checksum(text: str, file_name: str) -> Checksum:
    """Return the strongest checksum of a file.

    Raises: TransferError when it has none, or contradicts itself.
    """
    named: list[Checksum] = []
    bare: list[Checksum] = []
    for line in text.splitlines()[:MAX_LINES]:
        name, found = _read(line)
        if found is None:
            continue
        if name is None:
            bare.append(found)
        elif PurePosixPath(name).name == file_name:
            named.append(found)
    candidates = named or (bare if len(bare) == 1 else [])
    if not candidates:
        raise TransferError(
            TransferFailure.CHECKSUM_INVALID,
            f"{_SUBJECT} has no checksum of {file_name[:200]}",
            "give the URL of the publisher's checksum file for this image",
        )
    best = max(candidates, key=lambda each: each.algorithm.hex_digits)
    if any(each.algorithm is best.algorithm and each.hex != best.hex for each in candidates):
        raise TransferError(
            TransferFailure.CHECKSUM_INVALID,
            f"{_SUBJECT} has different checksums of {file_name[:200]}",
            "compare the file with the publisher's",
        )
    return best


def _read(line: str) -> tuple[str | None, Checksum | None]:
    line = line.strip()
    bsd = _BSD.fullmatch(line)
    if bsd is not None:
        algorithm = _algorithm(bsd[1])
        if algorithm is None or len(bsd[3]) != algorithm.hex_digits:
            return None, None
        return bsd[2], Checksum(algorithm, bsd[3].lower())
    gnu = _GNU.fullmatch(line)
    if gnu is None:
        return None, None
    try:
        return gnu[2], parse(gnu[1])
    except ValueError:  # no algorithm has this length
        return None, None


def _algorithm(name: str) -> ChecksumAlgorithm | None:
    try:
        return ChecksumAlgorithm.named(name.upper().replace("SHA2-", "SHA"))
    except ValueError:
        return None
