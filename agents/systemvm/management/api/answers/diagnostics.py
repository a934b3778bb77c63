# SPDX-License-Identifier: Apache-2.0
"""`diagnostics` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class DiagnosisAnswer:
    """The output of a program in a system VM."""

    stdout: str = required_key("its standard output")
    stderr: str = required_key("its standard error, or why it could not be run")
    exitcode: str = required_key("its exit code, as a string; -1 when the system VM cannot be reached")


@frozen(kw_only=True)
class DiagnosticsDataAnswer:
    """The URL of a zip of diagnostics."""

    url: str = required_key("URL of the zip, which exists for a day")
