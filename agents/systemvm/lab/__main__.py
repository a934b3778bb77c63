# SPDX-License-Identifier: Apache-2.0
"""`systemvm-lab up | down | reset | status`: a cloud on this machine to try out."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.table import Table

from systemvm.lab import namespaces, preflight, samples, teardown
from systemvm.lab.cloud import Cloud
from systemvm.lab.errors import LabError
from systemvm.lab.lab_lock import LabLock
from systemvm.lab.plan import LabPlan
from systemvm.lab.reporting import TerminalReporter
from systemvm.lab.samples import SampleSet
from systemvm.service.errors import FailureCode, SystemVmError

_WATCH_S = 1.0


class _EndedError(SystemVmError):
    """The user stops the cloud: Ctrl-C, SIGTERM, or SIGHUP of the terminal."""


def _options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--storage-port", default=8444, show_default=True, help="Port of links to images and of uploads."
        ),
        click.option("--console-port", default=8443, show_default=True, help="Port of the consoles."),
        click.option("--page-port", default=8080, show_default=True, help="Port of the page."),
        click.option(
            "--build", default="build", type=click.Path(path_type=Path, file_okay=False), show_default=True,
            help="Directory in which `make images` built the images.",
        ),
        click.option(
            "--root", default="build/run", type=click.Path(path_type=Path, file_okay=False),
            show_default=True, help="Directory of the cloud's files.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Run a whole cloud on this machine, in its own network namespaces."""


@cli.command()
@_options
def up(root: Path, build: Path, page_port: int, console_port: int, storage_port: int) -> None:
    """Start a cloud with samples and run it until Ctrl-C."""
    plan = LabPlan(root, build, page_port, console_port, storage_port)
    reporter = TerminalReporter()
    _check(plan)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    cloud = Cloud(plan, reporter, hang_s=None)
    sample_set = SampleSet(cloud, reporter)
    try:
        samples.publish(plan)
        cloud.start()
        sample_set.create_all()
        _print_summary(cloud, sample_set, reporter)
        while True:
            time.sleep(_WATCH_S)
            sample_set.check_missing()
            if cloud.restart_ended_daemon():
                reporter.print_line(
                    "the management daemon ended and was started again; the VMs were not interrupted"
                )
    except _EndedError:
        reporter.print_line("")
    finally:
        cloud.stop()
    reporter.print_line(f'stopped; templates and disks remain in {root} ("make reset" deletes them)')


@cli.command()
@_options
def down(root: Path, build: Path, page_port: int, console_port: int, storage_port: int) -> None:
    """Stop a cloud, and clean up after a killed one."""
    teardown.down(LabPlan(root, build, page_port, console_port, storage_port))


@cli.command()
@_options
def reset(root: Path, build: Path, page_port: int, console_port: int, storage_port: int) -> None:
    """Stop a cloud and delete its database, templates and VMs."""
    teardown.reset(LabPlan(root, build, page_port, console_port, storage_port))


@cli.command()
@_options
def status(root: Path, build: Path, page_port: int, console_port: int, storage_port: int) -> None:
    """Show whether a cloud runs and which namespaces exist; exit code 3 when there are none."""
    plan = LabPlan(root, build, page_port, console_port, storage_port)
    holder = LabLock(plan.lab / "lock").holder()
    table = Table("namespace", "processes", box=None)
    left = [name for name in plan.namespaces if namespaces.exists(name)]
    for name in left:
        table.add_row(name, str(len(namespaces.processes(name))))
    console = Console()
    console.print(f"up, pid {holder}" if holder else "not up", highlight=False)
    if left:
        console.print(table)
    if not left and holder is None:
        sys.exit(3)


def _check(plan: LabPlan) -> None:
    """Check everything that the lab needs.

    Raises: LabError that lists everything that is missing.
    """
    ports = list(plan.ports.values())
    if LabLock(plan.lab / "lock").holder() is not None:
        ports = []  # a running cloud of this root uses them, and is reported by its lock
    elif os.geteuid() == 0 and shutil.which("ip", path=preflight.SEARCH):
        namespaces.remove(plan)  # the processes of a killed cloud use the ports
    lines = preflight.missing(plan.root, ports)
    lines += [
        f'{plan.images / name}: run "make images"'
        for name in ("ssvm.manifest.json", "cpvm.manifest.json")
        if not (plan.images / name).exists()
    ]
    if lines:
        raise LabError("requirements are missing:\n" + "\n".join(f"  missing  {line}" for line in lines))


def _print_summary(cloud: Cloud, sample_set: SampleSet, reporter: TerminalReporter) -> None:
    """Print the addresses, the login, commands to try, and missing samples."""
    plan, login = cloud.plan, cloud.login
    names = {vm["systemvmtype"]: vm["name"] for vm in cloud.system_vms()}
    ssvm, cpvm = names.get("secondarystoragevm", "SSVM"), names.get("consoleproxy", "CPVM")
    command = _command(plan)
    reporter.console.rule("systemvm is up; press Ctrl-C to stop it")
    missing = [
        line
        for title, why in sample_set.missing.items()
        for line in (
            ("Missing", f"{title}: {why}"),
            ("", f"if it does not appear by itself, run: {command} {sample_set.retry[title]}"),
        )
    ]
    # lines instead of a table: a command can be copied completely at any terminal width
    for title, text in (
        ("Page", plan.page_url),
        ("Log in", f"{login.username} / {login.password}"),
        ("Console", f"{plan.console_origin} (View Console on the page opens it)"),
        ("Images", f"{plan.storage_origin} (Download and Upload on the page use it)"),
        ("", f"both certificates are signed by {_shown(plan.layout.pki / 'public-ca.crt')}"),
        ("", ""),
        ("Try", f"{command} system-vm list"),
        ("", f"{command} check {ssvm}"),
        ("", f"{command} template register again {plan.source_url}/{samples.TINY.file}"),
        ("", f"{command} console {samples.MACHINE_NAME}"),
        ("", _download_command(plan, command)),
        ("", f"{command} ssh {cpvm}"),
        *missing,
    ):
        reporter.console.print(f"{title:9}{text}", highlight=False, markup=False, soft_wrap=True)


def _download_command(plan: LabPlan, command: str) -> str:
    """Return the line that downloads a sample by a temporary link, and verifies the SSVM's certificate."""
    ca = _shown(plan.layout.pki / "public-ca.crt")
    return f'curl -O --cacert {ca} "$({command} template export {samples.TINY.name})"'


def _command(plan: LabPlan) -> str:
    """Return the operator's command for the current directory."""
    root = "" if plan.root == Path.cwd() / "build/run" else f" --root {_shown(plan.root)}"
    return f"{_shown(Path(sys.executable).with_name('systemvm'))}{root}"


def _shown(path: Path) -> Path:
    """Return the path relative to the current directory if it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _EndedError("ended by a signal", code=FailureCode.STOPPED)


def main() -> None:
    """Run the command line; exit code 1 for a LabError, which is printed with its hint."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except LabError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False, markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
