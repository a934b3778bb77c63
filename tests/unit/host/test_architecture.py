# SPDX-License-Identifier: Apache-2.0
"""Architectures: their names, and QEMU's command line for each."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from systemvm.host.accelerator import Accelerator
from systemvm.host.architecture import Architecture
from systemvm.management.hypervisors import qemu_arguments
from systemvm.management.hypervisors.base import Disk, DomainSpec, VncSpec
from systemvm.management.templates.registration import Registration, RegistrationError


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("amd64", "AMD64"), ("x86_64", "AMD64"), ("ARM64", "ARM64"), ("aarch64", "ARM64"), (None, "AMD64")],
)
def test_debians_and_cloudstacks_names_are_accepted(name: str | None, architecture: str) -> None:
    assert Architecture.of(name) is Architecture[architecture]


def test_an_unknown_architecture_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'vax'.*amd64 \(x86_64\), arm64 \(aarch64\)"):
        Architecture.of("vax")


def test_kvm_is_used_only_for_the_hosts_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert Accelerator.KVM.arguments_for(Architecture.AMD64) == ["-accel", "kvm", "-cpu", "host"]
    assert Accelerator.KVM.arguments_for(Architecture.ARM64)[:2] == ["-accel", "tcg,tb-size=128"]
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert Accelerator.KVM.arguments_for(Architecture.ARM64) == ["-accel", "kvm", "-cpu", "host"]


def test_an_arm_vm_has_its_board_firmware_and_devices(tmp_path: Path) -> None:
    spec = DomainSpec(
        name="i-2-3-VM", uuid="8a3f1c52-3e0f-4b5e-9c1d-000000000001", memory_mib=512, vcpus=1, nics=[],
        serial_log=tmp_path / "log", disk=Disk(tmp_path / "d"), cdrom=tmp_path / "iso",
        vnc=VncSpec("10.11.0.1", 0, "x"), arch=Architecture.ARM64,
    )  # fmt: skip
    channels = qemu_arguments.InheritedDescriptors(3, 8, [], 4, [], 5901)
    arguments = qemu_arguments.command_line(spec, spec.arch.qemu, Accelerator.TCG, channels)
    assert arguments[0] == "qemu-system-aarch64"
    assert arguments[arguments.index("-machine") + 1] == "virt"
    assert arguments[arguments.index("-bios") + 1].endswith("QEMU_EFI.fd")
    text = " ".join(arguments)
    assert "scsi-cd,bus=scsi0.0,id=cdrom0,drive=cd0,bootindex=1" in text
    assert "usb-kbd" in text  # a board without PS/2
    assert "ide" not in text.replace("side", "")


def test_images_of_another_architecture_have_other_names() -> None:
    assert Architecture.AMD64.image_name("ssvm") == "ssvm"
    assert Architecture.ARM64.image_name("ssvm") == "ssvm-arm64"


def test_a_template_keeps_debians_name_and_an_unknown_one_is_refused() -> None:
    values = {"format_name": "QCOW2", "name": "n", "url": "http://h.example/x.qcow2"}
    assert Registration.of(arch_name="aarch64", **values).arch == "arm64"
    assert Registration.of(**values).arch == "amd64"
    with pytest.raises(RegistrationError) as refused:
        Registration.of(arch_name="vax", **values)
    assert refused.value.parameter == "arch"
