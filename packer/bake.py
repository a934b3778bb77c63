# SPDX-License-Identifier: Apache-2.0
"""Runs Packer on a base disk and a payload, and publishes the image with its files in build/images."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import deb_lock
import sbom
from appliance import TOP, Appliance
from cache import GUEST_LOCK
from npm_package import NPM_PACKAGES
from progress import run_shown, tail
from stamps import sha256_of

from systemvm.host.accelerator import Accelerator

PACKER = TOP / "packer"
BUILD = TOP / "build"
IMAGES = BUILD / "images"
_SUMS = threading.Lock()
SERIAL_LOG = "credential.serial.log"  # as appliance.pkr.hcl names it, beside the credentials
PANIC = b"Kernel panic - not syncing"
BUILD_NETWORK_UNIT = """[Unit]
DefaultDependencies=no
Before=ssh.service network.target
[Service]
Type=oneshot
ExecStart=/usr/sbin/ip link set eth0 up
ExecStart=/usr/sbin/ip address add 10.0.2.15/24 dev eth0
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
"""


def run(
    *command: str | Path,
    log: Path,
    stdin: str = "",
    show: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run one step with its output in a log; a failure prints the end of the log.

    `show` prints Packer's steps as they begin.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    argv, variables = [str(part) for part in command], {**os.environ, **(environment or {})}
    with log.open("wb") as stream:
        if show is not None:
            code = run_shown(argv, stream, variables, show)
        else:
            done = subprocess.run(
                argv, input=stdin.encode(), stdout=stream, stderr=subprocess.STDOUT, env=variables,
                check=False,
            )  # fmt: skip
            code = done.returncode
    if code != 0:
        raise SystemExit(f"{tail(log)}\nerror: {Path(argv[0]).name} failed\nhint:  see {log}")


def bake(appliance: Appliance, prefix: Path, bundle: Path, work: Path, accelerator: str) -> Path:
    key = work / "build_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "build", "-f", key], check=True)

    def binary(name: str, content: str) -> str:
        return f"io.systemd.credential.binary:{name}={base64.b64encode(content.encode()).decode()}"

    # The build's key and network are passed by SMBIOS strings, so that the disk never contains them.
    credentials = {
        "ssh.authorized_keys.root": key.with_suffix(".pub").read_text(),
        "systemd.extra-unit.build-network.service": BUILD_NETWORK_UNIT,
        "systemd.unit-dropin.multi-user.target": "[Unit]\nWants=build-network.service\n",
    }
    smbios = []
    for number, (name, content) in enumerate(credentials.items()):
        path = work / f"credential-{number}"
        path.write_text(binary(name, content))
        smbios.append(path)
    architecture = appliance.machine
    argv = Accelerator(accelerator).arguments_for(architecture)
    options = dict(zip(argv[::2], argv[1::2], strict=True))
    variables = {
        "name": appliance.name,
        "qemu": architecture.qemu,
        "board": architecture.board,
        # QEMU finds its own BIOS by name
        "firmware": str(architecture.uefi) if architecture.firmware_arguments else "bios-256k.bin",
        "accelerator": "kvm" if options["-accel"] == "kvm" else "tcg",
        "accelerator_options": options["-accel"],
        "cpu": options["-cpu"],
        "base_disk": str(prefix.with_suffix(".raw")),
        "kernel": str(prefix.with_suffix(".vmlinuz")),
        "initrd": str(prefix.with_suffix(".initrd")),
        "append": f"{appliance.kernel_arguments} rw",  # the last one applies: this boot writes the disk
        "payload": str(bundle),
        "credentials": str(work / "credential"),
        "build_key": str(key),
        "output": str(work / "output"),
    }
    (work / "variables.json").write_text(json.dumps(variables))
    run_packer(
        work,
        BUILD / f"logs/{appliance.name}-packer.log",
        lambda text: print(f"images: {appliance.name}: {text}", flush=True),
    )
    return work / "output" / f"{appliance.name}.qcow2"


def run_packer(work: Path, log: Path, show: Callable[[str], None]) -> None:
    """Run Packer, and once more when the VM's kernel crashed, which happens under emulation."""
    argv = (PACKER / "run-packer.sh", "build", work, work / "variables.json")
    try:
        run(*argv, log=log, show=show)
    except SystemExit:
        console = work / SERIAL_LOG
        if not console.exists() or PANIC not in console.read_bytes():
            raise
        crashed = log.with_suffix(".crashed.log")
        console.replace(crashed)
        print(
            f"images: {log.stem}: the kernel of Packer's machine crashed ({crashed}); once more", flush=True
        )
        shutil.rmtree(work / "output", ignore_errors=True)
        run(*argv, log=log, show=show)


def publish(
    appliance: Appliance,
    prefix: Path,
    image: Path,
    wheels: list[Path],
    stock: list[Path],
    facts: dict[str, str],
    lock: deb_lock.DebLock,
) -> None:
    """Publish the image and its files in build/images, each file atomically."""
    name = appliance.name
    IMAGES.mkdir(exist_ok=True)
    debs = lock.of_role(appliance.role)
    differences = deb_lock.deviations(
        deb_lock.committed(appliance.architecture).of_role(appliance.role), debs
    )
    bill = sbom.document(
        name, appliance.version, appliance.suite, prefix.with_suffix(".dpkg-status"), debs, differences,
        wheels, stock, appliance.source_date_epoch,
    )  # fmt: skip
    new = {
        f"{name}.{kind}": IMAGES / f".{name}.{kind}"
        for kind in ("qcow2", "vmlinuz", "initrd", "spdx.json", "manifest.json")
    }
    shutil.move(image, new[f"{name}.qcow2"])
    shutil.copy(prefix.with_suffix(".vmlinuz"), new[f"{name}.vmlinuz"])
    shutil.copy(prefix.with_suffix(".initrd"), new[f"{name}.initrd"])
    new[f"{name}.spdx.json"].write_text(json.dumps(bill, indent=1) + "\n")
    manifest = {
        "role": appliance.role,
        "version": appliance.version,
        "arch": appliance.architecture,
        "disk": f"{name}.qcow2",
        "kernel": f"{name}.vmlinuz",
        "initrd": f"{name}.initrd",
        "append": appliance.kernel_arguments,
        "sha256": {file: sha256_of(path) for file, path in new.items() if not file.endswith("manifest.json")},
        "root_sha256": facts["root_sha256"],
        "built": facts["built"],
        "inputs": {
            "debs": deb_lock.DebLock(tuple(debs)).digest,
            "deviations": differences,
            "wheels": sha256_of(GUEST_LOCK),
            "npm": {package.name: package.integrity for package in NPM_PACKAGES} if stock else {},
        },
    }
    new[f"{name}.manifest.json"].write_text(json.dumps(manifest, indent=1) + "\n")
    for file, path in new.items():
        path.chmod(0o644)
        path.replace(IMAGES / file)
    for suffix in (".vhd", ".ova"):  # exports of the previous image
        (IMAGES / f"{name}{suffix}").unlink(missing_ok=True)
    write_sums()


def write_sums() -> None:
    """Write SHA256SUMS of everything that is published, with exports and other architectures."""
    with _SUMS:  # images are published in parallel, and the last one lists them all
        sums = "".join(f"{sha256_of(path)}  {path.name}\n" for path in sorted(IMAGES.glob("[a-z]*.*")))
        (IMAGES / "SHA256SUMS").write_text(sums)
