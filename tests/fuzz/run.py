# SPDX-License-Identifier: Apache-2.0
"""Fuzz every parser of strangers' bytes with coverage (atheris, libFuzzer); Ctrl-C ends it.

New inputs are kept in build/fuzz/corpus and used by the next run; an input that breaks a parser is written to
build/fuzz/found.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]
sys.path.insert(0, str(TOP / "tests"))
from fuzz.target import Target  # noqa: E402
from fuzz.targets import TARGETS  # noqa: E402

BUILD = TOP / "build/fuzz"
#: An input of libFuzzer's is longer only if a seed is; images need some room.
MAX_INPUT_BYTES = 1 << 20
RSS_LIMIT_MIB = 1024
#: One input that takes longer is a finding.
INPUT_TIMEOUT_S = 25
_EXECUTIONS = re.compile(r"stat::number_of_executed_units: *(\d+)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="*", choices=[*TARGETS, []], help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    arguments = parser.parse_args()
    broken = []
    try:
        for name in arguments.target or TARGETS:
            if not fuzz(name, TARGETS[name], arguments.seconds):
                broken.append(name)
    except KeyboardInterrupt:
        print("\nended early")
    if broken:
        print(f"inputs that break a parser ({', '.join(broken)}) are in {BUILD / 'found'}")
    return 1 if broken else 0


def fuzz(name: str, target: Target, seconds: int) -> bool:
    """Return whether the parser withstood all inputs."""
    corpus, found, log = BUILD / "corpus" / name, BUILD / "found", BUILD / f"{name}.log"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(exist_ok=True)
    for seed in target.seeds:
        (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    command = [
        sys.executable, TOP / "tests/fuzz/fuzz_target.py", name, corpus, f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}", f"-timeout={INPUT_TIMEOUT_S}", f"-rss_limit_mb={RSS_LIMIT_MIB}",
        f"-artifact_prefix={found}/{name}-", "-print_final_stats=1",
    ]  # fmt: skip
    print(f"{name:<12} ", end="", flush=True)
    with log.open("wb") as output:
        code = subprocess.run(
            list(map(str, command)), stdout=output, stderr=output, check=False, env=dict(os.environ)
        ).returncode
    executions = _EXECUTIONS.findall(log.read_text(errors="replace"))
    verdict = "ok" if code == 0 else f"FAILED, see {log}"
    print(f"{executions[-1] if executions else '?':>10} inputs  {verdict}")
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
