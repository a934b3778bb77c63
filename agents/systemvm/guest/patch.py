# SPDX-License-Identifier: Apache-2.0
"""Installs new code in a running appliance without a new image: run as root over ssh, from a bundle.

The daemon sends this file with every bundle, so that even an image whose agent is too old can be patched. It
imports only the standard library and none of our modules.

The new version gets its own directory and is first tried by a bind mount over the old one's directory, which
a power loss undoes. Only when the daemon has sent `keep`, one rename replaces the link `current`. In every
other case, also when the daemon ends, the mount is removed and the old code runs again.

It prints one JSON object on each line: {"step": "trial"}, then {"step": "kept"} or {"step": "undone"} with a
reason, an error and a hint.
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
#: Log lines that are read of an agent that did not start.
UNITS = "usr/lib/systemd/system"
_JOURNAL_LINES = 12

Run = Callable[[list[str], float], str]


class PatchError(Exception):
    """The new version cannot be used; `reason` is a value of PatchFailure in wire/patch_failure.py."""

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint


class BundleManifest(NamedTuple):
    """The content of a bundle's `manifest.json`."""

    version: str
    role: str
    requires: list[str]  # distributions that the code imports, which must be in the image already
    units: list[str]  # restarted; the first is the agent's
    sha256: dict[str, str]  # by path below `lib/`
    start_timeout_s: float

    @classmethod
    def read(cls, stage: Path) -> BundleManifest:
        """Read the manifest and check every file.

        Raises: PatchError when a file is missing, damaged, or not in the manifest.
        """
        try:
            manifest = cls(**json.loads((stage / "manifest.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise PatchError("bad-bundle", f"cannot read the bundle's manifest: {error}") from error
        if not _LABEL.fullmatch(manifest.version):
            raise PatchError(
                "bad-bundle", f"version is not allowed as a directory name: {manifest.version!r}"
            )
        lib = stage / "lib"
        there = {str(path.relative_to(lib)) for path in lib.rglob("*") if not path.is_dir()}
        if there != set(manifest.sha256):
            odd = sorted(there ^ set(manifest.sha256))[0]
            raise PatchError("bad-bundle", f"bundle does not match its manifest: {odd}")
        for name, expected in manifest.sha256.items():
            path = lib / name
            if not _PART.fullmatch(name) or "/.." in name or path.is_symlink():
                raise PatchError("bad-bundle", f"bundle contains a file that is not allowed: {name}")
            if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
                raise PatchError(
                    "bad-bundle", f"bundle is damaged: sha256 of {name} differs", "run the command again"
                )
        return manifest


class Patch:
    """Installs one bundle in the appliance below `root`."""

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
        """The directory of the version that the next boot uses."""
        return self._home / (self._home / "current").readlink()

    def check(self) -> None:
        """Check that the bundle was made for this appliance.

        Raises: PatchError when the role differs, or the image lacks a package.
        """
        role = json.loads((self._root / "etc/systemvm/image.json").read_text()).get("role")
        if role not in (None, self.manifest.role):
            raise PatchError(
                "wrong-role", f"bundle is for role {self.manifest.role}, this appliance has role {role}"
            )
        have = {_normal(path.name.split("-")[0]) for path in (self.current / "lib").glob("*.dist-info")}
        missing = sorted(name for name in self.manifest.requires if _normal(name) not in have)
        if missing and have:
            raise PatchError(
                "image-too-old",
                f"the new agent needs {', '.join(missing)}, which the image does not have",
                "destroy the system VM instead: another is made from the newest image",
            )

    def clear(self) -> bool:
        """Remove what an interrupted patch has left; return whether its code can be running."""
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
        """Restore the old version after the program was killed during a trial."""
        if self.clear():
            self._restart()

    def install(self) -> None:
        """Write the new version's directory, which appears under its name only when complete.

        Raises: PatchError when it cannot be written.
        """
        if self._target == self.current:
            return  # already installed: it is only restarted
        old = self.current
        with self._writable():
            if self._target.exists():
                shutil.rmtree(self._target)  # left by an earlier attempt
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
                raise PatchError("cannot-write", f"cannot write the new version: {error}") from error
        self._fresh = self._target

    def begin_trial(self) -> None:
        """Mount the new version over the old one and restart the units.

        Raises: PatchError when the agent does not start.
        """
        old = self.current
        if self._target != old:
            self._run(["mount", "--bind", str(self._target), str(old)], 30)
            self._mounted = old
        self._restarted = True
        self._restart()

    def keep(self) -> None:
        """Make this the version of every boot; keep the previous version and remove older ones."""
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
        """Restore the old version, in the directory and in the processes."""
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
            # lazy: files are open only while they are read
            self._run(["umount", "--lazy", str(self._mounted)], 30)
            self._mounted = None

    def _restart(self) -> None:
        agent, *others = self.manifest.units
        # an older image does not have every unit of this code
        others = [unit for unit in others if (self._root / UNITS / unit).exists()]
        try:
            self._run(["systemctl", "restart", agent], self.manifest.start_timeout_s)
        except PatchError as error:
            with contextlib.suppress(PatchError):
                self._run(
                    ["systemctl", "stop", "--no-block", agent], 30
                )  # otherwise systemd restarts it again and again
            line = self._last_error_line(agent)
            raise PatchError("agent-does-not-start", f"the agent does not start: {line or error}") from error
        if others:
            self._run(["systemctl", "try-restart", *others], self.manifest.start_timeout_s)

    def _last_error_line(self, unit: str) -> str:
        """Return the reason that a unit logged for not starting, else the last line that it wrote."""
        with contextlib.suppress(PatchError):
            show = ["journalctl", "--no-pager", "-o", "json", "--output-fields=MESSAGE,REASON,WHY"]
            output = self._run([*show, "-n", str(_JOURNAL_LINES), f"_SYSTEMD_UNIT={unit}"], 30)
            entries = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
            texts = [entry["WHY"] for entry in entries if "REASON" in entry and "WHY" in entry]
            texts = texts or [entry.get("MESSAGE", "") for entry in entries]
            return str(texts[-1])[:300] if texts else ""
        return ""

    def _write_programs(self, old: Path, new: Path) -> None:
        """Write the image's programs with the path of the new library; new programs need a new image."""
        (new / "bin").mkdir()
        before, after = f"/{HOME}/{old.name}/lib", f"/{HOME}/{self._target.name}/lib"
        for program in (old / "bin").iterdir():
            path = new / "bin" / program.name
            path.write_text(program.read_text().replace(before, after))
            path.chmod(0o755)

    def _compile(self, package: Path) -> None:
        """Compile the package as in the image: programs start without checking the source."""
        command = [sys.executable, "-I", "-m", "compileall", "-q", "-f"]
        self._run([*command, "--invalidation-mode", "unchecked-hash", str(package)], 300)

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        """Make a read-only root file system writable in the block."""
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
    """Copy a tree by hard links, so that packages of the image need no space."""

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
    """Run a command and return its output.

    Raises: PatchError with its error output when it fails.
    """
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
        raise PatchError("command-failed", str(error)) from error
    if done.returncode != 0:
        raise PatchError(
            "command-failed", f"{' '.join(command[:3])}: {done.stderr.strip() or done.returncode}"
        )
    return done.stdout


def run_trial(patch: Patch, verdicts: TextIO, report: Callable[[dict[str, Any]], None]) -> int:
    """Install, try and keep the new version; anything but `keep` restores the old one. Return 0 if kept."""
    try:
        patch.check()
        patch.clear()
        patch.install()
        patch.begin_trial()
        report({"step": "trial"})
        # the daemon decides how long the trial lasts: by its verdict, or by closing the connection
        if verdicts.readline().strip() != KEEP:
            raise PatchError("not-confirmed", "the daemon did not confirm the new version")
        patch.keep()
        report({"step": "kept"})
    except BaseException as error:
        # after any failure nothing of the patch must remain
        patch.undo()
        report(
            {
                "step": "undone",
                "reason": getattr(error, "reason", "internal"),
                "error": str(error) or type(error).__name__,
                "hint": getattr(error, "hint", ""),
            }
        )
        return 1
    return 0


def _print_report(fact: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the daemon is gone; the old version is restored nevertheless
        sys.stdout.write(json.dumps(fact) + "\n")
        sys.stdout.flush()


def _end(number: int, frame: object) -> None:
    raise PatchError("interrupted", f"interrupted by signal {number}")


def main() -> int:
    """Run `patch.py STAGE`, with the verdict on standard input, or `patch.py STAGE recover` after a kill."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    try:
        patch = Patch(Path("/"), Path(sys.argv[1]), run)
        if sys.argv[2:] == ["recover"]:
            patch.recover()
            return 0
    except PatchError as error:
        _print_report({"step": "undone", "reason": error.reason, "error": str(error), "hint": error.hint})
        return 1
    return run_trial(patch, sys.stdin, _print_report)


if __name__ == "__main__":
    sys.exit(main())
