# SPDX-License-Identifier: Apache-2.0
"""Fills build/cache with every locked input of the images; the only step of a build that uses the network.

usage: python packer/fetch.py [fetch|lock] [--arch ARCH] [--for-images]

fetch   whatever the cache lacks: Debian packages, wheels, packages of npm, Packer's plugin where it needs one
lock    write packer/locks/debs.ARCH.txt from what the mirror has now

With --for-images nothing is fetched for images that are up to date.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import build
import deb_lock
import mirror
import payload
from appliance import ROLES, Appliance, load
from bake import BUILD, PACKER, run
from cache import GUEST_LOCK, Cache, matches, rejection_message
from deb_lock import DebLock
from isolated_apt import CannotResolveError, IsolatedApt
from npm_package import NPM_PACKAGES, NpmPackage
from stamps import sha256_of

from systemvm.host.architecture import Architecture


def report(text: str) -> None:
    print(f"fetch: {text}", flush=True)


def _isolated_apt(appliance: Appliance) -> IsolatedApt:
    return IsolatedApt(BUILD / "apt" / appliance.architecture, appliance.suite, appliance.architecture)


def resolve(apt: IsolatedApt, appliances: list[Appliance], lock: DebLock | None = None) -> DebLock:
    """Return the mirror's packages for the appliances' lists, as close to `lock` as possible."""
    pins = lock.debs if lock else ()
    instead_of = lock.digest if lock else ""
    try:
        return DebLock.of(
            {appliance.role: apt.resolve(appliance.debian_packages, pins) for appliance in appliances},
            instead_of,
        )
    except CannotResolveError as error:
        if lock is None:
            raise SystemExit(f"{error}\nerror: apt cannot resolve the appliances' packages") from error
    # locked and new versions conflict: use only new ones
    new = resolve(apt, appliances)
    return DebLock(new.debs, instead_of)


def fetch_debs(appliances: list[Appliance], cache: Cache) -> None:
    """Download the locked packages; when the mirror no longer has one, its replacement.

    Raises: SystemExit when LOCKED forbids a replacement, or a locked version has other content.
    """
    lock = deb_lock.committed(cache.architecture)
    wanted = lock if os.environ.get("LOCKED") else cache.lock()
    missing = cache.missing_debs(wanted)
    if missing:
        apt = _isolated_apt(appliances[0])
        apt.update()
        offered = resolve(apt, appliances, lock)
        _same_content(lock, offered)
        here = {deb.key for deb in offered.debs}
        missing_of_lock = cache.missing_debs(lock)
        if all(deb.key in here for deb in missing_of_lock):
            wanted, missing = lock, missing_of_lock
        else:
            wanted, missing = offered, cache.missing_debs(offered)
            if os.environ.get("LOCKED"):
                raise SystemExit(rejection_message(deb_lock.deviations(lock.debs, offered.debs)))
        report(f"{len(missing)} Debian packages, {sum(deb.size_bytes for deb in missing) >> 20} MiB")
        with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
            apt.download(missing, Path(scratch))
            _keep(missing, Path(scratch), cache)
    if wanted.instead_of:
        wanted.write(cache.deviating_lock)
        warn(deb_lock.deviations(lock.debs, wanted.debs))
    else:
        cache.deviating_lock.unlink(missing_ok=True)


def _same_content(lock: DebLock, offered: DebLock) -> None:
    """Check that the mirror has locked versions with the locked content: a version is published once.

    Raises: SystemExit when the content differs.
    """
    hashes = {deb.key: deb.sha256 for deb in lock.debs}
    for deb in offered.debs:
        if hashes.get(deb.key, deb.sha256) != deb.sha256:
            raise SystemExit(
                f"error: hash of {deb.name} {deb.version} from the mirror differs from the locked one\n"
                "hint:  do not trust that mirror; set MIRROR= to another one"
            )


def _keep(debs: list[deb_lock.Deb], scratch: Path, cache: Cache) -> None:
    cache.debs.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        # apt writes a version's colon as %3a
        found = next(iter(scratch.glob(f"{deb.name}_*_{deb.architecture}.deb")), None)
        if found is None or sha256_of(found) != deb.sha256:
            raise SystemExit(f"error: {deb.name} {deb.version} is incomplete\nhint:  run the command again")
        shutil.move(found, cache.path(deb))


def warn(differences: list[str]) -> None:
    lines = "\n".join(f"         {line}" for line in differences)
    print(
        f"warning: {len(differences)} Debian packages of the mirror differ from the lock:\n{lines}\n"
        "hint:    run `make lock-debs` to lock the mirror's versions, or set LOCKED=1 to reject them;\n"
        "         manifests and bills of materials list them",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def fetch_wheels(cache: Cache) -> None:
    if any(path is None for path in cache.locked_wheels().values()):
        report("the agents' Python packages")
        payload.fetch_wheels(GUEST_LOCK, cache.wheels, Architecture.of(cache.architecture).machine_name)


def fetch_npm(cache: Cache, package: NpmPackage) -> None:
    if cache.holds_npm(package):
        return
    report(f"{package.title} {package.version}")
    cached = cache.npm(package)
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        wanted = f"{package.name}@{package.version}"
        done = subprocess.run(
            ["npm", "pack", wanted, "--pack-destination", scratch, "--loglevel=error"],
            capture_output=True, text=True, check=False, env=mirror.environment(), cwd=scratch,
        )  # fmt: skip
        found = next(iter(Path(scratch).glob("*.tgz")), None)
        if done.returncode != 0 or found is None:
            raise SystemExit(f"{done.stderr.strip()}\nerror: npm cannot download {wanted}")
        if not matches(found, package.integrity):
            raise SystemExit(f"error: {wanted} from the registry does not have the locked hash")
        shutil.move(found, cached)


def fetch_plugins(cache: Cache) -> None:
    """Download Packer's plugin; nothing for Debian's Packer, which has its plugins built in."""
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        run(
            PACKER / "run-packer.sh", "init", scratch, "-", log=BUILD / "logs/packer-init.log",
            environment={"PACKER_PLUGIN_PATH": str(cache.top / "packer-plugins"), **mirror.environment()},
        )  # fmt: skip


def main(arguments: list[str]) -> int:
    rest = [argument for argument in arguments if argument != "--for-images"]
    goal = rest.pop(0) if rest and not rest[0].startswith("-") else "fetch"
    arch = rest[1] if rest[:1] == ["--arch"] and len(rest) == 2 else None
    if goal not in ("fetch", "lock") or (rest and arch is None):
        print(__doc__, file=sys.stderr)
        return 64
    BUILD.mkdir(exist_ok=True)
    appliances = [load(role, arch) for role in ROLES]
    architecture = appliances[0].architecture
    if goal == "lock":
        apt = _isolated_apt(appliances[0])
        apt.update()
        new = resolve(apt, appliances)
        path = deb_lock.lock_path(architecture)
        old = DebLock.read(path).debs if path.exists() else new.debs
        new.write(path)
        report(
            "\n       ".join([f"{path.name}: {len(new.debs)} packages", *deb_lock.deviations(old, new.debs)])
        )
        return 0
    cache = Cache.of(architecture)
    if "--for-images" in arguments and all(build.is_current(appliance) for appliance in appliances):
        return 0
    with build.only_one():
        fetch_debs(appliances, cache)
        fetch_wheels(cache)
        for package in NPM_PACKAGES:
            fetch_npm(cache, package)
        fetch_plugins(cache)
    cache.require_complete(cache.lock())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
