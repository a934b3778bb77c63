# SPDX-License-Identifier: Apache-2.0
"""Registrations: checksums, URLs, formats and names."""

from __future__ import annotations

import pytest

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
def test_invalid_checksum_is_stored_with_its_error(
    text: str | None, stored: str | None, error: str | None
) -> None:
    """CloudStack accepts it too, and its clients wait for the download to fail."""
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
        ("http://host/a.vhd.bz2", ImageFormat.VHD),
        ("http://host/a.vhdx", ImageFormat.VHDX),
        ("http://host/a.vmdk", ImageFormat.VMDK),
        ("http://host/a.ova", ImageFormat.OVA),
        ("http://host/a.tar.gz", ImageFormat.TAR),
    ],
)
def test_valid_url_is_accepted(url: str, image_format: ImageFormat) -> None:
    made = Registration.of(name="tiny", url=url, format_name=image_format.value)
    assert made.url == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/a.qcow2", "unsupported scheme"),
        ("file:///etc/passwd", "unsupported scheme"),
        ("nfs://host/a.qcow2", "unsupported scheme"),
        ("/a.qcow2", "unsupported scheme"),
        ("http:///a.qcow2", "has no host"),
        ("http://host:99999/a.qcow2", "cannot be parsed"),
        ("http://host:0/a.qcow2", "port that is not allowed: 0"),
        ("http://[::1/a.qcow2", "cannot be parsed"),
        ("http://user:secret@host/a.qcow2", "user name or password"),
        ("http://host/a b.qcow2", "contains white space"),
        ("http://host/a.qcow2\r\nHost: x", "contains white space"),
        ("http://host/a.iso", "QCOW2 given, .* is ISO"),
        ("http://host/a.iso.xz", "QCOW2 given, .* is ISO"),
        ("http://host/a.raw", "QCOW2 given, .*raw is RAW"),
        ("http://host/a.vmdk", "QCOW2 given, .*vmdk is VMDK"),
        ("http://host/a.vhd.gz", "QCOW2 given, .*vhd is VHD"),
        ("http://host/a.vhdx", "QCOW2 given, .*vhdx is VHDX"),
        ("http://host/a.ova", "QCOW2 given, .*ova is OVA"),
        ("http://host/a.tar", "QCOW2 given, .*tar is TAR"),
        ("http://host/" + "a" * 2048, "too long: 2060 characters, the maximum is 2048"),
        # rejected by the SSVM too
        ("http://host:22/a.qcow2", "port that is not allowed: 22"),
        ("http://localhost/a.qcow2", "is loopback"),
        ("http://127.1/a.qcow2", "unusual form"),
        ("http://host%2e/a.qcow2", "percent sign"),
    ],
)
def test_invalid_url_is_rejected(url: str, message: str) -> None:
    with pytest.raises(RegistrationError, match=message) as refused:
        Registration.of(name="tiny", url=url, format_name="QCOW2")
    assert refused.value.parameter == "url"


@pytest.mark.parametrize(
    ("values", "parameter"),
    [
        ({"name": "  "}, "name"),
        ({"name": "n" * 256}, "name"),
        ({"url": "ftp://x"}, "url"),
        ({"format_name": "VDI"}, "format"),
        ({"checksum_text": "a" * 256}, "checksum"),
    ],
)
def test_error_names_the_parameter(values: dict[str, str], parameter: str) -> None:
    good = {"name": "tiny", "url": URL, "format_name": "qcow2"}
    Registration.of(**good)
    with pytest.raises(RegistrationError) as refused:
        Registration.of(**(good | values))
    assert refused.value.parameter == parameter


@pytest.mark.parametrize("name", ["qcow2", "Raw", "VHD", "vhdx", "VMDK", "ova", "TAR"])
def test_each_format_of_cloudstack_is_registered_by_its_name(name: str) -> None:
    made = Registration.of(name="tiny", url="http://host/download", format_name=name)
    assert made.format is ImageFormat(name.upper())


def test_display_text_defaults_to_the_name() -> None:
    assert Registration.of(name="tiny", url=URL, format_name="QCOW2").columns["display_text"] == "tiny"
