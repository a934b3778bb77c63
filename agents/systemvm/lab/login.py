# SPDX-License-Identifier: Apache-2.0
"""The login of the cloud's first start, stored among the lab's files because it is needed at every start."""

from __future__ import annotations

import os

import msgspec
from attrs import asdict

from systemvm.lab.errors import LabError
from systemvm.lab.plan import LabPlan
from systemvm.management.first_start import FirstLogin


def read_login(plan: LabPlan) -> FirstLogin:
    """Take the login that a first start wrote, or read the stored one.

    Raises: LabError when the stored one is missing.
    """
    stored = plan.lab / "login.json"
    fresh = FirstLogin.take(plan.layout.first_login)
    if fresh is not None:
        descriptor = os.open(stored, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(asdict(fresh)))
        return fresh
    try:
        return msgspec.json.decode(stored.read_bytes(), type=FirstLogin)
    except FileNotFoundError as error:
        raise LabError(f"login is missing: {stored}", 'run "make reset" to start with a new cloud') from error
