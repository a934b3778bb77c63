# SPDX-License-Identifier: Apache-2.0
"""The template or ISO that a command changes: found by its id, and recorded as changed."""

from __future__ import annotations

from systemvm.management.api.command import ApiCall
from systemvm.management.api.commands.template_list import TemplateCategory
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.state import events, templates
from systemvm.management.state.database import Connection
from systemvm.management.state.templates import Template


def find_own(connection: Connection, call: ApiCall, kind: TemplateCategory, what: str) -> Template:
    """Return the template that a call names, if the caller owns it or is an administrator.

    Raises: ApiError 431 when it is of the other category, 401 for one of another account.
    """
    uuid, principal = call.arguments["id"], call.principal
    template = templates.by_uuid(connection, uuid)
    if not kind.owns(template):
        raise parameter_error("id", f"{uuid} is not {'an ISO' if kind.is_iso else 'a template'}")
    if not principal.may_use(template.account_id):
        noun = "ISO" if kind.is_iso else "template"
        # not its name: that is another account's
        raise unauthorized(f"account {principal.account.name} must not {what} this {noun}", value=uuid)
    return template


def record_update(
    connection: Connection, call: ApiCall, kind: TemplateCategory, template: Template, text: str
) -> None:
    """Record the event of a change."""
    events.record(
        connection,
        f"{kind.noun.upper()}.UPDATE",
        text,
        account_id=template.account_id,
        domain_id=template.domain_id,
        user_id=call.principal.user.id,
        resource_type=kind.noun,
        resource_uuid=template.uuid,
        request_id=call.request_id,
    )
