# SPDX-License-Identifier: Apache-2.0
"""Versions of the protocol, and what a daemon does with an agent of another one.

| version | what it brought |
|---|---|
| 1 | `hello`, `ping`, `identity.sign`, stores, downloads, consoles: what the first release speaks |
| 2 | listings (`storage.jobs`, `template.list`, `console.list`), `console.end`, `hello.instance` |
| 3 | a reason in the data of every error, and in a guest's journal, exit codes and serial console |
| 3 | `storage.release`, `storage.sweep`, `template.copy`, `template.quarantine`, `storage.browse` |
| 3 | `extract.setup`, `extract.links`, also to any file of a store, `extract.served` |
| 3 | `template.upload`, `template.reserve`, `hello.capabilities` |
| 3 | `console.retarget`, `console.drain` |
| 3 | `console.configure`, live figures in `console.list`, the secret of a console link, how it ended |
| 3 | stores that are buckets: `Store.s3`, `extract.presign` |
| 3 | TLS and other transports of `ConsoleTarget` |
| 3 | what a console may do: `ConsoleSession.policy` |
| 3 | `console.challenge`, `extract.challenge` |
| 3 | recordings: `ConsoleTarget.recording`, `console.record`, `recording.append` and their siblings |
| 3 | `console.power` |
| 3 | sessions that watch another one: `ConsoleSession.watches` |
| 3 | files of volume snapshots: `snapshot.write` and its siblings, `snapshot.adopt` |
| 3 | serial ports: `ConsoleTarget.kind`, `console.scrollback` |
| 3 | `agent.metrics` |

A newer agent says hello again in the version of an older daemon's welcome, so that the older daemon finds a
version that it speaks.

Within a version members are added with defaults, which raises nothing. Golden frames of every version stay in
tests/contract for ever.
"""

from __future__ import annotations

import enum

CURRENT = 3
OLDEST = 1

#: Since when an agent answers listings; a daemon asks no older one.
LISTINGS_SINCE = 2

#: Since when a CPVM enforces what a session may do, and reaches screens with TLS; older ones get neither.
POLICIES_SINCE = 3

#: Since when CPVMs record, and SSVMs store recordings.
RECORDINGS_SINCE = 3


#: Since when SSVMs store volume snapshots.
SNAPSHOTS_SINCE = 3

#: Since when agents send their metrics over the channel.
METRICS_SINCE = 3


class Compatibility(enum.Enum):
    """How an agent's version stands to this end's."""

    GOOD = "good"
    TOO_OLD = "too old"
    TOO_NEW = "too new"

    @classmethod
    def of(cls, version: int) -> Compatibility:
        """
        >>> [Compatibility.of(version).value for version in (0, OLDEST, CURRENT, 4)]
        ['too old', 'good', 'good', 'too new']
        """
        if version < OLDEST:
            return cls.TOO_OLD
        return cls.GOOD if version <= CURRENT else cls.TOO_NEW


def negotiate(version: int) -> int:
    """Return the version to speak with an agent of this one: the lower of both, and one that we know.

    >>> [negotiate(version) for version in (0, 1, 2, 3, 4)]
    [1, 1, 2, 3, 3]
    """
    return min(max(version, OLDEST), CURRENT)
