# SPDX-License-Identifier: Apache-2.0
"""The error of a request that would exceed a limit."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class ResourceLimitError(SystemVmError):
    """An account or a domain that has as much as it is allowed to; the message is CloudStack's."""

    code = FailureCode.OVER_LIMIT
