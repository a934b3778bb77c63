# SPDX-License-Identifier: Apache-2.0
"""Keys of a bucket, which are CloudStack's paths of a store (reference 2.17)."""

from __future__ import annotations

TEMPLATES = "template/tmpl/"
#: Where transfers continue after a crash; not below a prefix that CloudStack lists.
_JOURNALS = "systemvm-journals/"


def template_prefix(account_id: int, template_id: int) -> str:
    """Return the prefix of all objects of a template or ISO."""
    return f"{TEMPLATES}{account_id}/{template_id}/"


def image_key(account_id: int, template_id: int, file_name: str) -> str:
    return template_prefix(account_id, template_id) + file_name


def properties_key(account_id: int, template_id: int) -> str:
    return template_prefix(account_id, template_id) + "template.properties"


def journal_key(image: str) -> str:
    """Return the key of the journal of the transfer to `image`."""
    return _JOURNALS + image
