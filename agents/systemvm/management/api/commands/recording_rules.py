# SPDX-License-Identifier: Apache-2.0
"""setConsoleRecordingRule and listConsoleRecordingRules: whose consoles are recorded, for administrators."""

from __future__ import annotations

from systemvm.management.api.answers.recordings import RecordingRuleAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.ownership import OWNER, owner_of
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.state import accounts, events, instances, recordings
from systemvm.management.state.accounts import Account
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.recordings import RecordingRule
from systemvm.management.state.status import RecordingMode

_SET, _LIST = "setConsoleRecordingRule", "listConsoleRecordingRules"
_INHERIT = "inherit"


class RecordingRuleCommands:
    """Handlers of both."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                _SET,
                self._set,
                "Sets whether new consoles of a VM, or of all VMs of an account, are recorded.",
                RecordingRuleAnswer,
                "consolerecordingrule",
                parameters=(
                    required(
                        "record",
                        ParameterType.STRING,
                        "required: no console without a recording; inherit: as the account or the zone says",
                        choices=(*(mode.value for mode in RecordingMode), _INHERIT),
                    ),
                    optional("virtualmachineid", ParameterType.UUID, "the virtual machine"),
                    *OWNER,
                ),
                roles=ADMIN_ONLY,
                related=(_LIST, "listConsoleRecordings"),
            ),
            Command(
                _LIST,
                paged(self._list),
                "Lists the VMs and accounts that do not follow the settings of their zone.",
                RecordingRuleAnswer,
                "consolerecordingrule",
                ResponseShape.LIST,
                roles=ADMIN_ONLY,
                related=(_SET,),
            ),
        )

    async def _set(self, call: ApiCall) -> RecordingRuleAnswer:
        names_vm, names_account = "virtualmachineid" in call.arguments, "account" in call.arguments
        if names_vm == names_account:
            raise parameter_error(
                "virtualmachineid",
                "a rule is for a VM or for an account",
                "give virtualmachineid, or account and domainid",
            )
        return await self._database.run(_write, call)

    async def _list(self, call: ApiCall) -> list[RecordingRuleAnswer]:
        answers = await self._database.read(_all)
        return [
            each for each in answers if matches_keyword(call.arguments, each.virtualmachinename, each.account)
        ]


def _write(connection: Connection, call: ApiCall) -> RecordingRuleAnswer:
    text, principal = call.arguments["record"], call.principal
    mode = None if text == _INHERIT else RecordingMode(text)
    vm = account = None
    if "virtualmachineid" in call.arguments:
        vm = instances.by_uuid(connection, call.arguments["virtualmachineid"])
        recordings.put_rule(connection, mode, vm_id=vm.id, account_id=None)
    else:
        account = owner_of(connection, call)
        recordings.put_rule(connection, mode, vm_id=None, account_id=account.id)
    about = vm.shown_name if vm is not None else f"account {account.name}" if account is not None else ""
    owner = vm or account
    events.record(
        connection,
        "CONSOLE.RECORDING.RULE",
        f"new consoles of {about} are recorded: {text}",
        account_id=vm.account_id if vm is not None else account.id if account is not None else 1,
        domain_id=owner.domain_id if owner is not None else 1,
        user_id=principal.user.id,
        resource_type="VirtualMachine" if vm is not None else "Account",
        resource_uuid=owner.uuid if owner is not None else None,
        request_id=call.request_id,
    )
    return _answer(connection, text, vm, account)


def _all(connection: Connection) -> list[RecordingRuleAnswer]:
    rules = recordings.all_rules(connection)
    machines = instances.by_ids(connection, [rule.vm_id for rule in rules if rule.vm_id is not None])
    owners = {account.id: account for account in accounts.all_accounts(connection)}
    return [
        _answer(connection, rule.mode.value, machines.get(rule.vm_id or 0), owners.get(rule.account_id or 0))
        for rule in rules
        if _is_of_something(rule, machines)
    ]


def _is_of_something(rule: RecordingRule, machines: dict[int, Instance]) -> bool:
    return rule.vm_id is None or machines[rule.vm_id].removed is None


def _answer(
    connection: Connection, record: str, vm: Instance | None, account: Account | None
) -> RecordingRuleAnswer:
    return RecordingRuleAnswer(
        record=record,
        virtualmachineid=None if vm is None else vm.uuid,
        virtualmachinename=None if vm is None else vm.shown_name,
        account=None if account is None else account.name,
        domainid=None if account is None else accounts.domain_by_id(connection, account.domain_id).uuid,
    )
