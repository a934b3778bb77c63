# SPDX-License-Identifier: Apache-2.0
"""The values of a registration, checked before a row is created."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from attrs import field, frozen

from systemvm.host.architecture import Architecture
from systemvm.management.templates import file_extension
from systemvm.management.templates.sources import RegisteredSource
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire import checksum, oci_reference, source_url
from systemvm.wire.storage import ImageFormat

MAX_NAME_LENGTH = 255
MAX_CHECKSUM_LENGTH = 255


class RegistrationError(SystemVmError):
    """An invalid value of a registration; `parameter` is its name in the API."""

    code = FailureCode.INVALID

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message, parameter=parameter)


@frozen
class Registration:
    """A template or ISO as its user describes it.

    Raises: RegistrationError when a value is invalid.
    """

    name: str
    url: str | None = field(repr=False)  # None: its user uploads it
    format: ImageFormat
    display_text: str = ""
    checksum: str | None = None
    hypervisor: str = "KVM"
    os_type: str | None = None
    arch: str = "amd64"
    bootable: bool = True
    featured: bool = False
    public: bool = False
    extractable: bool = False
    hvm: bool = True
    password_enabled: bool = False
    details: dict[str, Any] = field(factory=dict)
    source: RegisteredSource = field(factory=RegisteredSource)
    type: str = "USER"

    @classmethod
    def of(
        cls,
        *,
        format_name: str,
        checksum_text: str | None = None,
        arch_name: str | None = None,
        **values: Any,
    ) -> Registration:
        """Parse the three values that have a syntax.

        Raises: RegistrationError when one of them cannot be parsed.
        """
        try:
            image_format = ImageFormat(format_name.upper())
        except ValueError:
            known = ", ".join(one.value for one in ImageFormat if one is not ImageFormat.ISO)
            message = f"{format_name[:32]} is not supported in this release; use {known}"
            raise RegistrationError("format", message) from None
        given = (checksum_text or "").strip() or None
        if given is not None:
            if len(given) > MAX_CHECKSUM_LENGTH:
                message = (
                    f"checksum is too long: {len(given)} characters, the maximum is {MAX_CHECKSUM_LENGTH}"
                )
                raise RegistrationError("checksum", message)
            with suppress(ValueError):  # stored unchanged: see checksum_error
                given = str(checksum.parse(given))
        try:
            arch = Architecture.of(arch_name).value
        except ValueError as error:
            raise RegistrationError("arch", str(error)) from None
        return cls(format=image_format, checksum=given, arch=arch, **values)

    def __attrs_post_init__(self) -> None:
        if not self.name.strip():
            raise RegistrationError("name", "name must not be blank")
        if len(self.name) > MAX_NAME_LENGTH:
            message = f"name is too long: {len(self.name)} characters, the maximum is {MAX_NAME_LENGTH}"
            raise RegistrationError("name", message)
        if self.url is None:
            self._check_uploaded()
        else:
            self._check_source(self.url)

    def _check_uploaded(self) -> None:
        """Have a wrong checksum refused before the upload and not after it."""
        if self.checksum is not None and checksum.is_url(self.checksum):
            raise RegistrationError("checksum", "checksum of an upload must be a digest, not a URL")
        if (wrong := self.checksum_error) is not None:
            raise RegistrationError("checksum", wrong)

    def _check_source(self, url: str) -> None:
        try:
            if oci_reference.is_oci(url):
                oci_reference.parse(url)
            else:
                file_extension.check(source_url.parse(url).path, self.format)
        except ValueError as error:
            raise RegistrationError("url", str(error)) from None
        if self.checksum is not None and checksum.is_url(self.checksum):
            _check_url("checksum", self.checksum, source_url.CHECKSUM_URL)
        if self.source.signature_url is not None:
            if self.checksum is None or not checksum.is_url(self.checksum):
                raise RegistrationError("checksumsignature", "checksum must be the URL of the signed file")
            _check_url("checksumsignature", self.source.signature_url, source_url.SIGNATURE_URL)

    @property
    def checksum_error(self) -> str | None:
        """Return why no file can have this checksum, or None.

        CloudStack registers such a template and fails its download, and its clients wait for that failure.
        """
        try:
            if self.checksum is not None and not checksum.is_url(self.checksum):
                checksum.parse(self.checksum)
        except ValueError as error:
            return str(error)
        return None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the `templates` table."""
        return {
            "name": self.name,
            "display_text": self.display_text or self.name,
            "format": self.format,
            "url": self.url,
            "checksum": self.checksum,
            "hypervisor": self.hypervisor,
            "os_type": self.os_type,
            "arch": self.arch,
            "bootable": self.bootable,
            "featured": self.featured,
            "public": self.public,
            "extractable": self.extractable,
            "hvm": self.hvm,
            "password_enabled": self.password_enabled,
            "details": self.details,
            "type": self.type,
        }


def _check_url(parameter: str, url: str, subject: str) -> None:
    try:
        source_url.parse(url, subject)
    except ValueError as error:
        raise RegistrationError(parameter, str(error)) from None
