# SPDX-License-Identifier: Apache-2.0
"""`systemvm support-bundle`: what a request for help needs, in one zip, with secrets redacted.

A part that cannot be collected is noted in the manifest and does not end the command: a bundle is made when
something is broken.
"""

from __future__ import annotations

import io
import json
import os
import platform
import ssl
import subprocess
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from systemvm.cli.daemon_client import CommandFailedError, DaemonClient
from systemvm.cli.system_vms import SYSTEM_VM
from systemvm.service.redaction import redact

_COMMAND_TIMEOUT_S = 20.0
_LOG_TAIL_BYTES = 4 * 1024 * 1024
_FETCH_TIMEOUT_S = 60.0

#: The cloud, from its API.
LISTINGS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "zones": ("listZones", {}),
    "hosts": ("listHosts", {}),
    "system-vms": ("listSystemVms", {}),
    "templates": ("listTemplates", {"templatefilter": "all"}),
    "isos": ("listIsos", {"isofilter": "all"}),
    "machines": ("listVirtualMachines", {"listall": "true"}),
    "jobs": ("listAsyncJobs", {"listall": "true"}),
    "events": ("listEvents", {"page": "1", "pagesize": "500"}),
}
#: The host, from its programs, run in the daemon's network namespace.
COMMANDS = {
    "addresses": ("ip", "address", "show"),
    "routes": ("ip", "route", "show", "table", "all"),
    "bridges": ("bridge", "-d", "link", "show"),
    "nftables": ("nft", "list", "ruleset"),
    "sockets": ("ss", "--tcp", "--udp", "--listening", "--numeric", "--processes"),
    "disks": ("df", "--human-readable"),
    "memory": ("cat", "/proc/meminfo"),
    "processes": ("ps", "-e", "-o", "pid,user,rss,stat,etime,args"),
    "qemu": ("qemu-system-x86_64", "--version"),
    "kernel": ("uname", "-a"),
    "os-release": ("cat", "/etc/os-release"),
}


class SupportBundle:
    """A zip that is being written, and the lines of its manifest."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.found: list[str] = []
        self.missing: list[str] = []

    def add(self, name: str, make: Callable[[], str]) -> None:
        """Add what `make` returns, redacted; note the error in the manifest when it fails."""
        try:
            text = make()
        except Exception as error:
            # what is broken is what the reader of the bundle looks for
            self.missing.append(f"{name}: {error}")
            return
        self._archive.writestr(name, redact(text))
        self.found.append(name)

    def add_manifest(self) -> None:
        lines = ["Collected:", *self.found, "", "Not collected:", *self.missing]
        self._archive.writestr("MANIFEST.txt", redact("\n".join(lines)) + "\n")


@click.command(
    "support-bundle",
    short_help="Collect what a request for help needs.",
    epilog="Exit codes: 0 the zip is written, even when parts could not be collected; 1 it is not.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Path of the zip. Default: systemvm-support-TIME.zip in this directory.",
)
@click.pass_obj
def support_bundle(daemon: DaemonClient, output: Path | None) -> None:
    """Collect states, events, logs, networks and checks into one zip to attach to a request for help.

    Secrets are redacted. Host names, addresses and URLs are not: read the zip before you send it.

    \b
    Example:
      systemvm support-bundle -o bundle.zip
    """
    path = output or Path(f"systemvm-support-{datetime.now(UTC):%Y%m%d-%H%M%S}.zip")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandFailedError(
            f"cannot write {path}: {error.strerror}", "choose another path with -o"
        ) from None
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        bundle = SupportBundle(archive)
        _collect(daemon, bundle)
        bundle.add_manifest()
    size_kib = path.stat().st_size // 1024
    click.echo(
        f"{path}: {len(bundle.found)} files, {size_kib} KiB; {len(bundle.missing)} could not be collected."
    )


def _collect(daemon: DaemonClient, bundle: SupportBundle) -> None:
    _print_step("the cloud")
    bundle.add("versions.json", _versions)
    for name, (command, params) in LISTINGS.items():
        bundle.add(f"cloud/{name}.json", partial(_call, daemon, command, params))
    _print_step("the host")
    prefix = _prefix(daemon)
    for name, argv in COMMANDS.items():
        bundle.add(f"host/{name}.txt", partial(_run, [*prefix, *argv]))
    configuration = daemon.socket_path.parents[2] / "etc/systemvm"
    for file in [configuration / "managementd.yaml", *sorted(configuration.glob("zones/*.yaml"))]:
        bundle.add(f"host/etc/systemvm/{file.relative_to(configuration)}", file.read_text)
    bundle.add("host/managementd.log", partial(_daemon_log, daemon))
    try:
        machines = SYSTEM_VM.rows(daemon)
    except CommandFailedError as error:
        bundle.missing.append(f"system VMs: {error.message}")
        return
    for vm in machines:
        name = vm["name"]
        _print_step(name)
        bundle.add(f"{name}/serial.log", partial(_serial, daemon, name))
        for what, method in (("health", "agent.health"), ("methods", "rpc.discover")):
            params = {"name": name, "method": method}
            bundle.add(f"{name}/{what}.json", partial(_call, daemon, "system_vm.rpc", params))
        try:
            for inner, text in _diagnostics(daemon, vm["id"]).items():
                bundle.add(f"{name}/{inner}", partial(str, text))
        except (CommandFailedError, OSError, zipfile.BadZipFile) as error:
            bundle.missing.append(f"{name}/diagnostics: {getattr(error, 'message', error)}")


def _call(daemon: DaemonClient, method: str, params: Mapping[str, Any]) -> str:
    return _json(daemon.call(method, **params))


def _serial(daemon: DaemonClient, name: str) -> str:
    return str(daemon.call("system_vm.serial", name=name)["text"])


def _print_step(what: str) -> None:
    click.echo(f"collecting from {what} …", err=True)


def _versions() -> str:
    made = str(datetime.now(UTC))
    return _json({"systemvm": version("systemvm"), "python": platform.python_version(), "made": made})


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, default=str)


def _run(argv: list[str]) -> str:
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_COMMAND_TIMEOUT_S, check=False
    )
    return done.stdout.decode("utf-8", "replace")


def _prefix(daemon: DaemonClient) -> list[str]:
    try:
        return daemon.namespace_prefix()
    except (CommandFailedError, OSError):
        return []  # without a daemon only the host's own network can be looked at


def _daemon_log(daemon: DaemonClient) -> str:
    """Return the end of the daemon's log, which is where its standard error goes: a file, or the journal."""
    target = Path(f"/proc/{daemon.pid}/fd/2").readlink()
    if target.is_file():
        with target.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    return _run(["journalctl", "--no-pager", "--output=short-iso", "--unit=systemvm-managementd"])


def _diagnostics(daemon: DaemonClient, vm_id: str) -> dict[str, str]:
    """Return the files of the system VM's diagnostics zip by name."""
    url = daemon.run_job("getDiagnosticsData", targetid=vm_id)["diagnostics"]["url"]
    trust = ssl.create_default_context(cadata=daemon.call("ca.show")["public_root_pem"])
    with urllib.request.urlopen(url, timeout=_FETCH_TIMEOUT_S, context=trust) as answer:  # noqa: S310 - our own
        data = answer.read()
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        return {name: zipped.read(name).decode("utf-8", "replace") for name in zipped.namelist()}
