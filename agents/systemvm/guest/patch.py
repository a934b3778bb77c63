# SPDX-License-Identifier: Apache-2.0
"""New code for a running appliance, without a new image: run as root over ssh, from a bundle that brings it.

The daemon sends this file with every bundle, so that even an image too old to be talked to can be patched:
the standard library alone, and nothing of ours.

The new version gets a directory of its own beside the old one, and is first tried by a bind mount over the
old one's, which a power loss undoes. Only when the daemon has said `keep` is the link `current` replaced, by
one rename. In every other case, the daemon's death among them, the mount goes away and the old code runs
again.

On standard output one JSON object a line: {"step": "trial"}, then {"step": "kept"} or {"step": "undone"}.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

HOME = "opt/systemvm"
KEEP = "keep"
_LABEL = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
_PART = re.compile(r"systemvm(/[A-Za-z0-9_.-]+)+")
#: What is read of an agent that did not start.
_JOURNAL_LINES = 12

Run = Callable[[list[str], float], str]


class PatchError(Exception):
    """Why the new version is not used."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BundleManifest(NamedTuple):
    """What a bundle holds, as its `manifest.json` says."""

    version: str
    role: str
    requires: list[str]  # distributions that the code imports, which must be in the image already
    units: list[str]  # restarted; the first is the agent's
    sha256: dict[str, str]  # by path below `lib/`
    start_timeout_s: float

    @classmethod
    def read(cls, stage: Path) -> BundleManifest:
        """PatchError unless every file is there, is whole, and nothing else is."""
        try:
            manifest = cls(**json.loads((stage / "manifest.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise PatchError(f"the bundle has no manifest that can be read: {error}") from error
        if not _LABEL.fullmatch(manifest.version):
            raise PatchError(f"{manifest.version!r} is no version that a directory may be named by")
        lib = stage / "lib"
        there = {str(path.relative_to(lib)) for path in lib.rglob("*") if not path.is_dir()}
        if there != set(manifest.sha256):
            odd = sorted(there ^ set(manifest.sha256))[0]
            raise PatchError(f"the bundle and its manifest disagree about {odd}")
        for name, expected in manifest.sha256.items():
            path = lib / name
            if not _PART.fullmatch(name) or "/.." in name or path.is_symlink():
                raise PatchError(f"{name} is no file of ours")
            if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
                raise PatchError(f"{name} is damaged: its sha256 is another", "try again")
        return manifest


class Patch:
    """One bundle's way into the appliance below `root`."""

    def __init__(self, root: Path, stage: Path, run: Run) -> None:
        self._root = root
        self._stage = stage
        self._run = run
        self._home = root / HOME
        self._mounted: Path | None = None
        self._restarted = False
        self._fresh: Path | None = None
        self.manifest = BundleManifest.read(stage)
        self._target = self._home / self.manifest.version

    @property
    def current(self) -> Path:
        """The version that the next boot begins with."""
        return self._home / (self._home / "current").readlink()

    def check(self) -> None:
        """PatchError when this is not the appliance that the bundle was made for."""
        role = json.loads((self._root / "etc/systemvm/image.json").read_text()).get("role")
        if role not in (None, self.manifest.role):
            raise PatchError(f"the bundle is for a {self.manifest.role}, this is a {role}")
        have = {_normal(path.name.split("-")[0]) for path in (self.current / "lib").glob("*.dist-info")}
        missing = sorted(name for name in self.manifest.requires if _normal(name) not in have)
        if missing and have:
            raise PatchError(
                f"the new agent needs {', '.join(missing)}, which the image does not have",
                "destroy the system VM instead: another is made from the newest image",
            )

    def clear(self) -> bool:
        """Take away what a patch that was cut off has left; whether its code may be running."""
        mounts = _mounts_below(self._root, self._home)
        for mount in mounts:
            self._run(["umount", "--lazy", str(mount)], 30)
        left = list(self._home.glob(".new-*"))
        if left:
            with self._writable():
                for path in left:
                    shutil.rmtree(path)
        return bool(mounts)

    def recover(self) -> None:
        """The old version again, when the one that tried another was killed."""
        if self.clear():
            self._restart()

    def install(self) -> None:
        """Write the new version's directory, whole under its name or not at all; nobody uses it yet."""
        if self._target == self.current:
            return  # written and kept before: it is only started anew
        old = self.current
        with self._writable():
            if self._target.exists():
                shutil.rmtree(self._target)  # it was given up before
            building = self._home / f".new-{self.manifest.version}"
            try:
                _link_tree(old / "lib", building / "lib", without="systemvm")
                shutil.copytree(self._stage / "lib", building / "lib", dirs_exist_ok=True)
                self._write_programs(old, building)
                self._compile(building / "lib/systemvm")
                os.sync()
                building.rename(self._target)
            except OSError as error:
                shutil.rmtree(building, ignore_errors=True)
                raise PatchError(f"the new version cannot be written: {error}") from error
        self._fresh = self._target

    def begin_trial(self) -> None:
        """Every program that starts from now on is the new one; PatchError when the agent does not start."""
        old = self.current
        if self._target != old:
            self._run(["mount", "--bind", str(self._target), str(old)], 30)
            self._mounted = old
        self._restarted = True
        self._restart()

    def keep(self) -> None:
        """From now on this is the version of every boot; the one before it is kept, older ones go."""
        old = self.current
        if self._target != old:
            link = self._home / ".current-new"
            with self._writable():
                link.unlink(missing_ok=True)
                link.symlink_to(self._target.name)
                os.sync()
                link.rename(self._home / "current")
                _sync_directory(self._home)
                self._fresh = None
                self._unmount()
                for path in self._home.iterdir():
                    is_version = not path.is_symlink() and (path / "lib/systemvm").is_dir()
                    if is_version and path not in (old, self._target):
                        shutil.rmtree(path, ignore_errors=True)

    def undo(self) -> None:
        """The old version again, in the directory and in the processes."""
        self._unmount()
        if self._restarted:
            self._restart()
        if self._fresh is not None:
            with self._writable():
                shutil.rmtree(self._fresh, ignore_errors=True)
            self._fresh = None

    # ---- steps
    def _unmount(self) -> None:
        if self._mounted is not None:
            # lazy: nobody has a file of it open for longer than it takes to read it
            self._run(["umount", "--lazy", str(self._mounted)], 30)
            self._mounted = None

    def _restart(self) -> None:
        agent, *others = self.manifest.units
        try:
            self._run(["systemctl", "restart", agent], self.manifest.start_timeout_s)
        except PatchError as error:
            with contextlib.suppress(PatchError):
                self._run(["systemctl", "stop", "--no-block", agent], 30)  # it would try again and again
            said = self._last_error_line(agent)
            raise PatchError(f"the agent does not start: {said or error}") from error
        if others:
            self._run(["systemctl", "try-restart", *others], self.manifest.start_timeout_s)

    def _last_error_line(self, unit: str) -> str:
        """The line that tells most of why a unit did not start."""
        with contextlib.suppress(PatchError):
            show = ["journalctl", "--no-pager", "-o", "cat", "-n", str(_JOURNAL_LINES)]
            lines = self._run([*show, f"_SYSTEMD_UNIT={unit}"], 30).splitlines()
            said = [line.strip() for line in lines if line.strip()]
            errors = [line for line in said if re.match(r"\w*(Error|Exception|Cannot start)\b.*", line)]
            return (errors or said or [""])[-1][:300]
        return ""

    def _write_programs(self, old: Path, new: Path) -> None:
        """The image's programs, with the new library; what else there is needs a unit, and that an image."""
        (new / "bin").mkdir()
        before, after = f"/{HOME}/{old.name}/lib", f"/{HOME}/{self._target.name}/lib"
        for program in (old / "bin").iterdir():
            path = new / "bin" / program.name
            path.write_text(program.read_text().replace(before, after))
            path.chmod(0o755)

    def _compile(self, package: Path) -> None:
        """As the image's own was: nobody looks at the source when a program starts."""
        command = [sys.executable, "-I", "-m", "compileall", "-q", "-f"]
        self._run([*command, "--invalidation-mode", "unchecked-hash", str(package)], 300)

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        """The root file system is read-only but for this moment; one that is writable stays so."""
        if not os.statvfs(self._home).f_flag & os.ST_RDONLY:
            yield
            return
        self._run(["mount", "-o", "remount,rw", str(self._root)], 30)
        try:
            yield
        finally:
            os.sync()
            self._run(["mount", "-o", "remount,ro", str(self._root)], 30)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _link_tree(source: Path, target: Path, *, without: str) -> None:
    """Hard links: the packages of others are the image's own, and cost no space."""

    def ignored(directory: str, names: list[str]) -> list[str]:
        return [name for name in names if name == without and Path(directory) == source]

    shutil.copytree(source, target, ignore=ignored, copy_function=os.link)


def _mounts_below(root: Path, home: Path) -> list[Path]:
    lines = (root / "proc/self/mountinfo").read_text().splitlines()
    places = [Path(line.split()[4]) for line in lines]
    return [place for place in reversed(places) if home in place.parents]


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def run(command: list[str], timeout_s: float) -> str:
    """A command's output; PatchError with its own words when it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PatchError(str(error)) from error
    if done.returncode != 0:
        raise PatchError(f"{' '.join(command[:3])}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def converse(patch: Patch, verdicts: TextIO, say: Callable[[dict[str, Any]], None]) -> int:
    """The whole way; whatever is not a `keep` is the way back. 0 when the new version is kept."""
    try:
        patch.check()
        patch.clear()
        patch.install()
        patch.begin_trial()
        say({"step": "trial"})
        # the daemon's time limit is the limit: it ends this by a word, or by its own end
        if verdicts.readline().strip() != KEEP:
            raise PatchError("the daemon did not say to keep it")
        patch.keep()
        say({"step": "kept"})
    except BaseException as error:
        # whatever it is: half of a patch must not stay
        patch.undo()
        say(
            {
                "step": "undone",
                "error": str(error) or type(error).__name__,
                "hint": getattr(error, "hint", ""),
            }
        )
        return 1
    return 0


def _tell(fact: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody hears it; the way back is gone all the same
        sys.stdout.write(json.dumps(fact) + "\n")
        sys.stdout.flush()


def _end(number: int, frame: object) -> None:
    raise PatchError(f"it was ended by signal {number}")


def main() -> int:
    """`patch.py STAGE`: the verdict comes on standard input. `patch.py STAGE recover`: after a kill."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    try:
        patch = Patch(Path("/"), Path(sys.argv[1]), run)
        if sys.argv[2:] == ["recover"]:
            patch.recover()
            return 0
    except PatchError as error:
        _tell({"step": "undone", "error": str(error), "hint": error.hint})
        return 1
    return converse(patch, sys.stdin, _tell)


if __name__ == "__main__":
    sys.exit(main())
