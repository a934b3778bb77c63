# SPDX-License-Identifier: Apache-2.0
"""The settings of secondary storage that a zone's file can have, too, with CloudStack's names and defaults.

The first of these holds that is there: a zone's own value, what its file says other than the default, the
value of all zones, the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from attrs import frozen

from systemvm.host.zone import SecondaryStorageConfig, ZoneConfig
from systemvm.management.configurations.setting import Setting
from systemvm.management.configurations.storage import share

_GROUP = "Secondary Storage"
_GIB = 1 << 30
_MINUTE_S = 60
_MONTH_S = 30 * 86_400


def _share(name: str, default: str, description: str) -> Setting:
    return Setting(name=name, default=default, check=share, group=_GROUP, description=description)


@frozen
class _FileKey:
    """A setting, and the key of a zone's file that has the same meaning."""

    setting: Setting
    key: str
    to_file: Callable[[Any], Any]
    to_setting: Callable[[Any], Any]
    of_zone: bool = False  # a key of the file itself, not of its `secondary_storage`

    def value_of(self, zone: ZoneConfig) -> Any:
        return getattr(zone if self.of_zone else zone.secondary_storage, self.key)

    def default(self) -> Any:
        of = ZoneConfig if self.of_zone else SecondaryStorageConfig
        return next(field.default for field in msgspec.structs.fields(of) if field.name == self.key)


_KEYS = (
    _FileKey(
        _share(
            "secondary.storage.capacity.threshold",
            "0.90",
            "share of an image store's capacity, 0 to 1: while more is used, it gets no new content",
        ),
        "capacity_threshold",
        float,
        str,
    ),
    _FileKey(
        _share(
            "zone.secstorage.capacity.notificationthreshold",
            "0.75",
            "share of an image store's capacity, 0 to 1: when more is used, there is an alert",
        ),
        "notification_threshold",
        float,
        str,
    ),
    _FileKey(
        _share(
            "image.store.imbalance.threshold",
            "0.3",
            "image stores whose used shares differ by less, 0 to 1, are in balance",
        ),
        "imbalance_threshold",
        float,
        str,
    ),
    _FileKey(
        Setting(
            name="extract.url.expiration.interval",
            default=14_400,
            least=_MINUTE_S,
            most=_MONTH_S,
            unit="seconds",
            description="how long a link to an image is valid",
            group=_GROUP,
        ),
        "extract_url_expiration_interval",
        float,
        round,
    ),
    _FileKey(
        Setting(
            name="upload.operation.timeout",
            default=60,
            least=1,
            most=_MONTH_S // _MINUTE_S,
            unit="minutes",
            description="within which time an upload must begin; 10 in CloudStack",
            group=_GROUP,
        ),
        "upload_operation_timeout",
        lambda minutes: float(minutes * _MINUTE_S),
        lambda seconds: max(1, round(seconds / _MINUTE_S)),
    ),
    _FileKey(
        Setting(
            name="disable.extraction",
            default=False,
            description="whether nobody gets links to images",
            group=_GROUP,
        ),
        "disable_extraction",
        bool,
        bool,
    ),
    _FileKey(
        Setting(
            name="max.template.iso.size",
            default=50,
            least=1,
            most=1 << 20,
            unit="GiB",
            description="size that a template or an ISO can have",
            group=_GROUP,
        ),
        "max_template_size_bytes",
        lambda gib: gib * _GIB,
        lambda size_bytes: max(1, round(size_bytes / _GIB)),
        of_zone=True,
    ),
)

IMAGE_STORAGE_SETTINGS = tuple(each.setting for each in _KEYS)


def texts_of(file: ZoneConfig) -> dict[str, str]:
    """Return what a zone's file says other than the defaults, by the settings' names."""
    return {
        each.setting.name: each.setting.text(each.to_setting(each.value_of(file)))
        for each in _KEYS
        if each.value_of(file) != each.default()
    }


def with_settings(file: ZoneConfig, own: Mapping[str, str], of_all: Mapping[str, str]) -> ZoneConfig:
    """Return a zone's file with the values that hold, where `own` are the zone's and `of_all` all zones'."""
    said = texts_of(file)
    changed = {name: text for name, text in of_all.items() if name not in said} | dict(own)
    storage: dict[str, Any] = {}
    zone: dict[str, Any] = {}
    for each in _KEYS:
        if each.setting.name in changed:
            value = each.to_file(each.setting.value_in(changed))
            (zone if each.of_zone else storage)[each.key] = value
    secondary_storage = msgspec.structs.replace(file.secondary_storage, **storage)
    return msgspec.structs.replace(file, secondary_storage=secondary_storage, **zone)
