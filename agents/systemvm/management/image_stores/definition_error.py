# SPDX-License-Identifier: Apache-2.0
"""The error of a store that cannot be added or changed so."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class StoreDefinitionError(SystemVmError):
    """A store that cannot be added, or a change that it cannot get."""

    code = FailureCode.INVALID
