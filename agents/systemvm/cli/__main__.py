# SPDX-License-Identifier: Apache-2.0
"""The entry point of `systemvm`."""

from __future__ import annotations

from pathlib import Path

import click

from systemvm.cli import (
    access,
    account_limit,
    accounts,
    alerts,
    certificates,
    completion,
    consoles,
    diagnose,
    domains,
    entity_annotations,
    hosts,
    machines,
    model_verbs,
    open_console,
    public_certificates,
    recordings,
    roles,
    second_factors,
    settings,
    snapshot_images,
    snapshots,
    staging_stores,
    store_keys,
    stores,
    support_bundle,
    system_vms,
    tags,
    templates,
    trace,
    user_keys,
    volume_uploads,
    volumes,
)
from systemvm.cli.daemon_client import DaemonClient, socket_path
from systemvm.service.sigint import restore_sigint

EPILOG = """\
Exit codes: 0 success; 1 the daemon refused the request, or the work failed; 2 wrong usage; 3 the daemon
cannot be reached; 4 "systemvm check" found an error. "systemvm ssh" exits with the code of the remote
command, or 255 when ssh cannot connect.

Run "systemvm COMMAND --help" for the arguments and an example of each command.
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    envvar="SYSTEMVM_ROOT",
    help="Directory that holds the daemon's files, for example build/run after `make run`. "
    "Without it: build/run if a cloud runs there, else /.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables and sentences.")
@click.version_option(package_name="systemvm")
@click.pass_context
def main(context: click.Context, root: Path | None, as_json: bool) -> None:
    """Operate a cloud: its system VMs, templates, virtual machines and accounts.

    Register an image, start a machine from it and open its console:

    \b
      systemvm template register tiny https://images.example.test/tiny.qcow2
      systemvm vm deploy one --template tiny
      systemvm console one

    Find out what is wrong with a system VM, and log in to it:

    \b
      systemvm system-vm list
      systemvm system-vm why v-2-VM
      systemvm check s-1-VM
      systemvm ssh v-2-VM
    """
    restore_sigint()
    context.obj = DaemonClient(socket_path=socket_path(root), as_json=as_json)


main.add_command(templates.template)
main.add_command(templates.iso)
main.add_command(stores.store)
main.add_command(hosts.host)
for group in model_verbs.groups():
    main.add_command(group)
stores.store.add_command(staging_stores.staging)
stores.store.add_command(store_keys.replace_keys)
main.add_command(machines.vm)
main.add_command(volumes.volume)
volumes.volume.add_command(snapshot_images.export_volume)
volumes.volume.add_command(volume_uploads.register_volume)
volumes.volume.add_command(volume_uploads.upload_volume)
main.add_command(snapshots.snapshot)
main.add_command(consoles.console)
consoles.console.add_command(open_console.open_console)
for command in recordings.COMMANDS:
    consoles.console.add_command(command)
main.add_command(tags.tag)
main.add_command(entity_annotations.annotation)
main.add_command(settings.setting)
main.add_command(alerts.alert)
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
accounts.account.add_command(account_limit.limit_account)
accounts.account.add_command(account_limit.list_limits)
main.add_command(accounts.user)
accounts.user.add_command(user_keys.key)
accounts.user.add_command(second_factors.two_factor)
main.add_command(domains.domain)
main.add_command(roles.role)
accounts.account.add_command(roles.set_role)
main.add_command(certificates.ca)
main.add_command(certificates.certificate)
certificates.certificate.add_command(public_certificates.public)

if __name__ == "__main__":
    main()
