# SPDX-License-Identifier: Apache-2.0
"""Parses entries of a guest's journal from `journalctl -o json`: programs read fields and quote messages.

A guest before protocol 3 has no REASON: its last message is quoted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

Entry = Mapping[str, str]


def read_entries(output: str) -> list[Entry]:
    """Return the entries in order, without invalid lines and fields that are not text.

    >>> read_entries('{"MESSAGE": "no NIC", "REASON": "nic_absent", "N": [1]}\\nHint: you are not root')
    [{'MESSAGE': 'no NIC', 'REASON': 'nic_absent'}]
    """
    entries: list[Entry] = []
    for line in output.splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if isinstance(fields, dict):
            entries.append({key: value for key, value in fields.items() if isinstance(value, str)})
    return entries


def last_with(entries: Sequence[Entry], field: str) -> Entry | None:
    """Return the newest entry that has a field, or None."""
    return next((entry for entry in reversed(entries) if entry.get(field)), None)


def last_message(entries: Sequence[Entry]) -> str:
    """Return the newest message, or an empty text."""
    return next((entry["MESSAGE"] for entry in reversed(entries) if entry.get("MESSAGE", "").strip()), "")
