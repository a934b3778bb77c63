# SPDX-License-Identifier: Apache-2.0
"""`systemvm support-bundle`: everything one needs to ask for help, in one zip, without secrets.

What cannot be had is noted in its manifest and ends nothing: a bundle is asked for when things are broken.
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

from systemvm.cli.daemon_client import Daemon, Failed
from systemvm.cli.system_vms import SYSTEM_VM
from systemvm.service.redaction import redact

_COMMAND_TIMEOUT_S = 20.0
_LOG_TAIL_BYTES = 4 * 1024 * 1024
_FETCH_TIMEOUT_S = 60.0

#: The cloud as its API tells it.
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
#: The host as its own programs tell it; run where the daemon's network is.
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


class Bundle:
    """A zip under way, and what its manifest will say."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.found: list[str] = []
        self.missing: list[str] = []

    def add(self, name: str, make: Callable[[], str]) -> None:
        """Put in what `make` gives, redacted; or the reason why there is nothing."""
        try:
            text = make()
        except Exception as error:
            # whatever is broken is what somebody wants help with: say it and go on
            self.missing.append(f"{name}: {error}")
            return
        self._archive.writestr(name, redact(text))
        self.found.append(name)

    def add_manifest(self) -> None:
        lines = ["Found:", *self.found, "", "Not found:", *self.missing]
        self._archive.writestr("MANIFEST.txt", redact("\n".join(lines)) + "\n")


@click.command("support-bundle", epilog="Exit code: 0 the zip is there, even when parts could not be had.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The zip; by default named by the time.",
)
@click.pass_obj
def support_bundle(daemon: Daemon, output: Path | None) -> None:
    """Collect what one needs to ask for help: states, events, logs, networks, checks. Secrets are taken out.

    Read it before you send it: host names, addresses and URLs stay in it.
    """
    path = output or Path(f"systemvm-support-{datetime.now(UTC):%Y%m%d-%H%M%S}.zip")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}", "-o names another place.") from None
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        bundle = Bundle(archive)
        _collect(daemon, bundle)
        bundle.add_manifest()
    size_kib = path.stat().st_size // 1024
    click.echo(f"{path}: {len(bundle.found)} files, {size_kib} KiB; {len(bundle.missing)} could not be had.")


def _collect(daemon: Daemon, bundle: Bundle) -> None:
    _say("the cloud")
    bundle.add("versions.json", _versions)
    for name, (command, params) in LISTINGS.items():
        bundle.add(f"cloud/{name}.json", partial(_call, daemon, command, params))
    _say("the host")
    prefix = _prefix(daemon)
    for name, argv in COMMANDS.items():
        bundle.add(f"host/{name}.txt", partial(_output, [*prefix, *argv]))
    configuration = daemon.socket_path.parents[2] / "etc/systemvm"
    for file in [configuration / "managementd.yaml", *sorted(configuration.glob("zones/*.yaml"))]:
        bundle.add(f"host/etc/systemvm/{file.relative_to(configuration)}", file.read_text)
    bundle.add("host/managementd.log", partial(_daemon_log, daemon))
    try:
        machines = SYSTEM_VM.rows(daemon)
    except Failed as error:
        bundle.missing.append(f"system VMs: {error.message}")
        return
    for vm in machines:
        name = vm["name"]
        _say(name)
        bundle.add(f"{name}/serial.log", partial(_serial, daemon, name))
        for what, method in (("health", "agent.health"), ("methods", "rpc.discover")):
            asked = {"name": name, "method": method}
            bundle.add(f"{name}/{what}.json", partial(_call, daemon, "system_vm.rpc", asked))
        try:
            for inner, text in _diagnostics(daemon, vm["id"]).items():
                bundle.add(f"{name}/{inner}", partial(str, text))
        except (Failed, OSError, zipfile.BadZipFile) as error:
            bundle.missing.append(f"{name}/diagnostics: {getattr(error, 'message', error)}")


def _call(daemon: Daemon, method: str, params: Mapping[str, Any]) -> str:
    return _json(daemon.call(method, **params))


def _serial(daemon: Daemon, name: str) -> str:
    return str(daemon.call("system_vm.serial", name=name)["text"])


def _say(what: str) -> None:
    click.echo(f"collecting from {what} …", err=True)


def _versions() -> str:
    made = str(datetime.now(UTC))
    return _json({"systemvm": version("systemvm"), "python": platform.python_version(), "made": made})


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, default=str)


def _output(argv: list[str]) -> str:
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_COMMAND_TIMEOUT_S, check=False
    )
    return done.stdout.decode("utf-8", "replace")


def _prefix(daemon: Daemon) -> list[str]:
    try:
        return daemon.namespace_prefix()
    except (Failed, OSError):
        return []  # no daemon: the host's own network is what there is


def _daemon_log(daemon: Daemon) -> str:
    """From where its standard error goes: a file, or the journal."""
    target = Path(f"/proc/{daemon.pid}/fd/2").readlink()
    if target.is_file():
        with target.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    return _output(["journalctl", "--no-pager", "--output=short-iso", "--unit=systemvm-managementd"])


def _diagnostics(daemon: Daemon, vm_id: str) -> dict[str, str]:
    """The system VM's own zip, unpacked."""
    url = daemon.job("getDiagnosticsData", targetid=vm_id)["diagnostics"]["url"]
    trust = ssl.create_default_context(cadata=daemon.call("ca.show")["public_root_pem"])
    with urllib.request.urlopen(url, timeout=_FETCH_TIMEOUT_S, context=trust) as answer:  # noqa: S310 - our own
        data = answer.read()
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        return {name: zipped.read(name).decode("utf-8", "replace") for name in zipped.namelist()}
