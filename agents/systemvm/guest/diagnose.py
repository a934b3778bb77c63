# SPDX-License-Identifier: Apache-2.0
"""`systemvm-diagnose`: CloudStack's runDiagnostics and getDiagnosticsData, from inside (reference 1.16).

    systemvm-diagnose run ping 192.0.2.1 [PARAMS]    a JSON object on standard output
    systemvm-diagnose collect [FILE …]               a zip on standard output

The daemon runs it as root over ssh and not through the agent: it works when the agent does not, and an agent
that was taken over gains nothing by it.
"""

from __future__ import annotations

import enum
import json
import subprocess
import sys

from systemvm.service.slowness import scaled_s
from systemvm.wire.diagnostics import DiagnosisError, check

RUN_TIMEOUT_S = 90.0
_OUTPUT_MAX = 64 * 1024
EXIT_USAGE = 2


class DiagnosisProgram(enum.Enum):
    """CloudStack's types; each knows its program, and the flag that ends it by itself."""

    PING = ("ping", ("ping", "-4"), ("-c", "4"))
    PING6 = ("ping6", ("ping", "-6"), ("-c", "4"))
    TRACEROUTE = ("traceroute", ("traceroute", "-4"), ("-m", "20"))
    TRACEROUTE6 = ("traceroute6", ("traceroute", "-6"), ("-m", "20"))
    ARPING = ("arping", ("arping",), ("-c", "4"))

    def __init__(self, word: str, program: tuple[str, ...], end: tuple[str, str]) -> None:
        self.word = word
        self.program = program
        self.end = end

    @classmethod
    def of(cls, word: str) -> DiagnosisProgram:
        for kind in cls:
            if kind.word == word.lower():
                return kind
        known = ", ".join(kind.word for kind in cls)
        raise DiagnosisError(f"{word!r} is no type of diagnosis: there is {known}")


def command(kind: DiagnosisProgram, address: str, params: str = "") -> list[str]:
    """The argv; DiagnosisError for an address or a parameter that could be anything else.

    The ending flag is added unless it is among the parameters, as CloudStack does.
    """
    check(address, params)
    words = params.split()
    flag, count = kind.end
    end = [] if any(word.startswith(flag) for word in words) else [flag, count]
    # arping takes no `--`; an address cannot be an option, so nothing hangs on it
    last = [address] if kind is DiagnosisProgram.ARPING else ["--", address]
    return [*kind.program, *end, *words, *last]


def run(argv: list[str], timeout_s: float = RUN_TIMEOUT_S) -> dict[str, str]:
    """Run it to its end; the exit code is a string, as in CloudStack's answer."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=scaled_s(timeout_s), check=False)
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode("utf-8", "replace")[-_OUTPUT_MAX:]
        return {
            "stdout": said,
            "stderr": f"{argv[0]} did not end in {scaled_s(timeout_s):.0f} s",
            "exitcode": "124",
        }
    except OSError as error:
        return {"stdout": "", "stderr": f"{argv[0]} cannot be run: {error.strerror}", "exitcode": "127"}
    return {
        "stdout": done.stdout.decode("utf-8", "replace")[-_OUTPUT_MAX:],
        "stderr": done.stderr.decode("utf-8", "replace")[-_OUTPUT_MAX:],
        "exitcode": str(done.returncode),
    }


def main(arguments: list[str] | None = None) -> int:
    """0 when there is an answer on standard output, whatever it says; 2 for a wrong question."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words[:1] == ["run"] and len(words) >= 3:
            argv = command(DiagnosisProgram.of(words[1]), words[2], " ".join(words[3:]))
            sys.stdout.write(json.dumps(run(argv)) + "\n")
            return 0
        if words[:1] == ["collect"]:
            from systemvm.guest import diagnostics_bundle  # zipfile is dear to import, and seldom wanted

            sys.stdout.buffer.write(diagnostics_bundle.archive(words[1:]))
            return 0
    except DiagnosisError as error:
        sys.stderr.write(f"systemvm-diagnose: {error}\n")
        return EXIT_USAGE
    sys.stderr.write(
        "usage: systemvm-diagnose run TYPE ADDRESS [PARAMS]\n       systemvm-diagnose collect [FILE …]\n"
    )
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
