# SPDX-License-Identifier: Apache-2.0
"""Fuzz one target until libFuzzer's limits end it: `fuzz_target.py TARGET LIBFUZZER_ARGUMENT...`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["systemvm"]):
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()
