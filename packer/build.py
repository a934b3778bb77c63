# SPDX-License-Identifier: Apache-2.0
"""Builds the appliances' images: root file systems by mmdebstrap, then Packer, then the published files.

usage: python packer/build.py [base|images|exports|status] [--arch ARCH] [ROLE…]

All inputs come from the cache that packer/fetch.py filled; make runs it without a network.
A stage is skipped when the content of its inputs has not changed. The results are in build/images.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path

import export
import foreign
import payload
import repository
from appliance import ROLES, TOP, Appliance, load
from bake import BUILD, IMAGES, PACKER, bake, publish, run
from cache import GUEST_LOCK, Cache
from deb_lock import DebLock
from npm_package import NPM_PACKAGES
from stamps import Stamp, digest, sha256_of

from systemvm.host.architecture import Architecture

BASE = BUILD / "base"
STAMPS = BUILD / "stamps"
NEEDED = {
    "mmdebstrap": "mmdebstrap", "packer": "packer", "mke2fs": "e2fsprogs", "sfdisk": "fdisk", "cpio": "cpio",
    "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "zstd": "zstd", "xz": "xz-utils",
    "dpkg-deb": "dpkg", "ip": "iproute2", "unshare": "util-linux", "ssh-keygen": "openssh-client",
    "mformat": "mtools",
}  # fmt: skip


def report(text: str) -> None:
    print(f"images: {text}", flush=True)


def check_host(machine: Architecture) -> None:
    """Check programs, privileges and disk space.

    Raises: SystemExit when something is missing.
    """
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    needed = {**NEEDED, **({} if machine.is_this_hosts else foreign.needed(machine))}
    missing = sorted({package for program, package in needed.items() if not shutil.which(program, path=path)})
    if missing:
        raise SystemExit(
            f"error: programs for building images are missing: {', '.join(missing)}\nhint:  run `make setup`"
        )
    if os.geteuid() != 0:
        raise SystemExit(
            "error: building images needs root (chroot and a network namespace)\nhint:  run it with sudo"
        )
    free = shutil.disk_usage(TOP).free
    if free < 6 << 30:
        raise SystemExit(
            f"error: not enough disk space in {TOP}: {free >> 30} GiB free, 6 GiB required\n"
            "hint:  delete files"
        )


@contextmanager
def only_one() -> Iterator[None]:
    """Hold a lock in the block: two builds in one tree would overwrite each other's files."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "images.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another build in this tree")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def rootfs_tar(appliance: Appliance) -> Path:
    return BASE / f"{appliance.name}.tar"


def lock_of(appliance: Appliance) -> DebLock:
    """Return the Debian packages to build from.

    Raises: SystemExit when a package of the lists is not locked.
    """
    lock = Cache.of(appliance.architecture).lock()
    unknown = set(appliance.debian_packages) - {deb.name for deb in lock.of_role(appliance.role)}
    if unknown:
        raise SystemExit(
            f"error: Debian packages of {appliance.role} are not locked: {', '.join(sorted(unknown))}\n"
            f"hint:  run `make lock-debs ARCH={appliance.architecture}`"
        )
    return lock


def rootfs_stage(appliance: Appliance) -> tuple[Stamp, str]:
    inputs = digest(
        PACKER / "base/rootfs.sh", PACKER / "base/customize.sh", PACKER / "base/before-packages.sh",
        appliance.suite, appliance.architecture, str(appliance.source_date_epoch), *appliance.debian_packages,
        *(" ".join(deb.key) + deb.sha256 for deb in lock_of(appliance).of_role(appliance.role)),
    )  # fmt: skip
    return Stamp(STAMPS / f"{appliance.name}.rootfs.json", [rootfs_tar(appliance)]), inputs


def build_rootfs(appliance: Appliance) -> None:
    stamp, inputs = rootfs_stage(appliance)
    if stamp.holds(inputs):
        return
    tar = rootfs_tar(appliance)
    report(f"{appliance.name}: root file system from Debian's packages (about a minute)")
    BASE.mkdir(parents=True, exist_ok=True)
    new = tar.with_name(f"{appliance.name}.new.tar")
    cache = Cache.of(appliance.architecture)
    debs = lock_of(appliance).of_role(appliance.role)
    shown = BASE / f"{appliance.name}.repository"
    source = repository.make(
        shown, appliance.suite, appliance.architecture, [(deb, cache.path(deb)) for deb in debs]
    )
    run(
        PACKER / "base/rootfs.sh", appliance.suite, appliance.architecture,
        ",".join(appliance.debian_packages), new,
        log=BUILD / f"logs/{appliance.name}-rootfs.log",
        stdin=source + "\n",
        environment={"SOURCE_DATE_EPOCH": str(appliance.source_date_epoch)},
    )  # fmt: skip
    shutil.rmtree(shown)
    different = repository.installed_otherwise(new, debs)
    if different:
        lines = "\n".join(f"       {line}" for line in different)
        raise SystemExit(
            f"error: packages of {appliance.role} do not match the lock:\n{lines}\n"
            f"hint:  run `make lock-debs ARCH={appliance.architecture}`"
        )
    new.replace(tar)
    stamp.set(inputs)


def disk_stage(appliance: Appliance) -> tuple[Stamp, str]:
    """Return stamp and inputs of the base disk; the root file system must exist."""
    prefix = BASE / appliance.name
    outputs = [prefix.with_suffix(suffix) for suffix in (".raw", ".vmlinuz", ".initrd", ".dpkg-status")]
    lists = TOP / "appliances/base"
    inputs = digest(
        sha256_of(rootfs_tar(appliance)),
        PACKER / "base/disk.sh", PACKER / "base/uefi.sh", PACKER / "base/initrd.sh", PACKER / "base/init",
        lists / "initrd-modules", lists / "ready-modules", str(appliance.disk_bytes),
    )  # fmt: skip
    return Stamp(STAMPS / f"{appliance.name}.disk.json", outputs), inputs


def build_disk(appliance: Appliance) -> Path:
    """Build the base disk, kernel and initial file system; return their common prefix."""
    build_rootfs(appliance)
    prefix = BASE / appliance.name
    stamp, inputs = disk_stage(appliance)
    if not stamp.holds(inputs):
        report(f"{appliance.name}: base disk, kernel and initial file system (a few seconds)")
        run(
            PACKER / "base/disk.sh", rootfs_tar(appliance), TOP / "appliances/base",
            str(appliance.disk_bytes), prefix,
            log=BUILD / f"logs/{appliance.name}-disk.log",
            environment={"SOURCE_DATE_EPOCH": str(appliance.source_date_epoch)},
        )  # fmt: skip
        stamp.set(inputs)
    return prefix


def unpack_npm(cache: Cache) -> None:
    for package in NPM_PACKAGES:
        there = BUILD / package.home
        stamp = Stamp(STAMPS / f"{package.home}.json", [there / "package.json"])
        inputs = digest(package.lock, PACKER / "npm_package.py")
        if not stamp.holds(inputs):
            package.unpack(cache.npm(package), there)
            stamp.set(inputs)


def choose_accelerator(prefix: Path) -> str:
    """Return kvm or tcg, probed with a guest once for each build directory and boot of the host."""
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
        report(f"accelerator: {done.stdout.strip()}")
    return answer.read_text().strip()


def image_stage(appliance: Appliance) -> tuple[Stamp, str]:
    """Return stamp and inputs of the image; the base disk must exist."""
    role, name = appliance.role, appliance.name
    names = [f"{name}.{kind}" for kind in ("qcow2", "vmlinuz", "initrd", "manifest.json", "spdx.json")]
    inputs = digest(
        json.loads((STAMPS / f"{name}.disk.json").read_text())["inputs"],
        GUEST_LOCK, *appliance.definition, TOP / "systemd/policy",
        *(TOP / "systemd/guest" / unit for unit in appliance.units),
        *(TOP / "agents/systemvm" / package for package in appliance.packages_of_ours),
        *(TOP / name for name in payload.WHEEL_FILES),
        *sorted(PACKER.glob("*.pkr.hcl")), PACKER / "provision", PACKER / "payload.py", PACKER / "bake.py",
        PACKER / "sbom.py", PACKER / "run-packer.sh", appliance.version,
        *([PACKER / "novnc", PACKER / "xterm", PACKER / "npm_package.py"] if role == "cpvm" else []),
    )  # fmt: skip
    return Stamp(STAMPS / f"{name}.image.json", [IMAGES / file for file in names]), inputs


def is_current(appliance: Appliance) -> bool:
    """Return whether a build would do nothing."""
    # the inputs of each stage are the results of the previous one
    return all(stamp.holds(inputs) for stamp, inputs in _stages(appliance))


def _stages(appliance: Appliance) -> Iterator[tuple[Stamp, str]]:
    yield rootfs_stage(appliance)
    yield disk_stage(appliance)
    yield image_stage(appliance)


def build_image(appliance: Appliance, accelerator: str) -> None:
    """Build the image; base disk, wheels and npm's packages must exist."""
    role = appliance.role
    name = appliance.name
    prefix = BASE / name
    cache = Cache.of(appliance.architecture)
    wheels = sorted(path for path in cache.locked_wheels().values() if path is not None)
    stock = [BUILD / package.home for package in NPM_PACKAGES] if role == "cpvm" else []
    stamp, inputs = image_stage(appliance)
    if stamp.holds(inputs):
        report(f"{name}: up to date")
        return
    root_sha256 = sha256_of(rootfs_tar(appliance))
    built = time.strftime("%Y-%m-%d", time.gmtime())
    facts = {
        "version": appliance.version, "role": role, "arch": appliance.architecture,
        "sha256": root_sha256, "root_sha256": root_sha256, "built": built,
    }  # fmt: skip
    work = BUILD / "packer" / name
    own = payload.build_own_wheel(appliance, BUILD / "packer" / f"{name}-wheel")
    bundle = payload.stage(appliance, work, [*wheels, own], stock, facts)
    report(f"{name}: Packer boots it, installs the agents, and makes it bootable (about two minutes)")
    started = time.monotonic()
    image = bake(appliance, prefix, bundle, work, accelerator)
    size = image.stat().st_size
    if size > appliance.image_max_bytes:
        raise SystemExit(
            f"error: {image} is too large: {size} bytes, the maximum is {appliance.image_max_bytes}"
        )
    publish(appliance, prefix, image, [*wheels, own], stock, facts, lock_of(appliance))
    stamp.set(inputs)
    report(f"{name}: done in {time.monotonic() - started:.0f} s, {size / 2**20:.0f} MiB")
    shutil.rmtree(work)


def build_exports(appliance: Appliance) -> None:
    """Export an image, which must exist; exports of the same image are not made again."""
    image = IMAGES / f"{appliance.name}.qcow2"
    outputs = [image.with_suffix(suffix) for suffix in (".vhd", ".ova")]
    stamp, inputs = (
        Stamp(STAMPS / f"{appliance.name}.exports.json", outputs),
        digest(sha256_of(image), PACKER / "export.py"),
    )
    if stamp.holds(inputs):
        report(f"{appliance.name}: exports are up to date")
        return
    report(f"{appliance.name}: VHD and OVA (half a minute)")
    export.export(appliance)
    stamp.set(inputs)


def main(arguments: list[str]) -> int:
    goal, *rest = arguments or ["images"]
    arch = rest[1] if rest[:1] == ["--arch"] and len(rest) > 1 else None
    roles = rest[2:] if arch is not None else rest
    if goal not in ("base", "images", "exports", "status") or any(role not in ROLES for role in roles):
        print(__doc__, file=sys.stderr)
        return 64
    appliances = [load(role, arch) for role in roles or ROLES]
    machine = appliances[0].machine
    if goal == "status":
        for appliance in appliances:
            report(f"{appliance.name}: {'up to date' if is_current(appliance) else 'to be built'}")
        return 0
    check_host(machine)
    if not machine.is_this_hosts:
        foreign.enable(machine)
    cache = Cache.of(appliances[0].architecture)
    if not all(is_current(appliance) for appliance in appliances):
        lock = cache.lock()
        if lock.instead_of:
            report("some Debian packages are not the locked ones; the manifests list them")
        cache.require_complete(lock)
    # in parallel: unpacking packages and emulating a guest each use one core
    with only_one(), ThreadPoolExecutor(len(appliances)) as pool:
        prefixes = list(pool.map(build_disk, appliances))
        if goal in ("images", "exports"):
            if any(appliance.role == "cpvm" for appliance in appliances):
                unpack_npm(cache)
            accelerator = choose_accelerator(prefixes[0]) if machine.is_this_hosts else "tcg"
            list(pool.map(build_image, appliances, repeat(accelerator)))
        if goal == "exports":
            list(pool.map(build_exports, appliances))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
