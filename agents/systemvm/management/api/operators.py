# SPDX-License-Identifier: Apache-2.0
"""The commands as JSON-RPC methods for the host's operators, who act as the administrator.

A method has the name and the parameters of its command. Its result is what is under `<command>response` in
the query API. Parameters are JSON values, or text as in the query API.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from systemvm.management.api import envelope
from systemvm.management.api.command import Command, CommandTable
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.failures import as_api_error
from systemvm.management.api.login import LOGIN, LOGOUT
from systemvm.management.api.parameters import Parameter
from systemvm.management.api.principal import Principal
from systemvm.rpc.core import errors as rpc
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Handler, MethodTable
from systemvm.rpc.stream.peer_credentials import OPERATORS

_RPC_CODES = {
    ErrorCode.MALFORMED_PARAMETER: rpc.INVALID_PARAMS,
    ErrorCode.PARAMETER: rpc.INVALID_PARAMS,
    ErrorCode.UNSUPPORTED: rpc.METHOD_NOT_FOUND,
    ErrorCode.UNAUTHORIZED: rpc.FORBIDDEN,
    ErrorCode.BUSY: rpc.BUSY,
    ErrorCode.INTERNAL: rpc.INTERNAL,
}


class Operators(Protocol):
    """Returns the user that operators act as."""

    async def operator(self) -> Principal: ...


def add_methods(methods: MethodTable, table: CommandTable, operators: Operators) -> None:
    """Add a method for each command to a table, except login and logout, which a socket does not need."""
    for command in table:
        if command.name in (LOGIN.name, LOGOUT.name):
            continue
        methods.add(
            command.name,
            _handler(command, operators),
            params=params_type(command),
            result=dict[str, Any],
            roles=OPERATORS,
            summary=command.description,
            deadline_s=command.deadline_s,
        )


def params_type(command: Command) -> type[msgspec.Struct]:
    """Return a type for the command's parameters, from which `rpc.discover` creates a schema."""
    fields = [_field(parameter) for parameter in command.all_parameters]
    return msgspec.defstruct(
        f"{command.name[0].upper()}{command.name[1:]}Params",
        fields,
        kw_only=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
    )


def _field(parameter: Parameter) -> Any:
    native = parameter.type.python_type
    accepted: Any = native if native is str else native | str
    if not parameter.required:
        return (parameter.name, accepted | None, None)
    return (parameter.name, accepted)


def _handler(command: Command, operators: Operators) -> Handler:
    async def handler(call: Call, params: Any) -> dict[str, Any]:
        try:
            raw = {name: value for name, value in msgspec.structs.asdict(params).items() if value is not None}
            result = await command.run(await operators.operator(), raw, call.caller.name, call.request_id)
            return envelope.result_body(command, result)
        except Exception as error:
            raise as_rpc_error(as_api_error(error, call.request_id)) from error

    return handler


def as_rpc_error(error: ApiError) -> RpcError:
    """Return the API's error as a JSON-RPC error, with CloudStack's code in its data."""
    data: dict[str, Any] = {"errorcode": int(error.code), "reason": error.code.name.lower()}
    if error.hint:
        data["hint"] = error.hint
    if error.parameter:
        data["parameter"] = error.parameter
    return RpcError(_RPC_CODES.get(error.code, rpc.REFUSED), error.message, data)
