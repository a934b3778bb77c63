# SPDX-License-Identifier: Apache-2.0
"""The answer to a call whose success is all that its caller must know."""

from __future__ import annotations

from attrs import frozen


@frozen
class Acknowledgement:
    """Sent as `{"ok": true}`; a call that failed answers an error instead."""

    ok: bool = True
