# SPDX-License-Identifier: Apache-2.0
"""Entries of a guest's journal as `journalctl -o json` gives them: fields are read, messages are shown.

A guest of before protocol 3 has no REASON: what it wrote last is shown, as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

Entry = Mapping[str, str]


def read_entries(output: str) -> list[Entry]:
    """The entries in their order; a line that is none is left out, as is a field that is not text.

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
    """The newest entry that has a field."""
    return next((entry for entry in reversed(entries) if entry.get(field)), None)


def last_message(entries: Sequence[Entry]) -> str:
    """The newest message; empty when there is none."""
    return next((entry["MESSAGE"] for entry in reversed(entries) if entry.get("MESSAGE", "").strip()), "")
