# SPDX-License-Identifier: Apache-2.0
"""The entry point of `systemvm`."""

from __future__ import annotations

from pathlib import Path

import click

from systemvm.cli import (
    access,
    accounts,
    certificates,
    completion,
    diagnose,
    machines,
    support_bundle,
    system_vms,
    templates,
    trace,
)
from systemvm.cli.daemon_client import Daemon, socket_path
from systemvm.service.sigint import restore_sigint


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 the daemon said no, or the work failed; 2 wrong usage; 3 no daemon "
    "answers; 4 `check` found an error. `ssh` ends with the remote command's own, 255 when it cannot "
    "connect. `systemvm COMMAND --help` names each command's.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    envvar="SYSTEMVM_ROOT",
    help="The root of the daemon's files: `build/run` for `make run`; / without it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.version_option(package_name="systemvm")
@click.pass_context
def main(context: click.Context, root: Path | None, as_json: bool) -> None:
    """Watch and control a cloud's system VMs, its templates and its machines.

    \b
    systemvm template register tiny https://images.example.test/tiny.qcow2
    systemvm vm deploy one --template tiny
    systemvm console one
    systemvm check s-1-VM
    systemvm system-vm why v-2-VM
    systemvm ssh v-2-VM
    """
    restore_sigint()
    context.obj = Daemon(socket_path=socket_path(root), as_json=as_json)


main.add_command(templates.template)
main.add_command(templates.iso)
main.add_command(machines.vm)
main.add_command(machines.console)
main.add_command(system_vms.system_vm)
main.add_command(system_vms.check)
main.add_command(diagnose.diagnose)
main.add_command(trace.trace)
main.add_command(support_bundle.support_bundle)
main.add_command(access.ssh)
main.add_command(access.copy)
main.add_command(access.logs)
main.add_command(access.serial)
main.add_command(system_vms.rpc)
main.add_command(completion.completion)
main.add_command(accounts.account)
main.add_command(accounts.user)
main.add_command(certificates.ca)
main.add_command(certificates.certificate)

if __name__ == "__main__":
    main()
