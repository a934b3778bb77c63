# SPDX-License-Identifier: Apache-2.0
"""What may be registered: checksums, URLs, formats, names."""

from __future__ import annotations

import pytest

from systemvm.management.templates import source_url
from systemvm.management.templates.registration import Registration, RegistrationError
from systemvm.wire.storage import ImageFormat

URL = "https://images.example.test/tiny.qcow2"


@pytest.mark.parametrize(
    ("text", "stored", "error"),
    [
        ("D41D8CD98F00B204E9800998ECF8427E", "{MD5}d41d8cd98f00b204e9800998ecf8427e", None),
        ("a" * 128, "{SHA-512}" + "a" * 128, None),
        ("{sha-1}someInvalidValue", "{sha-1}someInvalidValue", "not hexadecimal"),
        ("{CRC32}00000000", "{CRC32}00000000", "unknown checksum algorithm"),
        (None, None, None),
        ("  ", None, None),
    ],
)
def test_a_checksum_that_no_file_has_is_taken_and_known(
    text: str | None, stored: str | None, error: str | None
) -> None:
    """CloudStack takes it, too: its clients wait for the download to fail."""
    made = Registration.of(name="tiny", url=URL, format_name="QCOW2", checksum_text=text)
    assert made.checksum == stored
    assert (made.checksum_error is None) == (error is None)
    assert error is None or error in str(made.checksum_error)


@pytest.mark.parametrize(
    ("url", "image_format"),
    [
        (URL, ImageFormat.QCOW2),
        (URL + "?token=1", ImageFormat.QCOW2),
        ("http://host/a.img", ImageFormat.QCOW2),
        ("http://host/a.img.gz", ImageFormat.RAW),
        ("HTTPS://host:8443/a.iso", ImageFormat.ISO),
        ("http://host/download?id=7", ImageFormat.RAW),
        ("http://host/a.bin", ImageFormat.ISO),
        ("http://[2001:db8::1]/a.iso", ImageFormat.ISO),
        ("http://host/v1.2/disk", ImageFormat.QCOW2),
    ],
)
def test_urls_that_may_be_tried(url: str, image_format: ImageFormat) -> None:
    source_url.check(url, image_format)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/a.qcow2", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("nfs://host/a.qcow2", "only http and https"),
        ("/a.qcow2", "only http and https"),
        ("http:///a.qcow2", "names no host"),
        ("http://host:99999/a.qcow2", "not a URL"),
        ("http://host:0/a.qcow2", "port is 0"),
        ("http://[::1/a.qcow2", "not a URL"),
        ("http://user:secret@host/a.qcow2", "user or password"),
        ("http://host/a b.qcow2", "no blanks"),
        ("http://host/a.qcow2\r\nHost: x", "no blanks"),
        ("http://host/a.iso", "is ISO, but format=QCOW2"),
        ("http://host/a.iso.xz", "is ISO, but format=QCOW2"),
        ("http://host/a.raw", "is RAW"),
        ("http://host/a.vmdk", "no format of this release"),
        ("http://host/" + "a" * 2048, "2048 characters"),
    ],
)
def test_urls_that_cannot_be(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        source_url.check(url, ImageFormat.QCOW2)


@pytest.mark.parametrize(
    ("values", "parameter"),
    [
        ({"name": "  "}, "name"),
        ({"name": "n" * 256}, "name"),
        ({"url": "ftp://x"}, "url"),
        ({"format_name": "VHD"}, "format"),
        ({"checksum_text": "a" * 256}, "checksum"),
    ],
)
def test_an_error_names_the_parameter(values: dict[str, str], parameter: str) -> None:
    good = {"name": "tiny", "url": URL, "format_name": "qcow2"}
    Registration.of(**good)
    with pytest.raises(RegistrationError) as refused:
        Registration.of(**(good | values))
    assert refused.value.parameter == parameter


def test_without_a_description_the_name_is_shown() -> None:
    assert Registration.of(name="tiny", url=URL, format_name="QCOW2").columns["display_text"] == "tiny"
