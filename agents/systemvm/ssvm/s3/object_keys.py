# SPDX-License-Identifier: Apache-2.0
"""Keys of a bucket, which are CloudStack's paths of a store (reference 2.17)."""

from __future__ import annotations

import uuid

from attrs import frozen

from systemvm.wire.storage import ImageFormat

MAX_KEY_BYTES = 1024  # of S3
TEMPLATES = "template/tmpl/"
#: One object for each unpublished image, by SSVM and job: what a killed job leaves is found by it, and where
#: it continues is in it. Not below a prefix that CloudStack lists.
JOBS = "systemvm-jobs/"
#: Properties of templates that were put out of sight; deleted with their images a week later.
QUARANTINE = "systemvm-quarantine/"
#: Written and deleted to see whether keys can do both.
PROBE = "systemvm-jobs/write-test"
PROPERTIES = "template.properties"


@frozen
class JobMark:
    """The parts of a key below JOBS."""

    owner: str
    job_id: str
    image: str


def template_prefix(account_id: int, template_id: int) -> str:
    """Return the prefix of all objects of a template or ISO."""
    return f"{TEMPLATES}{account_id}/{template_id}/"


def image_key(account_id: int, template_id: int, file_name: str) -> str:
    return template_prefix(account_id, template_id) + file_name


def image_name(job_id: str, image_format: ImageFormat) -> str:
    """Return the name of the image that a job makes."""
    return f"{uuid.uuid5(uuid.NAMESPACE_OID, job_id)}.{image_format.extension}"


def properties_key(account_id: int, template_id: int) -> str:
    return template_prefix(account_id, template_id) + PROPERTIES


def job_prefix(owner: str, job_id: str) -> str:
    return f"{JOBS}{owner}/{job_id}/"


def journal_key(owner: str, job_id: str, image: str) -> str:
    """Return the key of the journal of the job that makes `image`."""
    return job_prefix(owner, job_id) + image


def parse_mark(key: str) -> JobMark | None:
    """Return the parts of a key below JOBS; None for anything else that lies there."""
    parts = key.removeprefix(JOBS).split("/", 2)
    return JobMark(*parts) if len(parts) == 3 and all(parts) and key.startswith(JOBS) else None


def parse_place(key: str) -> tuple[int, int, str] | None:
    """Return account, template and file name of a key below TEMPLATES; None for anything else there."""
    parts = key.removeprefix(TEMPLATES).split("/")
    if len(parts) != 3 or not parts[2] or not all(each.isdecimal() and each.isascii() for each in parts[:2]):
        return None
    return int(parts[0]), int(parts[1]), parts[2]
