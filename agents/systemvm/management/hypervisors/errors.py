# SPDX-License-Identifier: Apache-2.0
"""The errors of hypervisor drivers."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class HypervisorError(SystemVmError):
    """An operation that a hypervisor did not perform; `message` is the reason, `hint` the remedy."""

    code = FailureCode.UNAVAILABLE


class DomainNotFoundError(HypervisorError):
    """The driver runs no machine of that name."""
