# SPDX-License-Identifier: Apache-2.0
"""The checksum of a download: as it was registered, or from a checksum file at a registered URL."""

from __future__ import annotations

from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import openpgp
from systemvm.ssvm.fetch.checksum_file import find_checksum
from systemvm.ssvm.fetch.document import DocumentReader
from systemvm.wire import checksum, source_url
from systemvm.wire.source_access import SourceAccess
from systemvm.wire.source_url import CHECKSUM_URL, SIGNATURE_URL, SourceUrl, SourceUrlError
from systemvm.wire.transfer_failure import TransferFailure


@frozen
class ExpectedChecksum:
    """`{ALG}hex`, or None; `is_trusted` when nobody on the way could replace it together with the image."""

    text: str | None = None
    is_trusted: bool = False


async def expected_checksum(
    reader: DocumentReader, given: str | None, access: SourceAccess, file_name: str
) -> ExpectedChecksum:
    """Return the checksum that the image at `file_name` must have.

    Raises: TransferError when a checksum file cannot be read, has no such file, or its signature is wrong.
    """
    if given is None or not given.strip():
        return ExpectedChecksum()
    if not checksum.is_url(given):
        return ExpectedChecksum(given, is_trusted=True)
    document = await reader.read(_parse(given, CHECKSUM_URL))
    text, is_signed = document.body, True
    if access.signature_url is not None:
        signature = await reader.read(_parse(access.signature_url, SIGNATURE_URL))
        text = openpgp.verify(document.body, signature.body, access.trusted_keys)
    elif openpgp.is_signed_text(document.body):
        text = openpgp.verify(document.body, None, access.trusted_keys)
    else:
        is_signed = False
    try:
        lines = text.decode()
    except UnicodeDecodeError:
        raise TransferError(
            TransferFailure.CHECKSUM_INVALID,
            "checksum file is not text",
            "check the URL of the checksum file",
        ) from None
    found = find_checksum(lines, file_name)
    return ExpectedChecksum(str(found), is_signed or document.was_always_tls)


def _parse(text: str, subject: str) -> SourceUrl:
    try:
        return source_url.parse(text.strip(), subject)
    except SourceUrlError as error:
        raise TransferError.of_url(error) from None
