# SPDX-License-Identifier: Apache-2.0
"""The digest of a member of an archive, as plain data between two pieces: an inspection can be saved."""

from __future__ import annotations

import hashlib
from typing import Any

from attrs import define

from systemvm.ssvm.formats.stream import Data
from systemvm.ssvm.resumable_hash import ResumableHash


@define
class MemberDigest:
    """A digest by its name; `plain` cannot be saved, and is used where libcrypto saves no states."""

    algorithm: str
    state: bytes | None = None
    plain: Any = None

    def update(self, data: Data) -> None:
        if self.plain is None:
            digest = ResumableHash(self.algorithm, self.state)
            digest.update(memoryview(data))
            self.state = digest.save()
            if self.state is not None:
                return
            self.plain = hashlib.new(self.algorithm, usedforsecurity=False)
        self.plain.update(data)

    def hexdigest(self) -> str:
        if self.plain is not None:
            return str(self.plain.hexdigest())
        return ResumableHash(self.algorithm, self.state).hexdigest()
