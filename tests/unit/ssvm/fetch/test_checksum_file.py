# SPDX-License-Identifier: Apache-2.0
"""Checksum files in the styles of their tools, and their signatures."""

from __future__ import annotations

import time

import pysequoia
import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import openpgp
from systemvm.ssvm.fetch.checksum_file import find_checksum
from systemvm.ssvm.fetch.document import MAX_DOCUMENT_BYTES
from systemvm.wire.transfer_failure import TransferFailure

MD5, SHA1, SHA256, SHA512 = "a" * 32, "b" * 40, "c" * 64, "d" * 128
OTHER = "e" * 64


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{SHA256}  image.qcow2\n", f"{{SHA-256}}{SHA256}"),
        (f"{SHA256.upper()} *image.qcow2\r\n", f"{{SHA-256}}{SHA256}"),
        (f"{OTHER}  other.qcow2\n{SHA256}  ./24.04/image.qcow2\n", f"{{SHA-256}}{SHA256}"),
        (f"SHA256 (image.qcow2) = {SHA256}\n", f"{{SHA-256}}{SHA256}"),
        (f"SHA2-256(image.qcow2)= {SHA256}\n", f"{{SHA-256}}{SHA256}"),
        (f"# image.qcow2: 1 byte\nSHA512 (image.qcow2) = {SHA512}\n", f"{{SHA-512}}{SHA512}"),
        (f"MD5 (image.qcow2) = {MD5}\nSHA1 (image.qcow2) = {SHA1}\n", f"{{SHA-1}}{SHA1}"),
        (f"{MD5}  image.qcow2\n{SHA512}  image.qcow2\n", f"{{SHA-512}}{SHA512}"),
        (f"{SHA256}\n", f"{{SHA-256}}{SHA256}"),
        (f"{SHA256}  image.qcow2\n{SHA256}  image.qcow2\n", f"{{SHA-256}}{SHA256}"),
    ],
)
def test_the_checksum_of_a_file_is_found(text: str, found: str) -> None:
    assert str(find_checksum(text, "image.qcow2")) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>not found</html>",
        f"{OTHER}  other.qcow2\n",
        f"{OTHER}  image.qcow2.gz\n",
        f"{SHA256}\n{OTHER}\n",  # of which file?
        f"{SHA256}  image.qcow2\n{OTHER}  image.qcow2\n",
        f"SHA512 (image.qcow2) = {SHA256}\n",
        f"{'a' * 33}  image.qcow2\n",
    ],
)
def test_what_is_not_its_checksum_is_not_used(text: str) -> None:
    with pytest.raises(TransferError) as refused:
        find_checksum(text, "image.qcow2")
    assert refused.value.code is TransferFailure.CHECKSUM_INVALID


@given(st.text(max_size=400))
def test_any_text_is_a_checksum_or_a_reason(text: str) -> None:
    try:
        find_checksum(text, "image.qcow2")
    except TransferError as error:
        assert error.code is TransferFailure.CHECKSUM_INVALID


@pytest.mark.parametrize(
    "line",
    [
        f"{SHA256}  x" + " " * MAX_DOCUMENT_BYTES + "y",
        "SHA256 (" + ")" * MAX_DOCUMENT_BYTES,
        "SHA256 (" + ") " * (MAX_DOCUMENT_BYTES // 2),
        "a" * MAX_DOCUMENT_BYTES,
        f"{SHA256}" + "\t*" * (MAX_DOCUMENT_BYTES // 2),
    ],
    ids=["blanks", "parentheses", "both", "digits", "stars"],
)
def test_a_long_line_costs_little(line: str) -> None:
    """fetch has one thread for all downloads: a line that takes minutes would stop every one of them."""
    used_s = time.process_time()
    with pytest.raises(TransferError):
        find_checksum(line, "image.qcow2")
    assert time.process_time() - used_s < 1


PUBLISHER, STRANGER = (pysequoia.Tsk.generate(f"{name} <{name}@example.test>") for name in ("one", "two"))
SUMS = f"{SHA256}  image.qcow2\n".encode()


def key_of(secret: pysequoia.Tsk) -> str:
    return str(secret.extract_certificate())


def sign(secret: pysequoia.Tsk, mode: pysequoia.SignatureMode) -> bytes:
    return bytes(pysequoia.sign(secret.signer(), SUMS, mode=mode))


def test_a_detached_signature_of_a_trusted_key_holds() -> None:
    signature = sign(PUBLISHER, pysequoia.SignatureMode.DETACHED)
    keys = key_of(STRANGER) + key_of(PUBLISHER)
    assert openpgp.verify(SUMS, signature, keys) == SUMS


def test_signed_text_is_what_was_signed_and_no_more() -> None:
    signed = sign(PUBLISHER, pysequoia.SignatureMode.CLEAR)
    assert openpgp.is_signed_text(signed)
    found = openpgp.verify(signed, None, key_of(PUBLISHER))
    assert str(find_checksum(found.decode(), "image.qcow2")) == f"{{SHA-256}}{SHA256}"
    forged = signed.replace(SHA256.encode(), OTHER.encode())
    with pytest.raises(TransferError):
        openpgp.verify(forged, None, key_of(PUBLISHER))


@pytest.mark.parametrize(
    ("document", "signature", "keys", "code"),
    [
        (
            SUMS + b"x",
            sign(PUBLISHER, pysequoia.SignatureMode.DETACHED),
            key_of(PUBLISHER),
            "signature_invalid",
        ),
        (SUMS, sign(STRANGER, pysequoia.SignatureMode.DETACHED), key_of(PUBLISHER), "signature_invalid"),
        (SUMS, b"nonsense", key_of(PUBLISHER), "signature_invalid"),
        (SUMS, b"", key_of(PUBLISHER), "signature_invalid"),
        (SUMS, None, key_of(PUBLISHER), "signature_invalid"),
        (SUMS, sign(PUBLISHER, pysequoia.SignatureMode.DETACHED), None, "signature_invalid"),
        (SUMS, sign(PUBLISHER, pysequoia.SignatureMode.DETACHED), "nonsense", "request_invalid"),
    ],
)
def test_every_other_signature_is_refused(
    document: bytes, signature: bytes | None, keys: str | None, code: str
) -> None:
    with pytest.raises(TransferError) as refused:
        openpgp.verify(document, signature, keys)
    assert refused.value.code.value == code
    assert "backtrace" not in refused.value.message
