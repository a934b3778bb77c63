# SPDX-License-Identifier: Apache-2.0
"""Builds the appliances' images: root file systems by mmdebstrap, then Packer, then what goes beside them.

usage: python packer/build.py [base|images] [ROLE…]

Each stage is skipped when its inputs have the content that its results were made from. Results: build/images.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mirror
import payload
import sbom
from appliance import ROLES, TOP, Appliance, load
from stamps import Stamp, digest, sha256_of

PACKER = TOP / "packer"
BUILD = TOP / "build"
BASE = BUILD / "base"
IMAGES = BUILD / "images"
STAMPS = BUILD / "stamps"
GUEST_LOCK = TOP / "agents/locks/guest.txt"
BUILD_NETWORK_UNIT = """[Unit]
DefaultDependencies=no
Before=ssh.service network.target
[Service]
Type=oneshot
ExecStart=/usr/sbin/ip link set eth0 up
ExecStart=/usr/sbin/ip address add 10.0.2.15/24 dev eth0
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
"""
NEEDED = {
    "mmdebstrap": "mmdebstrap", "packer": "packer", "mke2fs": "e2fsprogs", "sfdisk": "fdisk", "cpio": "cpio",
    "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "zstd": "zstd", "xz": "xz-utils",
    "npm": "npm", "ip": "iproute2", "unshare": "util-linux", "ssh-keygen": "openssh-client",
}  # fmt: skip


def say(text: str) -> None:
    print(f"images: {text}", flush=True)


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


def check_host() -> None:
    """Say all that is missing at once."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = sorted({package for program, package in NEEDED.items() if not shutil.which(program, path=path)})
    if missing:
        raise SystemExit(
            f"error: building images needs {', '.join(missing)}\nhint:  `make setup` installs them"
        )
    if os.geteuid() != 0:
        raise SystemExit(
            "error: building images needs root (chroot and a network namespace)\nhint:  run it with sudo"
        )
    free = shutil.disk_usage(TOP).free
    if free < 6 << 30:
        raise SystemExit(f"error: building images needs 6 GiB of disk, {free >> 30} GiB are free below {TOP}")


@contextmanager
def only_one() -> Iterator[None]:
    """Two builds in one tree would overwrite each other's parts."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "images.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is at work in this tree; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def build_rootfs(appliance: Appliance) -> Path:
    tar = BASE / f"{appliance.role}.tar"
    inputs = digest(
        PACKER / "base/rootfs.sh", PACKER / "base/customize.sh", PACKER / "base/before-packages.sh",
        appliance.suite, appliance.architecture, str(appliance.source_date_epoch), *appliance.debian_packages,
    )  # fmt: skip
    stamp = Stamp(STAMPS / f"{appliance.role}.rootfs.json", [tar])
    if stamp.holds(inputs):
        return tar
    say(f"{appliance.role}: root file system from Debian's packages (about a minute)")
    BASE.mkdir(parents=True, exist_ok=True)
    new = tar.with_name(f"{appliance.role}.new.tar")
    run(
        PACKER / "base/rootfs.sh", appliance.suite, appliance.architecture,
        ",".join(appliance.debian_packages), new,
        log=BUILD / f"logs/{appliance.role}-rootfs.log",
        stdin="\n".join(mirror.source_lines(appliance.suite)) + "\n",
        SOURCE_DATE_EPOCH=str(appliance.source_date_epoch),
    )  # fmt: skip
    new.replace(tar)
    stamp.set(inputs)
    return tar


def build_disk(appliance: Appliance, tar: Path) -> Path:
    """The base disk, with kernel and initial file system beside it; the answer is their common prefix."""
    prefix = BASE / appliance.role
    outputs = [prefix.with_suffix(suffix) for suffix in (".raw", ".vmlinuz", ".initrd", ".dpkg-status")]
    lists = TOP / "appliances/base"
    inputs = digest(
        sha256_of(tar), PACKER / "base/disk.sh", PACKER / "base/initrd.sh", PACKER / "base/init",
        lists / "initrd-modules", lists / "ready-modules", str(appliance.disk_bytes),
    )  # fmt: skip
    stamp = Stamp(STAMPS / f"{appliance.role}.disk.json", outputs)
    if not stamp.holds(inputs):
        say(f"{appliance.role}: base disk, kernel and initial file system (a few seconds)")
        run(
            PACKER / "base/disk.sh", tar, lists, str(appliance.disk_bytes), prefix,
            log=BUILD / f"logs/{appliance.role}-disk.log",
            SOURCE_DATE_EPOCH=str(appliance.source_date_epoch),
        )  # fmt: skip
        stamp.set(inputs)
    return prefix


def fetch_wheels() -> list[Path]:
    directory = BUILD / "wheels"
    stamp_file = STAMPS / "wheels.json"
    inputs = digest(GUEST_LOCK)
    present = sorted(directory.glob("*.whl"))
    stamp = Stamp(stamp_file, present)
    if not stamp.holds(inputs):
        say("the agents' Python packages, each against its hash (a few seconds)")
        payload.fetch_wheels(GUEST_LOCK, directory)
        present = sorted(directory.glob("*.whl"))
        Stamp(stamp_file, present).set(inputs)
    return present


def fetch_novnc() -> Path:
    directory = BUILD / "novnc"
    stamp = Stamp(STAMPS / "novnc.json", [directory / "package.json"])
    inputs = digest(PACKER / "novnc")
    if not stamp.holds(inputs):
        say("stock noVNC for the consoles (a few seconds)")
        shutil.rmtree(directory, ignore_errors=True)
        run(PACKER / "novnc/fetch.sh", directory, log=BUILD / "logs/novnc.log")
        stamp.set(inputs)
    return directory


def choose_accelerator(prefix: Path) -> str:
    """kvm or tcg, asked of a real guest once per build directory and kernel."""
    answer = BUILD / "accelerator"
    stamp = Stamp(STAMPS / "accelerator.json", [answer])
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    inputs = digest(PACKER / "probe-accelerator.sh", boot_id)
    if not stamp.holds(inputs):
        done = subprocess.run(
            [PACKER / "probe-accelerator.sh", prefix.with_suffix(".vmlinuz"), prefix.with_suffix(".initrd")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        answer.write_text(done.stdout)
        stamp.set(inputs)
        say(f"accelerator: {done.stdout.strip()}")
    return answer.read_text().strip()


def build_image(appliance: Appliance) -> None:
    role = appliance.role
    prefix = build_disk(appliance, build_rootfs(appliance))
    wheels = fetch_wheels()
    novnc = fetch_novnc() if role == "cpvm" else None
    names = [f"{role}.{kind}" for kind in ("qcow2", "vmlinuz", "initrd", "manifest.json", "spdx.json")]
    stamp = Stamp(STAMPS / f"{role}.image.json", [IMAGES / name for name in names])
    accelerator = choose_accelerator(prefix)
    inputs = digest(
        json.loads((STAMPS / f"{role}.disk.json").read_text())["inputs"],
        GUEST_LOCK, *appliance.definition, TOP / "systemd/guest", TOP / "systemd/policy",
        *(TOP / "agents/systemvm" / name for name in appliance.packages_of_ours),
        *(path for path in sorted(PACKER.glob("*.pkr.hcl"))), PACKER / "provision", PACKER / "payload.py",
        PACKER / "build.py", PACKER / "sbom.py", PACKER / "run-packer.sh", appliance.version,
        *([PACKER / "novnc"] if novnc else []),
    )  # fmt: skip
    if stamp.holds(inputs):
        say(f"{role}: up to date")
        return
    root_sha256 = sha256_of(BASE / f"{role}.tar")
    built = time.strftime("%Y-%m-%d", time.gmtime())
    facts = {
        "version": appliance.version, "role": role, "arch": appliance.architecture, "sha256": root_sha256,
        "root_sha256": root_sha256, "built": built,
    }  # fmt: skip
    work = BUILD / "packer" / role
    own = payload.build_own_wheel(BUILD / "packer" / f"{role}-wheel", appliance.source_date_epoch)
    bundle = payload.stage(appliance, work, [*wheels, own], novnc, facts)
    say(f"{role}: Packer boots it, installs the agents, and makes it boot by itself (one to three minutes)")
    started = time.monotonic()
    image = _packer(appliance, prefix, bundle, work, accelerator)
    size = image.stat().st_size
    if size > appliance.image_max_bytes:
        raise SystemExit(
            f"error: {image} has {size} bytes, more than the {appliance.image_max_bytes} it may have"
        )
    _publish(appliance, prefix, image, [*wheels, own], novnc, facts)
    stamp.set(inputs)
    say(f"{role}: done in {time.monotonic() - started:.0f} s, {size / 2**20:.0f} MiB")
    shutil.rmtree(work)


def _packer(appliance: Appliance, prefix: Path, bundle: Path, work: Path, accelerator: str) -> Path:
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


def _publish(
    appliance: Appliance,
    prefix: Path,
    image: Path,
    wheels: list[Path],
    novnc: Path | None,
    facts: dict[str, str],
) -> None:
    """Put the image and what belongs to it into build/images, each file whole from one moment to the next."""
    role = appliance.role
    IMAGES.mkdir(exist_ok=True)
    bill = sbom.document(
        role, appliance.version, appliance.suite, prefix.with_suffix(".dpkg-status"), wheels, novnc,
        appliance.source_date_epoch,
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
    }
    new[f"{role}.manifest.json"].write_text(json.dumps(manifest, indent=1) + "\n")
    for name, path in new.items():
        path.chmod(0o644)
        path.replace(IMAGES / name)
    sums = "".join(f"{sha256_of(path)}  {path.name}\n" for path in sorted(IMAGES.glob("[a-z]*.*")))
    (IMAGES / "SHA256SUMS").write_text(sums)


def main(arguments: list[str]) -> int:
    goal = arguments[0] if arguments else "images"
    roles = arguments[1:] or list(ROLES)
    if goal not in ("base", "images") or any(role not in ROLES for role in roles):
        print(__doc__, file=sys.stderr)
        return 64
    check_host()
    with only_one():
        for role in roles:
            if goal == "base":
                appliance = load(role)
                build_disk(appliance, build_rootfs(appliance))
            else:
                build_image(load(role))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
