# SPDX-License-Identifier: Apache-2.0
"""listConfigurations, updateConfiguration and resetConfiguration: settings, which take effect at once."""

from __future__ import annotations

import base64
import difflib
from collections.abc import Awaitable, Callable, Mapping

from systemvm.management.api.answers.configurations import ConfigurationAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import Parameter, ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.configurations.registry import SETTINGS
from systemvm.management.configurations.setting import Setting, SettingError
from systemvm.management.state import configurations, zones
from systemvm.management.state.database import Connection, Database

_NAMES = ("listConfigurations", "updateConfiguration", "resetConfiguration")
_CATEGORY = "Advanced"
#: Returns what the daemon's file, or that of the zone with this name, says of settings.
FileValues = Callable[[str | None], Mapping[str, str]]
HIDDEN = "********"
MAX_SECRET_LENGTH = 128  # it is longer when it is sealed


class ConfigurationCommands:
    """Handlers of the three commands; `on_changed` is called after each change."""

    def __init__(
        self,
        database: Database,
        on_changed: Callable[[], Awaitable[None]],
        seal: Callable[[str], bytes],
        of_files: FileValues,
    ) -> None:
        """`seal` encrypts the values of secrets."""
        self._of_files = of_files
        self._seal = seal
        self._database = database
        self._on_changed = on_changed

    def commands(self) -> tuple[Command, ...]:
        name = required("name", ParameterType.STRING, "name of the setting")
        zone = optional("zoneid", ParameterType.UUID, "only for this zone; for all zones by default")
        return (
            self._command(
                0,
                paged(self._list),
                "Lists settings.",
                (
                    optional("name", ParameterType.STRING, "list only the one with this name"),
                    optional("category", ParameterType.STRING, "list only those of this category"),
                    optional("group", ParameterType.STRING, "list only those of this group"),
                    optional("zoneid", ParameterType.UUID, "list the values that hold for this zone"),
                ),
            ),
            self._command(
                1,
                self._update,
                "Changes a setting. It takes effect at once.",
                (name, required("value", ParameterType.STRING, "the new value"), zone),
            ),
            self._command(
                2,
                self._reset,
                "Resets a setting to what a file says, to the value of all zones, or to its default.",
                (name, zone),
            ),
        )

    def _command(
        self,
        place: int,
        handler: Callable[[ApiCall], Awaitable[object]],
        summary: str,
        parameters: tuple[Parameter, ...],
    ) -> Command:
        return Command(
            _NAMES[place],
            handler,
            summary,
            ConfigurationAnswer,
            "configuration",
            ResponseShape.OBJECT if place else ResponseShape.LIST,
            parameters,
            roles=ADMIN_ONLY,
            sortable=() if place else ("name", "group"),
            related=tuple(other for other in _NAMES if other != _NAMES[place]),
        )

    async def _list(self, call: ApiCall) -> list[ConfigurationAnswer]:
        arguments = call.arguments
        found = await self._database.read(_answers, arguments.text("zoneid"), self._of_files)
        return [
            answer
            for answer in found
            if arguments.text("name") in (None, answer.name)
            and (arguments.text("category") or _CATEGORY).lower() == answer.category.lower()
            and (arguments.text("group") or answer.group).lower() == answer.group.lower()
            and matches_keyword(arguments, answer.name)
        ]

    async def _update(self, call: ApiCall) -> ConfigurationAnswer:
        setting = _find(call.arguments["name"])
        try:
            value = setting.text(setting.parse(call.arguments["value"]))
        except SettingError as wrong:
            raise parameter_error("value", wrong.message) from None
        if setting.is_secret and value:
            if len(value) > MAX_SECRET_LENGTH:
                raise parameter_error(
                    "value", f"{setting.name} is too long: the maximum is {MAX_SECRET_LENGTH} characters"
                )
            value = base64.b64encode(self._seal(value)).decode()
        return await self._change(call, setting, value)

    async def _reset(self, call: ApiCall) -> ConfigurationAnswer:
        return await self._change(call, _find(call.arguments["name"]), None)

    async def _change(self, call: ApiCall, setting: Setting, value: str | None) -> ConfigurationAnswer:
        zone_uuid = call.arguments.text("zoneid")
        if zone_uuid is not None and setting.scope != "zone":
            raise parameter_error("zoneid", f"{setting.name} is the same in all zones", "omit zoneid")
        await self._database.run(_write, setting.name, zone_uuid, value)
        await self._on_changed()
        found = await self._database.read(_answers, zone_uuid, self._of_files)
        return next(answer for answer in found if answer.name == setting.name)


def _find(name: str) -> Setting:
    if name in SETTINGS:
        return SETTINGS[name]
    near = difflib.get_close_matches(name, SETTINGS, 1)
    hint = f"use {near[0]}" if near else "call listConfigurations for all names"
    raise parameter_error("name", f"there is no setting {name[:128]}", hint)


def _zone_id(connection: Connection, zone_uuid: str | None) -> int | None:
    return None if zone_uuid is None else zones.zone_by_uuid(connection, zone_uuid).id


def _write(connection: Connection, name: str, zone_uuid: str | None, value: str | None) -> None:
    zone_id = _zone_id(connection, zone_uuid)
    if value is None:
        configurations.reset(connection, name, zone_id)
    else:
        configurations.put(connection, name, zone_id, value)


def _shown(setting: Setting, value: str) -> str:
    return HIDDEN if setting.is_secret and value else value


def _values(connection: Connection, zone_uuid: str | None, of_files: FileValues) -> dict[str, str]:
    """Return the values that are not the default, by name: of a zone, or of all zones."""
    of_all = configurations.values(connection, None)
    if zone_uuid is None:
        return {**of_files(None), **of_all}
    zone = zones.zone_by_uuid(connection, zone_uuid)
    return {**of_all, **of_files(zone.name), **configurations.own_values(connection, zone.id)}


def _answers(
    connection: Connection, zone_uuid: str | None, of_files: FileValues
) -> list[ConfigurationAnswer]:
    changed = _values(connection, zone_uuid, of_files)
    return [
        ConfigurationAnswer(
            category=_CATEGORY,
            group=setting.group,
            name=setting.name,
            value=_shown(setting, changed.get(setting.name, setting.text(setting.default))),
            defaultvalue=setting.text(setting.default),
            description=setting.description,
            scope=setting.scope,
            type=setting.type_name,
            isdynamic=True,
            units=setting.unit or None,
        )
        for setting in SETTINGS.values()
        if zone_uuid is None or setting.scope == "zone"
    ]
