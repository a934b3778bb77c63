# SPDX-License-Identifier: Apache-2.0
"""`--show-config`: every effective value with its source; `--check-config`: whether the daemon can start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from systemvm.host.config_file import Document, KeyPath, format_key_path, read
from systemvm.host.host_file import FILE_NAME
from systemvm.host.layout import Layout
from systemvm.management.config import Configuration
from systemvm.service.redaction import redact_url


def show(layout: Layout, configuration: Configuration) -> str:
    """Return one line for each value: its key, the value, and `default` or `FILE:LINE`."""
    lines: list[str] = []
    sources: list[tuple[str, Any, Path]] = [("managementd", configuration.management, layout.config_file)]
    for path in sorted(layout.zones.glob("*.yaml")):
        name = read(path).data
        zone = configuration.zone(name["name"]) if isinstance(name, dict) else None
        if zone is not None:
            sources.append((f"zone {zone.name}", zone, path))
    for title, value, path in sources:
        document = read(path) if path.exists() else None
        lines.append(f"# {title}: {path}{'' if document else ' (does not exist)'}")
        rows = [
            (format_key_path(way), _format(leaf), _source(document, way)) for way, leaf in _leaves(value, ())
        ]
        width = max(len(f"{key}: {text}") for key, text, _ in rows)
        lines += [f"{f'{key}: {text}':{min(width, 70)}}  # {source}" for key, text, source in rows]
    return "".join(f"{line}\n" for line in lines)


def summarize(layout: Layout, configuration: Configuration, program: str) -> str:
    """Return the output of `--check-config` for files without errors and for missing files."""
    lines = [f"{layout.etc}: no errors in {len(configuration.zones)} zone file(s) and the other files"]
    if not layout.config_file.exists():
        lines.append(
            f"{layout.config_file} does not exist: using defaults; run `{program} --prepare` to create it"
        )
    if configuration.zones:
        lines.append("the daemon can start with these files")
    elif configuration.labels:
        lines.append(
            f"the daemon can start with these files; no file has a zone: add zones to the networks of"
            f" {layout.etc / FILE_NAME} with createZone"
        )
    else:
        lines.append(
            f"there is no zone, and the daemon needs one: copy {layout.zones}/zone.yaml.sample, which"
            f" `{program} --prepare` creates, or write {layout.etc / FILE_NAME} and call createZone"
        )
    return "".join(f"{line}\n" for line in lines)


def _leaves(value: Any, way: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _leaves(getattr(value, name), (*way, name))
    elif isinstance(value, list) and any(isinstance(item, msgspec.Struct) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*way, index))
    else:
        yield way, value


def _format(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    text = str(value)
    return redact_url(text) if "@" in text else text


def _source(document: Document | None, way: KeyPath) -> str:
    if document is None or way not in document.lines:
        return "default"
    return document.at(way)
