# SPDX-License-Identifier: Apache-2.0
"""`systemvm-lab up | down | reset | status`: a cloud for a person to click."""

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

from systemvm.lab import cloud as clouds
from systemvm.lab import namespaces, preflight, showcase
from systemvm.lab.cloud import Cloud
from systemvm.lab.errors import LabError
from systemvm.lab.ownership import Ownership
from systemvm.lab.plan import Plan
from systemvm.lab.reporting import Terminal
from systemvm.lab.showcase import Showcase
from systemvm.service.errors import FailureCode, SystemVmError

_WATCH_S = 1.0


class _EndedError(SystemVmError):
    """Somebody asked for the end: Ctrl-C, SIGTERM, or a terminal that went away."""


def _options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--console-port", default=8443, show_default=True, help="The consoles, on 127.0.0.1."),
        click.option("--page-port", default=8080, show_default=True, help="The page, on 127.0.0.1."),
        click.option(
            "--build", default="build", type=click.Path(path_type=Path, file_okay=False), show_default=True,
            help="Where `make images` leaves the images.",
        ),
        click.option(
            "--root", default="build/run", type=click.Path(path_type=Path, file_okay=False),
            show_default=True, help="Where the cloud keeps everything.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A whole cloud on this machine, in network namespaces of its own."""


@cli.command()
@_options
def up(root: Path, build: Path, page_port: int, console_port: int) -> None:
    """Bring a cloud up, show it at work, and keep it up until Ctrl-C."""
    plan = Plan(root, build, page_port, console_port)
    reporter = Terminal()
    _check(plan)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    cloud = Cloud(plan, reporter, hang_s=None)
    samples = Showcase(cloud, reporter)
    try:
        showcase.publish(plan)
        cloud.start()
        samples.present()
        _tell(cloud, samples, reporter)
        while True:
            time.sleep(_WATCH_S)
            samples.look_again()
            if cloud.revive():
                reporter.say(
                    "the management daemon had ended and was started again; machines went on running"
                )
    except _EndedError:
        reporter.say("")
    finally:
        cloud.stop()
    reporter.say(f"ended; templates and machines' disks are kept in {root} (`make reset` forgets them)")


@cli.command()
@_options
def down(root: Path, build: Path, page_port: int, console_port: int) -> None:
    """End a cloud, and clean up what a killed one left behind."""
    clouds.down(Plan(root, build, page_port, console_port))


@cli.command()
@_options
def reset(root: Path, build: Path, page_port: int, console_port: int) -> None:
    """End a cloud and forget its database, templates and machines."""
    clouds.reset(Plan(root, build, page_port, console_port))


@cli.command()
@_options
def status(root: Path, build: Path, page_port: int, console_port: int) -> None:
    """Who runs this root's cloud, and what is left of it; exit code 3 when nothing is."""
    plan = Plan(root, build, page_port, console_port)
    holder = Ownership(plan.lab / "lock").holder()
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


def _check(plan: Plan) -> None:
    """Say at once all that is missing."""
    ports = [plan.page_port, plan.console_port]
    if Ownership(plan.lab / "lock").holder() is not None:
        ports = []  # that this root's cloud is up already is said by its lock
    elif os.geteuid() == 0 and shutil.which("ip", path=preflight.SEARCH):
        namespaces.remove(plan)  # what a killed one left holds the ports
    lines = preflight.missing(plan.root, ports)
    lines += [
        f"{plan.images / name}: `make images` builds it"
        for name in ("ssvm.manifest.json", "cpvm.manifest.json")
        if not (plan.images / name).exists()
    ]
    if lines:
        raise LabError("this machine is not ready:\n" + "\n".join(f"  missing  {line}" for line in lines))


def _tell(cloud: Cloud, samples: Showcase, reporter: Terminal) -> None:
    """What is there, what is missing, and what to type."""
    plan, login = cloud.plan, cloud.login
    names = {vm["systemvmtype"]: vm["name"] for vm in cloud.system_vms()}
    ssvm, cpvm = names.get("secondarystoragevm", "SSVM"), names.get("consoleproxy", "CPVM")
    command = _command(plan)
    reporter.console.rule("systemvm is up; Ctrl-C ends it")
    missing = [
        line
        for title, why in samples.missing.items()
        for line in (
            ("Missing", f"{title}: {why}"),
            ("", f"if it does not come by itself: {command} {samples.retry[title]}"),
        )
    ]
    # lines and not a table: whatever the terminal's width, a command can be copied whole
    for title, text in (
        ("Page", plan.page_url),
        ("Log in", f"{login.username} / {login.password}"),
        ("Console", f"{plan.console_origin} (View Console on the page opens it)"),
        ("", f"its certificate is signed by {_shown(plan.layout.pki / 'public-ca.crt')}"),
        ("", ""),
        ("Try", f"{command} system-vm list"),
        ("", f"{command} check {ssvm}"),
        ("", f"{command} template register again {plan.source_url}/{showcase.TINY.file}"),
        ("", f"{command} console {showcase.MACHINE_NAME}"),
        ("", f"{command} ssh {cpvm}"),
        *missing,
    ):
        reporter.console.print(f"{title:9}{text}", highlight=False, markup=False, soft_wrap=True)


def _command(plan: Plan) -> str:
    """The operator's command, as it is typed from here."""
    root = "" if plan.root == Path.cwd() / "build/run" else f" --root {_shown(plan.root)}"
    return f"{_shown(Path(sys.executable).with_name('systemvm'))}{root}"


def _shown(path: Path) -> Path:
    """Relative to here when it is beneath."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _EndedError("ended by a signal", code=FailureCode.STOPPED)


def main() -> None:
    """Exit code 1 for what went wrong, with a hint."""
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
