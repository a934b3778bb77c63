# SPDX-License-Identifier: Apache-2.0
"""listUsageRecords and listUsageTypes: CloudStack's usage records, of what exists here.

CloudStack's usage server writes a record for each object and day. Here a record is for the whole period that
a call asks for, and made from the object's row when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from systemvm.management.api.answers.usage import UsageRecordAnswer, UsageTypeAnswer
from systemvm.management.api.command import (
    ApiCall,
    Command,
    ResponseShape,
    ResultPage,
    matches_keyword,
    paged,
)
from systemvm.management.api.commands.tags import tag_answers
from systemvm.management.api.errors import ApiError, parameter_error
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.paging import page_window
from systemvm.management.api.parameters import ParameterType, only, optional, required
from systemvm.management.api.periods import end_of, first_moment
from systemvm.management.state import accounts, tags, usage_records
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.tags import Tag
from systemvm.management.state.usage_records import UsageFilter, UsageRecord, UsageType

_NONE_HERE = "there are none in this release"
_NOT_COUNTED = "the daemon does not count what VMs read, write, send and receive"
#: CloudStack's other types, and why they have no records.
ABSENT = {
    1: ("RUNNING_VM", "when VMs ran is not recorded"),
    3: ("IP_ADDRESS", "no account has public addresses"),
    4: ("NETWORK_BYTES_SENT", _NOT_COUNTED),
    5: ("NETWORK_BYTES_RECEIVED", _NOT_COUNTED),
    10: ("SECURITY_GROUP", _NONE_HERE),
    11: ("LOAD_BALANCER_POLICY", _NONE_HERE),
    12: ("PORT_FORWARDING_RULE", _NONE_HERE),
    13: ("NETWORK_OFFERING", "networks have records of type 30 themselves"),
    14: ("VPN_USERS", _NONE_HERE),
    21: ("VM_DISK_IO_READ", _NOT_COUNTED),
    22: ("VM_DISK_IO_WRITE", _NOT_COUNTED),
    23: ("VM_DISK_BYTES_READ", _NOT_COUNTED),
    24: ("VM_DISK_BYTES_WRITE", _NOT_COUNTED),
    25: ("VM_SNAPSHOT", _NONE_HERE),
    26: ("VOLUME_SECONDARY", "an uploaded volume has records of type 6 from its upload on"),
    27: ("VM_SNAPSHOT_ON_PRIMARY", _NONE_HERE),
    28: ("BACKUP", _NONE_HERE),
    29: ("BUCKET", _NONE_HERE),
    31: ("VPC", _NONE_HERE),
}
_PARAMETERS = (
    required("startdate", ParameterType.DATE, "the first day or time of the period"),
    required("enddate", ParameterType.DATE, "its last day or time, which is part of it"),
    optional("type", ParameterType.INTEGER, "list only those of this type; see listUsageTypes"),
    optional("usageid", ParameterType.UUID, "list only those of the object with this id; requires type"),
    optional("accountid", ParameterType.UUID, "list only those of this account"),
    optional("includetags", ParameterType.BOOLEAN, "true: with the tags of the objects"),
    only("oldformat", ParameterType.BOOLEAN, "descriptions with ids instead of names", False),
    *OWNERS,
)


class UsageRecordCommands:
    """The handlers of these commands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listUsageRecords", self._records,
                "Lists what an account had in a period, and for how long; administrators get all accounts.",
                UsageRecordAnswer, "usagerecord", ResponseShape.LIST, _PARAMETERS,
                related=("listUsageTypes", "listAccountUsage"),
            ),
            Command(
                "listUsageTypes", paged(_types), "Lists the types of usage records.",
                UsageTypeAnswer, "usagetype", ResponseShape.LIST, related=("listUsageRecords",),
            ),
        )  # fmt: skip

    async def _records(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call)


async def _types(call: ApiCall) -> Sequence[UsageTypeAnswer]:
    return [
        UsageTypeAnswer(id=kind.number, name=kind.name, description=kind.description)
        for kind in UsageType
        if matches_keyword(call.arguments, kind.name, kind.description)
    ]


def _select(connection: Connection, call: ApiCall) -> ResultPage:
    """Return a page of the records.

    Raises: ApiError 431 for a type that is not counted, or a period that is none.
    """
    which, window = _filter(connection, call), page_window(call.arguments)
    if which.since >= which.until:
        return ResultPage([], 0)  # all of it is in the future
    names = read_names(connection)
    found, count = usage_records.page(connection, which, window)
    wants_tags = call.arguments.flag("includetags")
    tagged = tags.of_objects(connection, sorted({one.uuid for one in found})) if wants_tags else {}
    return ResultPage([_answer(one, which, names, tagged.get(one.uuid, ())) for one in found], count)


def _filter(connection: Connection, call: ApiCall) -> UsageFilter:
    arguments = call.arguments
    kind = None if "type" not in arguments else _type_of(arguments["type"])
    if kind is None and "usageid" in arguments:
        raise parameter_error("type", "usageid must be specified together with type", "send type, too")
    since, end = first_moment(arguments["startdate"]), end_of(arguments["enddate"])
    if since >= end:
        raise parameter_error(
            "startdate", "Incorrect Date Range: startdate is after enddate", "exchange the two"
        )
    return UsageFilter(
        since=since,
        until=min(end, now()),  # nobody has used the future
        account_ids=_accounts_of(connection, call),
        type=kind,
        uuid=arguments.text("usageid"),
        keyword=arguments.text("keyword"),
    )


def _accounts_of(connection: Connection, call: ApiCall) -> frozenset[int] | None:
    """Return the accounts whose records are listed: all that the caller has access to by default."""
    owners = owners_of(connection, call, all_by_default=True)
    if "accountid" not in call.arguments:
        return owners.account_ids
    account = accounts.account_rows.find(connection, call.arguments["accountid"])  # also a removed one
    if account is None or not call.principal.may_use(account.id):
        # the same for both: an id must not tell a stranger the account's name
        raise parameter_error("accountid", f"there is no account with the id {call.arguments['accountid']}")
    return frozenset({account.id} if account.id in owners else ())


def _type_of(number: int) -> UsageType:
    found = next((kind for kind in UsageType if kind.number == number), None)
    if found is not None:
        return found
    raise _not_counted(number)


def _not_counted(number: int) -> ApiError:
    known = ", ".join(f"{kind.number} {kind.name}" for kind in UsageType)
    hint = f"send one of listUsageTypes: {known}"
    if number not in ABSENT:
        return parameter_error("type", f"type: there is no usage type {number}", hint)
    name, why = ABSENT[number]
    return parameter_error(
        "type", f"type: usage type {number}, {name}, has no records in this release: {why}", hint
    )


def _answer(
    one: UsageRecord, which: UsageFilter, names: OwnerNames, tagged: Sequence[Tag]
) -> UsageRecordAnswer:
    account = names.accounts[one.account_id]
    domain, zone = names.domains[account.domain_id], names.zone(one.zone_id)
    hours = f"{one.hours:.6f}".rstrip("0").rstrip(".")
    return UsageRecordAnswer(
        account=account.name,
        accountid=account.uuid,
        domainid=domain.uuid,
        domain=domain.name,
        domainpath=domain.pretty_path,
        zoneid=zone.uuid if zone else None,
        description=f"{one.type.description}: {one.name}",
        usage=f"{hours} Hrs",
        usagetype=one.type.number,
        rawusage=hours,
        usageid=one.uuid,
        virtualmachineid=one.uuid if one.type is UsageType.ALLOCATED_VM else None,
        name=one.name,
        templateid=one.template_uuid,
        size=one.size_bytes,
        virtualsize=one.virtual_size_bytes,
        cpunumber=one.vcpus,
        memory=one.memory_mib,
        startdate=which.since,
        enddate=which.until - timedelta(seconds=1),
        tags=tag_answers(tagged, names),
    )
