# SPDX-License-Identifier: Apache-2.0
"""The OpenRPC document of a method table, with JSON Schemas that msgspec derives from the message types."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec

from systemvm.rpc.core.call import Method

OPENRPC_VERSION = "1.3.2"
_REF = "#/components/schemas/{name}"


def document(title: str, version: str, methods: list[Method]) -> dict[str, Any]:
    """Describe `methods`: parameters by name, results, roles, objects and deadlines."""
    types = [type_ for method in methods for type_ in (method.params, method.result) if type_ is not None]
    _, components = msgspec.json.schema_components(types, ref_template=_REF)
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {"title": title, "version": version},
        "methods": [_describe(method) for method in sorted(methods, key=lambda method: method.name)],
        "components": {"schemas": components},
    }


def _describe(method: Method) -> dict[str, Any]:
    result = {} if method.result is None else _schema(method.result)
    described: dict[str, Any] = {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "by-name",
        "params": [] if method.params is None else _parameters(method.params),
        "result": {"name": "result", "schema": result},
        "x-deadline-s": method.deadline_s,
    }
    if method.roles is not None:
        described["x-roles"] = sorted(method.roles)
    if method.objects is not None:
        described["x-objects"] = method.objects.text
    return described


def _parameters(params: Any) -> list[dict[str, Any]]:
    """Return one content descriptor per field; a type without fields is described as a whole."""
    schema = _schema(params)
    if not (isinstance(params, type) and (attrs.has(params) or issubclass(params, msgspec.Struct))):
        return [{"name": "params", "schema": schema}]
    _, components = msgspec.json.schema_components([params], ref_template=_REF)
    own = components[schema["$ref"].rpartition("/")[2]]
    required = set(own.get("required", []))
    return [
        {"name": name, "required": name in required, "schema": described}
        for name, described in own["properties"].items()
    ]


def _schema(type_: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([type_], ref_template=_REF)
    return dict(schema)
