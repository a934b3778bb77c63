# SPDX-License-Identifier: Apache-2.0
"""Rules of the image build: stamps, mirrors, the choice of the accelerator, and valid HCL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from image.built_image import IMAGES, TOP

import mirror  # isort: skip  - packer/ is on the path once built_image is imported
from stamps import Stamp, digest  # isort: skip

PACKER = TOP / "packer"


def test_digests_depend_on_content_and_executable_bits_and_not_on_times(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("one")
    first = digest(script)
    os.utime(script, (1, 1))
    assert digest(script) == first
    script.chmod(0o755)
    executable = digest(script)
    assert executable != first
    script.write_text("two")
    assert digest(script) not in (first, executable)


def test_digests_depend_on_names_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("x")
    first = digest(tmp_path / "d")
    (tmp_path / "d/a").rename(tmp_path / "d/b")
    assert digest(tmp_path / "d") != first


def test_digests_separate_adjacent_texts() -> None:
    assert digest("ab", "c") != digest("a", "bc")


def test_a_stamp_is_valid_only_for_its_inputs_and_complete_results(tmp_path: Path) -> None:
    result = tmp_path / "result"
    stamp = Stamp(tmp_path / "stamps/result.json", [result])
    assert not stamp.holds("inputs")
    result.write_text("made")
    stamp.set("inputs")
    assert stamp.holds("inputs")
    assert not stamp.holds("others")
    result.write_text("cut off")
    assert not stamp.holds("inputs")
    result.unlink()
    assert not stamp.holds("inputs")


def test_mirrors_are_those_of_the_host() -> None:
    lines = mirror.source_lines("trixie")
    assert lines[0].split()[0::2] == ["deb", "trixie"]
    assert all(line.split()[1].startswith(("http", "file:", "copy:", "mirror")) for line in lines)


@pytest.mark.image
def test_a_fresh_checkout_builds_nothing_again() -> None:
    """Every input gets the current time, as in a new clone; `status` prints what a build would do."""
    for directory in ("appliances", "packer", "systemd", "agents/systemvm/guest"):
        for path in (TOP / directory).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                os.utime(path)
    done = subprocess.run(
        [sys.executable, PACKER / "build.py", "status"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["images: ssvm: up to date", "images: cpvm: up to date"]


def test_kvm_is_not_selected_without_virtualization(tmp_path: Path) -> None:
    """Without virtualization in the CPU the probe starts no guest and prints tcg."""
    if {"vmx", "svm"} & set(Path("/proc/cpuinfo").read_text().split()):
        pytest.skip("this CPU has virtualization: the probe starts a guest")
    done = subprocess.run(
        [PACKER / "probe-accelerator.sh", tmp_path / "none", tmp_path / "none"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "tcg\n"


@pytest.mark.image
@pytest.mark.timeout(120)
def test_the_guest_of_the_probe_starts(tmp_path: Path) -> None:
    """Run the probe's guest with an accelerator that works on every host."""
    script = (PACKER / "probe-accelerator.sh").read_text()
    assert script.count("-accel kvm -cpu host") == 1
    always = script.replace("-accel kvm -cpu host", "-accel tcg,tb-size=128 -cpu max").replace(
        "timeout 15", "timeout 400"
    )
    probe = tmp_path / "probe.sh"
    # without the checks of this machine's CPU and device
    probe.write_text(always.replace("if ! grep", "if false && ! grep").replace("|| [ ! -w /dev/kvm ]", ""))
    done = subprocess.run(
        ["bash", probe, IMAGES / "cpvm.vmlinuz", IMAGES / "cpvm.initrd"],
        capture_output=True, text=True, check=True, timeout=420,
    )  # fmt: skip
    assert done.stdout == "kvm\n", done.stderr


@pytest.mark.skipif(not shutil.which("packer"), reason="packer is not installed")
def test_packer_accepts_the_template(tmp_path: Path) -> None:
    names = ("payload", "credentials", "build_key", "base_disk", "kernel", "initrd")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "build_key"], check=True)
    for name in names:
        if not (tmp_path / name).exists():
            (tmp_path / name).write_text("x")
    variables = {name: str(tmp_path / name) for name in names}
    variables |= {
        "name": "ssvm", "qemu": "qemu-system-x86_64", "board": "q35", "firmware": "bios-256k.bin",
        "accelerator": "tcg", "accelerator_options": "tcg", "cpu": "max", "append": "quiet",
        "output": str(tmp_path / "output"),
    }  # fmt: skip
    (tmp_path / "variables.json").write_text(json.dumps(variables))
    done = subprocess.run(
        [PACKER / "run-packer.sh", "validate", tmp_path / "work", tmp_path / "variables.json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_provisioning_steps_are_short() -> None:
    for step in (PACKER / "provision").glob("*.sh"):
        assert len(step.read_text().splitlines()) <= 60, step
