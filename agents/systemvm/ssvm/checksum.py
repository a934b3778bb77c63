# SPDX-License-Identifier: Apache-2.0
"""The checksum of a file as it was downloaded: always computed, compared when the user gave one."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.wire.checksum import Checksum, ChecksumAlgorithm
from systemvm.wire.checksum import parse as parse_checksum
from systemvm.wire.transfer_failure import TransferFailure

if TYPE_CHECKING:
    from hashlib import _Hash

#: The one that CloudStack computes and stores when the user gave none.
DEFAULT_ALGORITHM = ChecksumAlgorithm.SHA_512


@frozen
class Verification:
    """Which digest to compute, and its expected value; None when the user gave none."""

    algorithm: ChecksumAlgorithm
    expected: Checksum | None = None

    def start(self) -> _Hash:
        return hashlib.new(self.algorithm.hashlib_name, usedforsecurity=False)

    def verify(self, computed_hex: str, content_encoding: str | None = None) -> str:
        """Return `{ALG}hex` of the computed digest.

        `content_encoding` is that of the bytes as they were sent, over which it was computed.

        Raises: TransferError, in CloudStack's words, when another checksum was expected.
        """
        computed = Checksum(self.algorithm, computed_hex)
        if self.expected is not None and not hmac.compare_digest(self.expected.hex, computed_hex):
            hint = "compare the checksum with the publisher's: the file can have changed since"
            if content_encoding is not None:
                hint = (
                    f"give the checksum of the bytes as the server sends them, encoded as {content_encoding}"
                )
            raise TransferError(
                TransferFailure.CHECKSUM_MISMATCH,
                f'checksum "{computed}" didn\'t match the given value, "{self.expected}"',
                hint,
            )
        return str(computed)


def parse(text: str | None) -> Verification:
    """Parse the checksum that a user registered.

    Raises: TransferError when it is not a checksum.
    """
    if text is None or not text.strip():
        return Verification(DEFAULT_ALGORITHM)
    try:
        expected = parse_checksum(text)
    except ValueError as error:
        raise TransferError(
            TransferFailure.CHECKSUM_INVALID,
            str(error),
            "register it again, for example with {SHA-256}0123abcd…",
        ) from None
    return Verification(expected.algorithm, expected)
