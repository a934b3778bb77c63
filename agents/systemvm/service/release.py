# SPDX-License-Identifier: Apache-2.0
"""The release of the code that this process runs.

It is read once: an update replaces the files of the distribution while the daemon and its helpers still run.
"""

from __future__ import annotations

from importlib.metadata import version

RELEASE = version("systemvm")
