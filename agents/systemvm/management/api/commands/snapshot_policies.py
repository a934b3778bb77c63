# SPDX-License-Identifier: Apache-2.0
"""createSnapshotPolicy, listSnapshotPolicies, deleteSnapshotPolicies."""

from __future__ import annotations

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.snapshot_policies import INTERVAL_NUMBERS, SnapshotPolicyAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage
from systemvm.management.api.commands.own_storage import own_volume
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.paging import page_window
from systemvm.management.api.parameters import ParameterType, only, optional, required
from systemvm.management.api.principal import Principal
from systemvm.management.snapshots import policy_changes
from systemvm.management.snapshots.policy_changes import NewPolicy
from systemvm.management.snapshots.schedule import Interval
from systemvm.management.state import snapshot_policies, snapshot_policy_list
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.snapshot_policies import SnapshotPolicy
from systemvm.management.state.snapshot_policy_list import SnapshotPolicyFilter


class SnapshotPolicyCommands:
    """Handlers of these commands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        text, identity = ParameterType.STRING, ParameterType.UUID
        intervals = tuple(each.value for each in Interval)
        patterns = ", ".join(f"{each.pattern} for {each.value}" for each in Interval)
        return (
            Command(
                "createSnapshotPolicy", self._create,
                "Has snapshots of a volume taken by a schedule. A volume has one policy of each interval: "
                "another call changes it.",
                SnapshotPolicyAnswer, "snapshotpolicy", ResponseShape.OBJECT,
                (
                    required("volumeid", identity, "the volume"),
                    required("intervaltype", text, "how often", choices=intervals),
                    required("schedule", text, f"when: {patterns}; D is the day of the week, 1 for Sunday"),
                    required("timezone", text, "time zone of the schedule, for example Europe/Berlin"),
                    required("maxsnaps", ParameterType.INTEGER, "how many are kept: older ones are deleted"),
                    only("fordisplay", ParameterType.BOOLEAN, "show it to its user", True),
                ),
                related=("listSnapshotPolicies",),
            ),
            Command(
                "listSnapshotPolicies", self._list, "Lists policies that take snapshots.",
                SnapshotPolicyAnswer, "snapshotpolicy", ResponseShape.LIST,
                (
                    optional("id", identity, "list only the one with this id"),
                    optional("volumeid", identity, "list only those of this volume"),
                    *OWNERS,
                ),
                kept=True,
            ),
            Command(
                "deleteSnapshotPolicies", self._delete,
                "Deletes policies. The snapshots that they have taken stay.",
                SuccessAnswer, shape=ResponseShape.BARE,
                parameters=(
                    optional("id", identity, "the policy; or give ids"),
                    optional("ids", ParameterType.LIST, "the policies"),
                ),
                related=("listSnapshotPolicies",),
            ),
        )  # fmt: skip

    async def _create(self, call: ApiCall) -> SnapshotPolicyAnswer:
        arguments = call.arguments
        volume = await self._database.read(own_volume, arguments["volumeid"], call.principal)
        new = NewPolicy(
            volume.id,
            Interval(arguments["intervaltype"]),
            arguments["schedule"],
            arguments["timezone"],
            arguments["maxsnaps"],
            call.principal.user.id,
        )
        return _answer(await self._database.run(policy_changes.put, new), volume.uuid)

    async def _list(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call)

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        uuid, uuids = call.arguments.text("id"), call.arguments.get("ids")
        if (uuid is None) == (uuids is None):
            raise parameter_error("id", "id or ids must name the policies", "send one of the two")
        wanted = uuids if uuid is None else [uuid]
        found = await self._database.read(_own, wanted, call.principal)
        await self._database.run(policy_changes.remove, found, call.principal.user.id)
        return SuccessAnswer(success=True)


def _own(connection: Connection, uuids: list[str], principal: Principal) -> list[SnapshotPolicy]:
    found = [snapshot_policies.by_uuid(connection, uuid) for uuid in uuids]
    if not all(principal.may_use(policy.account_id) for policy in found):
        raise unauthorized(f"account {principal.account.name} must not use this snapshot policy")
    return found


def _select(connection: Connection, call: ApiCall) -> ResultPage:
    """Return the rows of a list's page.

    Raises: ApiError 431 for a page that does not exist or an unknown owner.
    """
    window = page_window(call.arguments)
    which = SnapshotPolicyFilter(
        account_ids=owners_of(connection, call, named=("id", "volumeid")).account_ids,
        uuid=call.arguments.text("id"),
        volume_uuid=call.arguments.text("volumeid"),
        keyword=call.arguments.text("keyword"),
    )
    found, count = snapshot_policy_list.page(connection, which, window)
    return ResultPage([_answer(policy, volume_uuid) for policy, volume_uuid in found], count)


def _answer(policy: SnapshotPolicy, volume_uuid: str) -> SnapshotPolicyAnswer:
    return SnapshotPolicyAnswer(
        id=policy.uuid,
        volumeid=volume_uuid,
        intervaltype=INTERVAL_NUMBERS[policy.interval_type],
        schedule=policy.schedule,
        timezone=policy.timezone,
        maxsnaps=policy.max_snapshots,
        fordisplay=True,
        nextrun=policy.next_run,
    )
