# SPDX-License-Identifier: Apache-2.0
"""What differs between templates and ISOs in CloudStack's commands."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from systemvm.cli.daemon_client import DaemonClient


@frozen
class TemplateKind:
    """Templates or ISOs, with the names that CloudStack's commands use for them."""

    noun: str
    command_noun: str
    register_command: str
    list_command: str
    delete_command: str
    retry_command: str
    key: str
    filter_name: str

    def rows(self, daemon: DaemonClient, **params: Any) -> list[dict[str, Any]]:
        return daemon.records(self.list_command, self.key, **{self.filter_name: "all"}, **params)

    def find(self, daemon: DaemonClient, name: str) -> dict[str, Any]:
        """Return the template or ISO with this name or id.

        Raises: CommandFailedError when there is none, or more than one.
        """
        return daemon.find(self.list_command, self.key, name, self.noun, **{self.filter_name: "all"})


TEMPLATE = TemplateKind(
    noun="template",
    command_noun="Template",
    register_command="registerTemplate",
    list_command="listTemplates",
    delete_command="deleteTemplate",
    retry_command="retryTemplate",
    key="template",
    filter_name="templatefilter",
)
ISO = TemplateKind(
    noun="ISO",
    command_noun="Iso",
    register_command="registerIso",
    list_command="listIsos",
    delete_command="deleteIso",
    retry_command="retryIso",
    key="iso",
    filter_name="isofilter",
)
