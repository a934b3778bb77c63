# SPDX-License-Identifier: Apache-2.0
"""From a base disk and a payload to build/images: Packer's run, and what is published beside the image."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import deb_lock
import sbom
from appliance import TOP, Appliance
from cache import GUEST_LOCK, novnc_facts
from stamps import sha256_of

PACKER = TOP / "packer"
BUILD = TOP / "build"
IMAGES = BUILD / "images"
BUILD_NETWORK_UNIT = """[Unit]
DefaultDependencies=no
Before=ssh.service network.target
[Service]
Type=oneshot
ExecStart=/usr/sbin/ip link set eth0 up
ExecStart=/usr/sbin/ip address add 10.0.2.15/24 dev eth0
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
"""


def run(*command: str | Path, log: Path, stdin: str = "", **environment: str) -> None:
    """Run one step with its output in a file; a failure shows the end of it and where the rest is."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        done = subprocess.run(
            [str(word) for word in command], input=stdin.encode(), stdout=stream, stderr=subprocess.STDOUT,
            env={**os.environ, **environment}, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise SystemExit(f"{tail}\nerror: {Path(command[0]).name} failed\nhint:  the whole log is {log}")


def bake(appliance: Appliance, prefix: Path, bundle: Path, work: Path, accelerator: str) -> Path:
    key = work / "build_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "build", "-f", key], check=True)

    def binary(name: str, content: str) -> str:
        return f"io.systemd.credential.binary:{name}={base64.b64encode(content.encode()).decode()}"

    # The build's way in goes by SMBIOS strings, so that none of it is ever on the disk.
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
    variables = {
        "role": appliance.role,
        "accelerator": accelerator,
        "accelerator_options": "kvm" if accelerator == "kvm" else "tcg,tb-size=128",
        "cpu": "host" if accelerator == "kvm" else "max",
        "base_disk": str(prefix.with_suffix(".raw")),
        "kernel": str(prefix.with_suffix(".vmlinuz")),
        "initrd": str(prefix.with_suffix(".initrd")),
        "append": appliance.append,
        "payload": str(bundle),
        "credentials": str(work / "credential"),
        "build_key": str(key),
        "output": str(work / "output"),
    }
    (work / "variables.json").write_text(json.dumps(variables))
    run(
        PACKER / "run-packer.sh", "build", work, work / "variables.json",
        log=BUILD / f"logs/{appliance.role}-packer.log",
    )  # fmt: skip
    return work / "output" / f"{appliance.role}.qcow2"


def publish(
    appliance: Appliance,
    prefix: Path,
    image: Path,
    wheels: list[Path],
    novnc: Path | None,
    facts: dict[str, str],
    lock: deb_lock.DebLock,
) -> None:
    """Put the image and what belongs to it into build/images, each file whole from one moment to the next."""
    role = appliance.role
    IMAGES.mkdir(exist_ok=True)
    debs = lock.of_role(role)
    differences = deb_lock.deviations(deb_lock.committed(appliance.architecture).of_role(role), debs)
    bill = sbom.document(
        role, appliance.version, appliance.suite, prefix.with_suffix(".dpkg-status"), debs, differences,
        wheels, novnc, appliance.source_date_epoch,
    )  # fmt: skip
    new = {
        f"{role}.{kind}": IMAGES / f".{role}.{kind}"
        for kind in ("qcow2", "vmlinuz", "initrd", "spdx.json", "manifest.json")
    }
    shutil.move(image, new[f"{role}.qcow2"])
    shutil.copy(prefix.with_suffix(".vmlinuz"), new[f"{role}.vmlinuz"])
    shutil.copy(prefix.with_suffix(".initrd"), new[f"{role}.initrd"])
    new[f"{role}.spdx.json"].write_text(json.dumps(bill, indent=1) + "\n")
    manifest = {
        "role": role,
        "version": appliance.version,
        "arch": appliance.architecture,
        "disk": f"{role}.qcow2",
        "kernel": f"{role}.vmlinuz",
        "initrd": f"{role}.initrd",
        "append": appliance.append,
        "sha256": {name: sha256_of(path) for name, path in new.items() if not name.endswith("manifest.json")},
        "root_sha256": facts["root_sha256"],
        "built": facts["built"],
        "inputs": {
            "debs": deb_lock.DebLock(tuple(debs)).digest,
            "deviations": differences,
            "wheels": sha256_of(GUEST_LOCK),
            "novnc": novnc_facts()["integrity"] if novnc else "",
        },
    }
    new[f"{role}.manifest.json"].write_text(json.dumps(manifest, indent=1) + "\n")
    for name, path in new.items():
        path.chmod(0o644)
        path.replace(IMAGES / name)
    sums = "".join(f"{sha256_of(path)}  {path.name}\n" for path in sorted(IMAGES.glob("[a-z]*.*")))
    (IMAGES / "SHA256SUMS").write_text(sums)
