# SPDX-License-Identifier: Apache-2.0
"""`systemvm-diagnose`: CloudStack's runDiagnostics and getDiagnosticsData in the guest (reference 1.16).

    systemvm-diagnose run ping 192.0.2.1 [PARAMS]    a JSON object on standard output
    systemvm-diagnose collect [FILE …]               a zip on standard output

The daemon runs it as root over ssh instead of through the agent, so that it works when the agent does not,
and a compromised agent gains nothing.
"""

from __future__ import annotations

import enum
import json
import subprocess
import sys

from systemvm.service.slowness import scaled_s
from systemvm.wire.diagnostics import DiagnosticsRequestError, check

RUN_TIMEOUT_S = 90.0
_OUTPUT_MAX = 64 * 1024
EXIT_USAGE = 2


class DiagnosisProgram(enum.Enum):
    """CloudStack's types, each with its program and the option that limits its run."""

    PING = ("ping", ("ping", "-4"), ("-c", "4"))
    PING6 = ("ping6", ("ping", "-6"), ("-c", "4"))
    TRACEROUTE = ("traceroute", ("traceroute", "-4"), ("-m", "20"))
    TRACEROUTE6 = ("traceroute6", ("traceroute", "-6"), ("-m", "20"))
    ARPING = ("arping", ("arping",), ("-c", "4"))

    def __init__(self, label: str, program: tuple[str, ...], end: tuple[str, str]) -> None:
        self.label = label
        self.program = program
        self.end = end

    @classmethod
    def of(cls, label: str) -> DiagnosisProgram:
        """Return the program of a type, compared without case.

        Raises: DiagnosticsRequestError when the type is unknown.
        """
        for kind in cls:
            if kind.label == label.lower():
                return kind
        known = ", ".join(kind.label for kind in cls)
        raise DiagnosticsRequestError(f"unknown type of diagnosis: {label!r}; known types: {known}")


def command(kind: DiagnosisProgram, address: str, params: str = "") -> list[str]:
    """Return the argv; the limiting option is added unless the parameters contain it, as in CloudStack.

    Raises: DiagnosticsRequestError when the address or a parameter is not allowed.
    """
    check(address, params)
    options = params.split()
    flag, count = kind.end
    end = [] if any(option.startswith(flag) for option in options) else [flag, count]
    # arping does not support `--`; a checked address is never an option
    last = [address] if kind is DiagnosisProgram.ARPING else ["--", address]
    return [*kind.program, *end, *options, *last]


def run(argv: list[str], timeout_s: float = RUN_TIMEOUT_S) -> dict[str, str]:
    """Run a command until it ends; the exit code is a string, as in CloudStack's answer."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=scaled_s(timeout_s), check=False)
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode("utf-8", "replace")[-_OUTPUT_MAX:]
        return {
            "stdout": output,
            "stderr": f"{argv[0]} did not end within {scaled_s(timeout_s):.0f} s",
            "exitcode": "124",
        }
    except OSError as error:
        return {"stdout": "", "stderr": f"cannot run {argv[0]}: {error.strerror}", "exitcode": "127"}
    return {
        "stdout": done.stdout.decode("utf-8", "replace")[-_OUTPUT_MAX:],
        "stderr": done.stderr.decode("utf-8", "replace")[-_OUTPUT_MAX:],
        "exitcode": str(done.returncode),
    }


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when the result is on standard output, whatever it contains; 2 for wrong usage."""
    argv = sys.argv[1:] if arguments is None else arguments
    try:
        if argv[:1] == ["run"] and len(argv) >= 3:
            program = command(DiagnosisProgram.of(argv[1]), argv[2], " ".join(argv[3:]))
            sys.stdout.write(json.dumps(run(program)) + "\n")
            return 0
        if argv[:1] == ["collect"]:
            from systemvm.guest import diagnostics_bundle  # zipfile is expensive to import, and rarely used

            sys.stdout.buffer.write(diagnostics_bundle.archive(argv[1:]))
            return 0
    except DiagnosticsRequestError as error:
        sys.stderr.write(f"systemvm-diagnose: {error}\n")
        return EXIT_USAGE
    sys.stderr.write(
        "usage: systemvm-diagnose run TYPE ADDRESS [PARAMS]\n       systemvm-diagnose collect [FILE …]\n"
    )
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
