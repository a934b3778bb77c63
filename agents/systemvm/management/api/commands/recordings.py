# SPDX-License-Identifier: Apache-2.0
"""listConsoleRecordings, openConsoleRecording, readConsoleRecording and deleteConsoleRecording.

A recording belongs to the owner of the VM, who can see it; only administrators delete one. CloudStack has no
such commands; they follow its conventions.
"""

from __future__ import annotations

import base64
from functools import partial

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.recordings import (
    RecordingAccessAnswer,
    RecordingAnswer,
    RecordingContentAnswer,
)
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.paging import page_window
from systemvm.management.api.parameters import Parameter, ParameterType, optional, required
from systemvm.management.api.periods import end_of, first_moment
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.recordings.service import ListedRecording, Recordings
from systemvm.management.state.recordings import RecordingFilter
from systemvm.management.state.status import RecordingState
from systemvm.wire.console import ConsoleKind

_LIST, _OPEN, _READ, _DELETE = (
    "listConsoleRecordings",
    "openConsoleRecording",
    "readConsoleRecording",
    "deleteConsoleRecording",
)
_STATES = (RecordingState.RECORDING, RecordingState.COMPLETE, RecordingState.INCOMPLETE)
_ID = required("id", ParameterType.UUID, "the recording")


class RecordingCommands:
    """Handlers of these commands."""

    def __init__(self, recordings: Recordings, player_url: str) -> None:
        """`player_url` is the address of the page that plays recordings."""
        self._recordings = recordings
        self._player_url = player_url

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                _LIST,
                self._list,
                "Lists recordings of consoles, the newest first.",
                RecordingAnswer,
                "consolerecording",
                ResponseShape.LIST,
                (*_filters(), *OWNERS),
                related=(_OPEN, _DELETE, "listConsoleSessions"),
                kept=True,
            ),
            Command(
                _OPEN,
                self._open,
                "Returns what a player of a recording needs. Who plays it is recorded as an event.",
                RecordingAccessAnswer,
                "consolerecordingaccess",
                parameters=(_ID,),
                related=(_LIST, _READ),
            ),
            Command(
                _READ,
                self._read,
                "Returns a part of a recording's file, of at most 256 KiB.",
                RecordingContentAnswer,
                "consolerecordingcontent",
                parameters=(
                    _ID,
                    optional("offset", ParameterType.INTEGER, "of its first byte; 0 by default"),
                ),
                related=(_LIST, _OPEN),
            ),
            Command(
                _DELETE,
                self._delete,
                "Deletes a recording.",
                SuccessAnswer,
                shape=ResponseShape.BARE,
                parameters=(_ID,),
                roles=ADMIN_ONLY,
                related=(_LIST,),
            ),
        )

    async def _list(self, call: ApiCall) -> ResultPage:
        arguments, database = call.arguments, self._recordings.database
        window = page_window(arguments)
        owners = await database.read(partial(owners_of, call=call, all_by_default=True))
        state, kind = arguments.text("state"), arguments.text("kind")
        found, count = await self._recordings.page(
            RecordingFilter(
                account_ids=owners.account_ids,
                uuid=arguments.text("id"),
                vm_uuid=arguments.text("virtualmachineid"),
                session_uuid=arguments.text("consolesessionid"),
                user_uuid=arguments.text("userid"),
                kind=None if kind is None else ConsoleKind(kind),
                state=None if state is None else RecordingState(state),
                since=first_moment(arguments["startdate"]) if "startdate" in arguments else None,
                before=end_of(arguments["enddate"]) if "enddate" in arguments else None,
                keyword=arguments.text("keyword"),
            ),
            window,
        )
        names = await database.read(read_names)
        return ResultPage([_answer(each, names) for each in found], count)

    async def _open(self, call: ApiCall) -> RecordingAccessAnswer:
        listed = await self._find(call)
        opened = await self._recordings.open(listed, call.principal.user.id, call.request_id)
        url = f"{self._player_url}?id={listed.row.uuid}"
        return RecordingAccessAnswer(id=listed.row.uuid, url=url, key=opened.key)

    async def _read(self, call: ApiCall) -> RecordingContentAnswer:
        offset = call.arguments.get("offset", 0)
        if offset < 0:
            raise parameter_error("offset", f"parameter offset must not be negative: {offset}")
        listed = await self._find(call)
        content = await self._recordings.read(listed, offset)
        return RecordingContentAnswer(
            id=listed.row.uuid,
            offset=offset,
            data=base64.b64encode(content.data).decode("ascii"),
            size=content.size_bytes,
            state=listed.row.state.value,
        )

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        await self._recordings.delete(await self._find(call), call.principal.user.id, call.request_id)
        return SuccessAnswer(success=True)

    async def _find(self, call: ApiCall) -> ListedRecording:
        principal, recording_id = call.principal, call.arguments["id"]
        account_ids = principal.account_ids
        found = await self._recordings.find(recording_id, account_ids)
        if found is None:
            raise parameter_error(
                "id", f"there is no recording {recording_id}", f"call {_LIST} for all that there are"
            )
        return found


def _filters() -> tuple[Parameter, ...]:
    identity = ParameterType.UUID
    return (
        optional("id", identity, "list only the one with this id"),
        optional("virtualmachineid", identity, "list only those of this VM"),
        optional("consolesessionid", identity, "list only those of this console session"),
        optional("userid", identity, "list only those of consoles that this user had open"),
        optional(
            "state",
            ParameterType.STRING,
            "list only those in this state",
            choices=tuple(state.value for state in _STATES),
        ),
        optional(
            "kind",
            ParameterType.STRING,
            "list only those of screens, or of serial ports",
            choices=tuple(kind.value for kind in ConsoleKind),
        ),
        optional("startdate", ParameterType.DATE, "list only those since this day or time"),
        optional("enddate", ParameterType.DATE, "list only those until the end of this day"),
    )


def _answer(listed: ListedRecording, names: OwnerNames) -> RecordingAnswer:
    row = listed.row
    account = names.accounts[row.account_id]
    return RecordingAnswer(
        id=row.uuid,
        kind=listed.session.kind.value,
        created=row.created,
        ended=row.ended,
        state=row.state.value,
        endcode=row.end_code,
        size=row.size_bytes,
        encrypted=row.sealed_key is not None,
        virtualmachineid=listed.vm.uuid,
        virtualmachinename=listed.vm.shown_name,
        consolesessionid=listed.session.uuid,
        user=listed.user.username,
        userid=listed.user.uuid,
        account=account.name,
        domainid=names.domains[account.domain_id].uuid,
        zoneid=names.zones[row.zone_id].uuid,
    )
