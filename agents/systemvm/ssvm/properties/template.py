# SPDX-License-Identifier: Apache-2.0
"""template.properties, which describes a template beside its image on the store."""

from __future__ import annotations

from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.properties import java_properties
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

FILE_NAME = "template.properties"
MAX_BYTES = 64 * 1024


@frozen
class TemplateProperties:
    """One template with one image; `job_id` is not CloudStack's: a repeated job finds its own work by it."""

    template_id: int
    unique_name: str
    description: str
    public: bool
    hvm: bool
    format: ImageFormat
    file_name: str
    size_bytes: int
    virtual_size_bytes: int
    checksum: str
    job_id: str

    def to_text(self) -> str:
        extension = self.format.extension
        return java_properties.render(
            {
                "filename": self.file_name,
                "description": self.description,
                "hvm": _bool(self.hvm),
                "size": str(self.size_bytes),
                "virtualsize": str(self.virtual_size_bytes),
                "physicalSize": str(self.size_bytes),
                "id": str(self.template_id),
                "public": _bool(self.public),
                "uniquename": self.unique_name,
                extension: "true",
                f"{extension}.filename": self.file_name,
                f"{extension}.size": str(self.size_bytes),
                f"{extension}.virtualsize": str(self.virtual_size_bytes),
                "checksum": self.checksum,
                "jobid": self.job_id,
            }
        )

    @classmethod
    def from_text(cls, text: str) -> TemplateProperties:
        """Parse the text that `to_text` returns.

        Raises: TransferError when it is something else.
        """
        values = java_properties.parse(text)
        try:
            (image_format,) = [known for known in ImageFormat if values.get(known.extension) == "true"]
            return cls(
                template_id=int(values["id"]),
                unique_name=values["uniquename"],
                description=values.get("description", ""),
                public=values.get("public") == "true",
                hvm=values.get("hvm") == "true",
                format=image_format,
                file_name=values["filename"],
                size_bytes=int(values["size"]),
                virtual_size_bytes=int(values["virtualsize"]),
                checksum=values.get("checksum", ""),
                job_id=values.get("jobid", ""),
            )
        except (KeyError, ValueError) as error:
            raise TransferError(
                TransferFailure.STORE_FAILED,
                f"{FILE_NAME} is not valid: {error}",
                "delete the template and register it again",
            ) from None


def names_file(content: bytes, file_name: str) -> bool:
    """Whether template.properties names this file, or cannot be read, so that it could."""
    try:
        values = java_properties.parse(content[:MAX_BYTES].decode("utf-8", "replace"))
    except TransferError:
        return True
    names = {value for key, value in values.items() if key == "filename" or key.endswith(".filename")}
    return not names or file_name in names


def _bool(value: bool) -> str:
    return "true" if value else "false"
